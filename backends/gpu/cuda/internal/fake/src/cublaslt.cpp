// A fake cuBLASLt: matrix products as loops, D = alpha op(A) op(B) + beta C, in
// f32 (f32, bf16 and f16 operands) and in int32 (int8 operands). Memory is
// checked against what the fake driver gave out, and a product is captured as a
// kernel is.
#include <dlfcn.h>
#include <functional>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

template <class To, class From> static To tern_bits(From v) {
  To out;
  memcpy((void *)&out, &v, sizeof out);
  return out;
}
#include "shim/tern_narrow.h"

enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { F32 = 0, F16 = 2, I8 = 3, I32 = 10, BF16 = 14 };

struct Layout {
  uint32_t type;
  int32_t order = 0, batch = 1;
  uint64_t rows, cols;
  int64_t ld, stride = 0;
};

struct Desc {
  int32_t compute, scale, pointer = 0, transa = 0, transb = 0;
  uint32_t epilogue = 1;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t align[4] = {256, 256, 256, 256};  // of A, B, C and D
};

struct Handle {
  int (*enqueue)(void *stream, const std::function<int()> *run);
  bool (*has)(const void *p, size_t n);
};

struct Algo {
  uint64_t data[8];
};

struct Heuristic {
  Algo algo;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

API int cublasLtCreate(Handle **out) {
  Dl_info self;
  dladdr((void *)&cublasLtCreate, &self);
  std::string path = self.dli_fname;
  path = path.substr(0, path.rfind('/') + 1) + "libcuda.so.1";
  void *driver = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (!driver) return NOT_INITIALIZED;
  Handle *h = new Handle;
  *(void **)&h->enqueue = dlsym(driver, "ternFakeEnqueue");
  *(void **)&h->has = dlsym(driver, "ternFakeHas");
  *out = h;
  return SUCCESS;
}

API int cublasLtDestroy(Handle *h) { return delete h, SUCCESS; }

API size_t cublasLtGetVersion() { return 120804; }

API const char *cublasLtGetStatusName(int code) {
  switch (code) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "CUBLAS_STATUS_INTERNAL_ERROR";
}

API int cublasLtMatrixLayoutCreate(Layout **out, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  Layout *l = new Layout;
  l->type = type, l->rows = rows, l->cols = cols, l->ld = ld;
  *out = l;
  return SUCCESS;
}

API int cublasLtMatrixLayoutDestroy(Layout *l) { return delete l, SUCCESS; }

static int put(void *to, size_t size, const void *from, size_t given) {
  if (!from || size != given) return INVALID_VALUE;
  memcpy(to, from, size);
  return SUCCESS;
}

API int cublasLtMatrixLayoutSetAttribute(Layout *l, int attribute, const void *p, size_t n) {
  switch (attribute) {
    case 0: return put(&l->type, 4, p, n);
    case 1: return put(&l->order, 4, p, n);
    case 2: return put(&l->rows, 8, p, n);
    case 3: return put(&l->cols, 8, p, n);
    case 4: return put(&l->ld, 8, p, n);
    case 5: return put(&l->batch, 4, p, n);
    case 6: return put(&l->stride, 8, p, n);
  }
  return INVALID_VALUE;
}

API int cublasLtMatmulDescCreate(Desc **out, int compute, int scale) {
  Desc *d = new Desc;
  d->compute = compute, d->scale = scale;
  *out = d;
  return SUCCESS;
}

API int cublasLtMatmulDescDestroy(Desc *d) { return delete d, SUCCESS; }

API int cublasLtMatmulDescSetAttribute(Desc *d, int attribute, const void *p, size_t n) {
  switch (attribute) {
    case 0: return put(&d->compute, 4, p, n);
    case 1: return put(&d->scale, 4, p, n);
    case 2: return put(&d->pointer, 4, p, n);
    case 3: return put(&d->transa, 4, p, n);
    case 4: return put(&d->transb, 4, p, n);
    case 7: return put(&d->epilogue, 4, p, n);
  }
  return INVALID_VALUE;
}

API int cublasLtMatmulPreferenceCreate(Preference **out) { return *out = new Preference, SUCCESS; }

API int cublasLtMatmulPreferenceDestroy(Preference *p) { return delete p, SUCCESS; }

API int cublasLtMatmulPreferenceSetAttribute(Preference *p, int attribute, const void *v, size_t n) {
  uint32_t ignored;
  if (attribute == 1) return put(&p->workspace, 8, v, n);
  if (attribute >= 5 && attribute <= 8) return put(&p->align[attribute - 5], 4, v, n);
  return attribute >= 0 && attribute <= 12 ? put(&ignored, 4, v, n) : INVALID_VALUE;
}

static size_t bytes(uint32_t type) { return type == I8 ? 1 : type == BF16 || type == F16 ? 2 : 4; }

static bool sound(const Layout &l) { return (l.order == 0 || l.order == 1) && l.batch > 0 && l.rows && l.cols && (uint64_t)l.ld >= (l.order ? l.cols : l.rows); }

// Which types go together is cuBLASLt's table, as far as it is needed here.
static bool types(const Desc &d, const Layout &a, const Layout &b, const Layout &c, const Layout &o) {
  if (a.type != b.type || c.type != o.type) return false;
  bool real = d.compute == 68 || d.compute == 69 || d.compute == 75 || d.compute == 77;
  if (real) return d.scale == F32 && (a.type == F32 ? o.type == F32 : (a.type == BF16 || a.type == F16) && (o.type == a.type || o.type == F32));
  return (d.compute == 72 || d.compute == 73) && d.scale == I32 && a.type == I8 && o.type == I32;
}

static int supported(const Desc &d, const Layout &a, const Layout &b, const Layout &c, const Layout &o) {
  uint64_t m = d.transa ? a.cols : a.rows, k = d.transa ? a.rows : a.cols, kb = d.transb ? b.cols : b.rows, n = d.transb ? b.rows : b.cols;
  if (!sound(a) || !sound(b) || !sound(c) || !sound(o) || k != kb || o.rows != m || o.cols != n || c.rows != m || c.cols != n) return INVALID_VALUE;
  if (a.batch != o.batch || b.batch != o.batch || c.batch != o.batch || d.pointer) return INVALID_VALUE;
  return types(d, a, b, c, o) && d.epilogue == 1 ? SUCCESS : NOT_SUPPORTED;
}

API int cublasLtMatmulAlgoGetHeuristic(Handle *h, Desc *d, Layout *a, Layout *b, Layout *c, Layout *o, Preference *p, int asked, Heuristic *out, int *n) {
  *n = 0;
  if (!h || !p || asked < 1) return INVALID_VALUE;
  if (int e = supported(*d, *a, *b, *c, *o)) return e;
  memset(out, 0, sizeof *out);
  out->algo.data[0] = 0x7465726e;
  for (int i = 0; i < 4; i++) out->algo.data[1 + i] = p->align[i];
  *n = 1;
  return SUCCESS;
}

static size_t index(const Layout &l, uint64_t r, uint64_t c) { return l.order ? r * l.ld + c : c * l.ld + r; }

static size_t extent(const Layout &l) { return bytes(l.type) * ((size_t)(l.batch - 1) * l.stride + index(l, l.rows - 1, l.cols - 1) + 1); }

static float get(const Layout &l, const void *p, size_t i) {
  switch (l.type) {
    case F32: return ((const float *)p)[i];
    case BF16: return tern_widen(((const unsigned short *)p)[i], 8, 7);
    case F16: return tern_widen(((const unsigned short *)p)[i], 5, 10);
    case I8: return ((const signed char *)p)[i];
  }
  return ((const int32_t *)p)[i];
}

static void set(const Layout &l, void *p, size_t i, float v) {
  if (l.type == F32) ((float *)p)[i] = v;
  else if (l.type == BF16) ((unsigned short *)p)[i] = tern_narrow(v, 8, 7);
  else ((unsigned short *)p)[i] = tern_narrow(v, 5, 10);
}

struct Product {
  Desc d;
  Layout a, b, c, o;
  const void *pa, *pb, *pc;
  void *po;
  float alpha = 0, beta = 0;
  int32_t ialpha = 0, ibeta = 0;

  // gather copies an operand, so that what a sum runs over follows each other.
  template <class T> static std::vector<T> gather(const Layout &l, const void *p, int batch, bool by_column, uint64_t n, uint64_t k) {
    std::vector<T> out(n * k);
    for (uint64_t i = 0; i < n; i++)
      for (uint64_t x = 0; x < k; x++) out[i * k + x] = (T)get(l, p, batch * l.stride + (by_column ? index(l, x, i) : index(l, i, x)));
    return out;
  }

  // multiply makes the results of one of the batch; sums are of T: f32, as a
  // device's, or int32.
  template <class T> void multiply(int batch) const {
    uint64_t k = d.transa ? a.rows : a.cols;
    std::vector<T> x = gather<T>(a, pa, batch, d.transa, o.rows, k), y = gather<T>(b, pb, batch, !d.transb, o.cols, k);
    for (uint64_t i = 0; i < o.rows; i++)
      for (uint64_t j = 0; j < o.cols; j++) {
        T sum = 0;
        for (uint64_t e = 0; e < k; e++) sum += x[i * k + e] * y[j * k + e];
        element(batch, i, j, sum);
      }
  }

  void element(int batch, uint64_t i, uint64_t j, float sum) const {
    size_t ic = batch * c.stride + index(c, i, j), io = batch * o.stride + index(o, i, j);
    set(o, po, io, alpha * sum + (beta ? beta * (float)get(c, pc, ic) : 0));
  }
  void element(int batch, uint64_t i, uint64_t j, int32_t sum) const {
    size_t ic = batch * c.stride + index(c, i, j), io = batch * o.stride + index(o, i, j);
    ((int32_t *)po)[io] = ialpha * sum + (ibeta ? ibeta * ((const int32_t *)pc)[ic] : 0);
  }
};

API int cublasLtMatmul(Handle *h, Desc *d, const void *alpha, const void *A, Layout *a, const void *B, Layout *b, const void *beta, const void *C,
                       Layout *c, void *D, Layout *o, const Algo *algo, void *workspace, size_t space, void *stream) {
  if (!h || !d || !alpha || !beta) return INVALID_VALUE;
  if (int e = supported(*d, *a, *b, *c, *o)) return e;
  if (algo && algo->data[0] != 0x7465726e) return INVALID_VALUE;
  const void *all[] = {A, B, C, D};
  for (int i = 0; algo && i < 4; i++)  // an algorithm loads as much at a time as it was told that it may
    if (!algo->data[1 + i] || (uintptr_t)all[i] % algo->data[1 + i]) return INVALID_VALUE;
  Product p{*d, *a, *b, *c, *o, A, B, C, D};
  if (a->type == I8) p.ialpha = *(const int32_t *)alpha, p.ibeta = *(const int32_t *)beta;
  else p.alpha = *(const float *)alpha, p.beta = *(const float *)beta;
  std::function<int()> run = [=] {
    bool ok = h->has(A, extent(p.a)) && h->has(B, extent(p.b)) && h->has(D, extent(p.o)) && (!(p.beta || p.ibeta) || h->has(C, extent(p.c)));
    if (!ok || (space && !h->has(workspace, space))) return 700;
    for (int z = 0; z < p.o.batch; z++) {
      if (p.a.type == I8) p.multiply<int32_t>(z);
      else p.multiply<float>(z);
    }
    return 0;
  };
  return h->enqueue(stream, &run) ? EXECUTION_FAILED : SUCCESS;
}
