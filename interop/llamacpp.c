/* Holds a GGUF file against llama.cpp, whose prebuilt libraries it opens at run
 * time. It is an outside check: no part of tern needs it.
 *
 *   llamacpp LIBS perplexity MODEL WINDOWS WINDOW < ids
 *   llamacpp LIBS generate   MODEL N              < text
 *   llamacpp LIBS tokenize   MODEL                < text
 *
 * ids are numbers in text. Window i is ids i*(WINDOW+1) to i*(WINDOW+1)+WINDOW,
 * all but the last as inputs and all but the first as targets, each window
 * from an empty cache: the windows of `tern eval`. generate feeds the text, begun
 * as the file says, and prints it and the N likeliest tokens that follow, one
 * after the other, as `tern generate --temperature 0` does. Only what is needed
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

#define CONTEXT 1024

typedef struct { uint32_t n_ctx, n_batch, n_ubatch; char rest[1012]; } params; /* at least as large as theirs */
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

static void quiet(int level, const char *text, void *data) {
	(void)data;
	if (level >= 4) fputs(text, stderr); /* GGML_LOG_LEVEL_ERROR */
}

static void *model, *ctx;
static int vocab;

static void open_model(const char *dir, const char *path) {
	libs[0] = open_lib(dir, "libggml.v*.so");
	libs[1] = open_lib(dir, "libllama.v*.so");
	CALL("llama_log_set", void (*)(void (*)(int, const char *, void *), void *))(quiet, NULL);
	CALL("ggml_backend_load_all_from_path", void (*)(const char *))(dir);
	params p = CALL("llama_model_default_params", params (*)(void))();
	model = CALL("llama_model_load_from_file", void *(*)(const char *, params))(path, p);
	if (!model) fail(path, "llama.cpp does not load it");
	p = CALL("llama_context_default_params", params (*)(void))();
	p.n_ctx = p.n_batch = p.n_ubatch = CONTEXT;
	ctx = CALL("llama_init_from_model", void *(*)(void *, params))(model, p);
	if (!ctx) fail(path, "no context");
	CALL("llama_set_n_threads", void (*)(void *, int32_t, int32_t))(ctx, 2, 2);
	void *v = CALL("llama_model_get_vocab", void *(*)(void *))(model);
	vocab = CALL("llama_vocab_n_tokens", int32_t (*)(void *))(v);
}

/* feed decodes ids from position at on and returns the logits of all of them. */
static float *feed(batch *b, const int32_t *ids, int n, int at) {
	b->n_tokens = n;
	for (int i = 0; i < n; i++) {
		if (ids[i] < 0 || ids[i] >= vocab) fail("id", "outside the vocabulary");
		b->token[i] = ids[i];
		b->pos[i] = at + i;
		b->n_seq_id[i] = 1;
		b->seq_id[i][0] = 0;
		b->logits[i] = 1;
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

static void perplexity(batch *b, int windows, int window) {
	int n, want = windows * (window + 1);
	int32_t *ids = read_ids(want, &n);
	if (n < want) fail("stdin", "fewer ids than the windows take");
	double sum = 0;
	for (int w = 0; w < windows; w++) {
		const int32_t *in = ids + w * (window + 1);
		clear();
		const float *logits = feed(b, in, window, 0);
		for (int i = 0; i < window; i++) sum += nll(logits + (size_t)i * vocab, in[i + 1]);
	}
	double loss = sum / windows / window;
	printf("{\"windows\": %d, \"tokens\": %d, \"loss\": %.9f, \"perplexity\": %.9f}\n", windows, windows * window, loss, exp(loss));
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

static void generate(batch *b, int count) {
	int n = tokenize(1), at = 0;
	if (count < 1 || n + count > CONTEXT) fail("stdin", "too long");
	void *v = CALL("llama_model_get_vocab", void *(*)(void *))(model);
	fputs(text, stdout);
	int32_t *in = text_ids, next = 0;
	for (int i = 0; i < count; i++) {
		const float *logits = feed(b, in, n, at) + (size_t)(n - 1) * vocab;
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

int main(int argc, char **argv) {
	if (argc < 4) fail("usage", "llamacpp LIBS perplexity|generate|tokenize MODEL [...]");
	open_model(argv[1], argv[3]);
	batch b = CALL("llama_batch_init", batch (*)(int32_t, int32_t, int32_t))(CONTEXT, 0, 1);
	if (!strcmp(argv[2], "perplexity") && argc == 6) {
		int windows = atoi(argv[4]), window = atoi(argv[5]);
		if (windows < 1 || windows > 100000 || window < 1 || window > CONTEXT) fail("usage", "windows or window out of range");
		perplexity(&b, windows, window);
	} else if (!strcmp(argv[2], "generate") && argc == 5) generate(&b, atoi(argv[4]));
	else if (!strcmp(argv[2], "tokenize")) {
		int n = tokenize(0);
		for (int i = 0; i < n; i++) printf("%d\n", text_ids[i]);
	}
	else fail("usage", "unknown mode or wrong number of arguments");
	return 0;
}
