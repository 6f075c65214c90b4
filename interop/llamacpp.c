/* Holds a GGUF file against llama.cpp, whose prebuilt libraries it opens at run
 * time. It is an outside check: no part of tern needs it.
 *
 *   llamacpp LIBS perplexity      MODEL WINDOWS WINDOW < ids
 *   llamacpp LIBS perplexity-text MODEL WINDOWS WINDOW < text
 *   llamacpp LIBS generate        MODEL N              < text
 *   llamacpp LIBS tokenize        MODEL                < text
 *   llamacpp LIBS quantize        IN OUT TYPE [pure]
 *   llamacpp LIBS bench           MODEL PROMPT_TOKENS GENERATED_TOKENS THREADS [ROUNDS]
 *
 * ids are numbers in text. Window i is ids i*(WINDOW+1) to i*(WINDOW+1)+WINDOW,
 * all but the last as inputs and all but the first as targets, each window
 * from an empty cache: the windows of `tern eval`. generate feeds the text, begun
 * as the file says, and prints it and the N likeliest tokens that follow, one
 * after the other, as `tern generate --temperature 0` does. perplexity-text and
 * tokenize take the text as it is, with no token before it and none that only
 * its spelling names. quantize writes IN with its matrices in TYPE; without pure
 * some tensors get another type of llama.cpp's choice. bench feeds random ids:
 * first_token_seconds is from the opening of the file to the logits of the first,
 * cold prompt; then ROUNDS (5) times the prompt in an empty cache and, after it,
 * GENERATED_TOKENS one by one, of which it prints the medians. Only what is needed
 * of llama.cpp's interface (include/llama.h) is declared here; structures that
 * are passed by value are blobs, of which only the first fields are set.
 */
#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTEXT 1024
#define LONGEST 8192 /* tokens of a prompt and what follows it, in bench */
#define ROUNDS 99

/* At least as large as theirs. */
typedef struct { uint32_t n_ctx, n_batch, n_ubatch; char rest[1012]; } params;
typedef struct {
	int32_t nthread, ftype, output_type, embedding_type;
	_Bool allow_requantize, quantize_output, only_copy, pure;
	char rest[1004];
} quantize_params;
typedef struct { char all[2048]; } pool_params;
typedef struct {
	int32_t n_tokens;
	int32_t *token;
	float *embd;
	int32_t *pos, *n_seq_id;
	int32_t **seq_id;
	int8_t *logits;
} batch;

static void *libs[2];

static void fail(const char *what, const char *why) {
	fprintf(stderr, "llamacpp: %s: %s\n", what, why);
	exit(1);
}

static void *open_lib(const char *dir, const char *pattern) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", dir, pattern);
	glob_t g;
	if (glob(path, 0, NULL, &g) != 0) fail(path, "no such library");
	void *h = dlopen(g.gl_pathv[0], RTLD_NOW | RTLD_GLOBAL);
	if (!h) fail(g.gl_pathv[0], dlerror());
	globfree(&g);
	return h;
}

static void *sym(const char *name) {
	for (int i = 0; i < 2; i++) {
		void *p = dlsym(libs[i], name);
		if (p) return p;
	}
	fail(name, "not in the libraries");
	return NULL;
}

#define CALL(name, type) ((type)sym(name))

/* quiet passes errors on, and what goes on after one (enum ggml_log_level). */
static void quiet(int level, const char *text, void *data) {
	static int last;
	(void)data;
	if (level != 5) last = level;
	if (last == 4) fputs(text, stderr);
}

static void *model, *ctx;
static int vocab;

static void open_libs(const char *dir) {
	libs[0] = open_lib(dir, "libggml.v*.so");
	libs[1] = open_lib(dir, "libllama.v*.so");
	CALL("llama_log_set", void (*)(void (*)(int, const char *, void *), void *))(quiet, NULL);
	CALL("ggml_backend_load_all_from_path", void (*)(const char *))(dir);
}

/* open_model opens a model and a context of that many tokens, of which it
 * computes with ubatch at once; 0 leaves that to llama.cpp. */
static void open_model(const char *path, int context, int ubatch, int threads) {
	params p = CALL("llama_model_default_params", params (*)(void))();
	model = CALL("llama_model_load_from_file", void *(*)(const char *, params))(path, p);
	if (!model) fail(path, "llama.cpp does not load it");
	p = CALL("llama_context_default_params", params (*)(void))();
	p.n_ctx = p.n_batch = context;
	if (ubatch) p.n_ubatch = ubatch;
	ctx = CALL("llama_init_from_model", void *(*)(void *, params))(model, p);
	if (!ctx) fail(path, "no context");
	CALL("llama_set_n_threads", void (*)(void *, int32_t, int32_t))(ctx, threads, threads);
	void *v = CALL("llama_model_get_vocab", void *(*)(void *))(model);
	vocab = CALL("llama_vocab_n_tokens", int32_t (*)(void *))(v);
}

static batch new_batch(int tokens) {
	return CALL("llama_batch_init", batch (*)(int32_t, int32_t, int32_t))(tokens, 0, 1);
}

/* feed decodes ids from position at on and returns the logits of all of them, or
 * of the last one. */
static float *feed(batch *b, const int32_t *ids, int n, int at, _Bool all) {
	b->n_tokens = n;
	for (int i = 0; i < n; i++) {
		if (ids[i] < 0 || ids[i] >= vocab) fail("id", "outside the vocabulary");
		b->token[i] = ids[i];
		b->pos[i] = at + i;
		b->n_seq_id[i] = 1;
		b->seq_id[i][0] = 0;
		b->logits[i] = all || i == n - 1;
	}
	if (CALL("llama_decode", int32_t (*)(void *, batch))(ctx, *b) != 0) fail("llama_decode", "failed");
	return CALL("llama_get_logits", float *(*)(void *))(ctx);
}

static void clear(void) {
	void *m = CALL("llama_get_memory", void *(*)(void *))(ctx);
	CALL("llama_memory_clear", void (*)(void *, _Bool))(m, 1);
}

static double nll(const float *logits, int target) {
	double top = -INFINITY, sum = 0;
	if (target < 0 || target >= vocab) fail("id", "outside the vocabulary");
	for (int i = 0; i < vocab; i++) top = fmax(top, logits[i]);
	for (int i = 0; i < vocab; i++) sum += exp(logits[i] - top);
	return log(sum) + top - logits[target];
}

static int32_t *read_ids(int most, int *n) {
	int32_t *ids = calloc(most, sizeof *ids);
	for (*n = 0; *n < most && scanf("%d", &ids[*n]) == 1; ++*n) {}
	return ids;
}

static void perplexity(const int32_t *ids, int n, int windows, int window) {
	if (n < windows * (window + 1)) fail("stdin", "fewer ids than the windows take");
	batch b = new_batch(window);
	double sum = 0;
	for (int w = 0; w < windows; w++) {
		const int32_t *in = ids + w * (window + 1);
		clear();
		const float *logits = feed(&b, in, window, 0, 1);
		for (int i = 0; i < window; i++) sum += nll(logits + (size_t)i * vocab, in[i + 1]);
	}
	double loss = sum / windows / window;
	printf("{\"ids\": %d, \"windows\": %d, \"tokens\": %d, \"loss\": %.9f, \"perplexity\": %.9f}\n", n, windows, windows * window, loss, exp(loss));
}

static char text[1 << 20];
static int32_t text_ids[1 << 20];

/* tokenize sets text to stdin and text_ids to its ids. */
static int tokenize(_Bool begin) {
	int32_t len = (int32_t)fread(text, 1, sizeof text - 1, stdin);
	if (fgetc(stdin) != EOF) fail("stdin", "too much text");
	void *v = CALL("llama_model_get_vocab", void *(*)(void *))(model);
	int n = CALL("llama_tokenize", int32_t (*)(void *, const char *, int32_t, int32_t *, int32_t, _Bool, _Bool))(v, text, len, text_ids, 1 << 20, begin, 0);
	if (n <= 0) fail("stdin", "no text, or too much");
	return n;
}

static void generate(int count) {
	batch b = new_batch(CONTEXT);
	int n = tokenize(1), at = 0;
	if (count < 1 || n + count > CONTEXT) fail("stdin", "too long");
	void *v = CALL("llama_model_get_vocab", void *(*)(void *))(model);
	fputs(text, stdout);
	int32_t *in = text_ids, next = 0;
	for (int i = 0; i < count; i++) {
		const float *logits = feed(&b, in, n, at, 0);
		at += n;
		next = 0;
		for (int k = 1; k < vocab; k++) if (logits[k] > logits[next]) next = k;
		if (CALL("llama_vocab_is_eog", _Bool (*)(void *, int32_t))(v, next)) break;
		char piece[256];
		int len = CALL("llama_token_to_piece", int32_t (*)(void *, int32_t, char *, int32_t, int32_t, _Bool))(v, next, piece, sizeof piece, 0, 0);
		fwrite(piece, 1, len > 0 ? len : 0, stdout);
		in = &next;
		n = 1;
	}
	printf("\n");
}

/* names are the types of quantize by their numbers (enum llama_ftype). */
static const struct { const char *name; int ftype; } names[] = {
	{"f32", 0}, {"f16", 1}, {"bf16", 32}, {"q4_0", 2}, {"q4_1", 3}, {"q5_0", 8}, {"q5_1", 9}, {"q8_0", 7},
	{"q4_k", 15}, {"q4_k_s", 14}, {"q5_k", 17}, {"q6_k", 18}, {"tq1_0", 36}, {"tq2_0", 37}, {"q2_0", 41},
};

static void quantize(const char *in, const char *out, const char *type, _Bool pure) {
	quantize_params p = CALL("llama_model_quantize_default_params", quantize_params (*)(void))();
	if (p.allow_requantize || !p.quantize_output || p.only_copy || p.pure) fail("llama_model_quantize_params", "laid out otherwise than here");
	p.nthread = 2;
	p.ftype = -1;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) if (!strcmp(type, names[i].name)) p.ftype = names[i].ftype;
	if (p.ftype < 0) fail(type, "no known type");
	p.allow_requantize = 1;
	p.pure = pure;
	if (CALL("llama_model_quantize", uint32_t (*)(const char *, const char *, const quantize_params *))(in, out, &p) != 0) fail(in, "llama.cpp does not quantize it");
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *x, int n) {
	qsort(x, n, sizeof *x, ascending);
	return (x[(n - 1) / 2] + x[n / 2]) / 2;
}

/* keep_threads lets threads wait for the next token instead of starting them
 * for each, as llama.cpp's own programs do. */
static void keep_threads(int threads) {
	void *reg = CALL("ggml_backend_reg_by_name", void *(*)(const char *))("CPU");
	void *make = CALL("ggml_backend_reg_get_proc_address", void *(*)(void *, const char *))(reg, "ggml_threadpool_new");
	if (!make) fail("ggml_threadpool_new", "not in the libraries");
	pool_params p = CALL("ggml_threadpool_params_default", pool_params (*)(int))(threads);
	void *pool = ((void *(*)(pool_params *))make)(&p);
	CALL("llama_attach_threadpool", void (*)(void *, void *, void *))(ctx, pool, pool);
}

static void bench(const char *path, int prompt, int generated, int threads, int rounds) {
	static int32_t ids[LONGEST];
	static double prompts[ROUNDS], tokens[ROUNDS];
	double start = now();
	open_model(path, prompt + generated, 0, threads);
	keep_threads(threads);
	batch b = new_batch(prompt);
	double opened = now() - start;
	for (int i = 0; i < prompt + generated; i++) ids[i] = rand() % vocab;
	feed(&b, ids, prompt, 0, 0);
	double first = now() - start;
	for (int r = 0; r < rounds; r++) {
		clear();
		double t = now();
		feed(&b, ids, prompt, 0, 0);
		prompts[r] = prompt / (now() - t);
		t = now();
		for (int i = prompt; i < prompt + generated; i++) feed(&b, ids + i, 1, i, 0);
		tokens[r] = generated / (now() - t);
	}
	printf("{\"prompt_tokens\": %d, \"generated_tokens\": %d, \"threads\": %d, \"rounds\": %d, \"open_seconds\": %.3f, \"first_token_seconds\": %.3f, "
	       "\"prompt_tokens_per_second\": %.2f, \"generated_tokens_per_second\": %.2f}\n",
	       prompt, generated, threads, rounds, opened, first, median(prompts, rounds), median(tokens, rounds));
}

/* number is an argument from 1 to most. */
static int number(const char *arg, int most) {
	char *end;
	long n = strtol(arg, &end, 10);
	if (*end || n < 1 || n > most) fail(arg, "no number, or out of range");
	return (int)n;
}

int main(int argc, char **argv) {
	if (argc < 4) fail("usage", "llamacpp LIBS perplexity|perplexity-text|generate|tokenize|quantize|bench MODEL [...]");
	const char *mode = argv[2], *path = argv[3];
	open_libs(argv[1]);
	if (!strcmp(mode, "quantize") && (argc == 6 || (argc == 7 && !strcmp(argv[6], "pure")))) {
		quantize(path, argv[4], argv[5], argc == 7);
		return 0;
	}
	if (!strcmp(mode, "bench") && (argc == 7 || argc == 8)) {
		int prompt = number(argv[4], LONGEST / 2), generated = number(argv[5], LONGEST / 2);
		bench(path, prompt, generated, number(argv[6], 512), argc == 8 ? number(argv[7], ROUNDS) : 5);
		return 0;
	}
	open_model(path, CONTEXT, CONTEXT, 2);
	_Bool from_text = !strcmp(mode, "perplexity-text");
	if ((from_text || !strcmp(mode, "perplexity")) && argc == 6) {
		int windows = number(argv[4], 100000), window = number(argv[5], CONTEXT), n;
		int32_t *ids = text_ids;
		if (from_text) n = tokenize(0);
		else ids = read_ids(windows * (window + 1), &n);
		perplexity(ids, n, windows, window);
	} else if (!strcmp(mode, "generate") && argc == 5) generate(number(argv[4], CONTEXT));
	else if (!strcmp(mode, "tokenize") && argc == 4) {
		int n = tokenize(0);
		for (int i = 0; i < n; i++) printf("%d\n", text_ids[i]);
	} else fail("usage", "unknown mode or wrong number of arguments");
	return 0;
}
