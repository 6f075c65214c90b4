// Cross-entropy of rows of logits, which need not begin on a multiple of 4
// elements: a vocabulary may be odd.
#include "rows.cuh"

// ABSENT is below every logit but -Inf, and unlike -Inf it can be subtracted from
// itself.
static constexpr float ABSENT = -3.402823466e38f;

// Row is a row of logits: whole chunks [lo, hi) in the count of the array, and
// up to 6 elements before and after them.
struct Row {
  size_t begin, end, lo, hi;
  __device__ __forceinline__ Row(u64 row, int width) {
    begin = (size_t)row * width, end = begin + width;
    lo = (begin + 3) / 4, hi = max(end / 4, lo);
  }
  // edge is the index of the k-th element that is in no whole chunk, or end.
  __device__ __forceinline__ size_t edge(int k) const {
    size_t before = min(lo * 4, end) - begin;
    return k < before ? begin + k : min(max(hi * 4, begin + before) + (k - before), end);
  }
};

// Sum is that of exp(x - top), for the largest logit so far (Milakov and
// Gimelshein, arXiv 1805.02867). NaN in a logit stays in total. __expf is right
// to |x| units in the last place: terms far from the largest, where that shows,
// are small by exp(x).
struct Sum {
  float top = ABSENT, total = 0;
  __device__ __forceinline__ void raise(float t) {
    if (t > top) total *= __expf(top - t), top = t;
  }
  __device__ __forceinline__ void add(float v) { raise(v), total += __expf(v - top); }
  __device__ __forceinline__ void add(chunk<4> c) {
    raise(fmaxf(fmaxf(c.v[0], c.v[1]), fmaxf(c.v[2], c.v[3])));
    total += (__expf(c.v[0] - top) + __expf(c.v[1] - top)) + (__expf(c.v[2] - top) + __expf(c.v[3] - top));
  }
};

// row_total gives every thread of the row the largest logit and the sum of
// exp(x - top). A thread has AHEAD loads under way.
template <int AHEAD> __device__ __forceinline__ Sum row_total(const void *x, const Row &r, bool nx, float *parts) {
  Sum s;
  size_t T = blockDim.x;
  for (size_t c = r.lo + threadIdx.x; c < r.hi; c += AHEAD * T) {
    bits<4> b[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
      if (c + j * T < r.hi) b[j] = fetch<4>(x, (c + j * T) * 4, nx);
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
      if (c + j * T < r.hi) s.add(widen<4>(b[j], nx));
  }
  size_t i = r.edge(threadIdx.x);
  if (i < r.end) s.add(load(x, i, nx));
  Sum all;
  all.top = row_max(s.top, parts);
  all.total = row_sum(s.total * __expf(s.top - all.top), parts);
  return all;
}

// crossentropy: loss = log(sum(exp(x))) - x[target], 0 where target is negative.
//
// Floor: the logits once. 16384 x 50257 in f32: 3.29 GB, 0.69 ms; in bf16 half,
// with 1.25 exponentials an element, for which the special function units take
// 0.29 ms beside it. Threads have 8 loads under way: two blocks of 512 have 64 KiB
// in bf16, and one loads while the other adds up.
extern "C" __global__ void __launch_bounds__(512, 2)
    crossentropy(const void *x, const int *targets, float *loss, u64 rows, int width, u32 narrow, int *failure, int node) {
  __shared__ float parts[33];
  bool nx = narrow & 1;
  for (u64 row = first_row(); row < rows; row += row_step()) {
    int target = targets[row];
    if (target < 0 || target >= width) {
      if (threadIdx.x == 0) {
        loss[row] = 0;
        if (target >= 0) fail(failure, node, target);
      }
      continue;
    }
    Row r(row, width);
    Sum s = row_total<8>(x, r, nx, parts);
    if (threadIdx.x == 0) loss[row] = (s.top - load(x, r.begin + target, nx)) + logf(s.total);
  }
}

// crossentropy_vjp: dx = g * (softmax(x) - onehot(target)), 0 where target is
// negative. dx may be x.
//
// Floor: the logits once and dx, if the second reading of a row finds it in L2,
// of 50 MB: two rows of 100 KB (bf16) a multiprocessor are 27 MB. 16384 x 50257 in
// bf16: 3.3 GB, 0.69 ms; in f32 twice that, and up to half as much again, as twice
// the rows do not stay in L2.
extern "C" __global__ void __launch_bounds__(512, 2)
    crossentropy_vjp(const void *x, const int *targets, const float *g, void *dx, u64 rows, int width, u32 narrow, int *failure, int node) {
  __shared__ float parts[33];
  bool nx = narrow & 1, nd = narrow & 8;
  for (u64 row = first_row(); row < rows; row += row_step()) {
    int target = targets[row];
    Row r(row, width);
    bool none = target < 0 || target >= width;
    if (none && target >= 0 && threadIdx.x == 0) fail(failure, node, target);
    Sum s;
    float by = 0, scale = 0;
    if (!none) s = row_total<4>(x, r, nx, parts), by = g[row], scale = 1 / s.total;
    size_t hit = r.begin + target;
    auto grad = [&](size_t i, float v) { return none ? 0 : by * (__expf(v - s.top) * scale - (i == hit ? 1.0f : 0.0f)); };
    constexpr int AHEAD = 4;
    size_t T = blockDim.x;
    for (size_t c = r.lo + threadIdx.x; c < r.hi; c += AHEAD * T) {
      bits<4> b[AHEAD];
#pragma unroll
      for (int j = 0; j < AHEAD; j++)
        if (c + j * T < r.hi) b[j] = fetch<4>(x, (c + j * T) * 4, nx);
#pragma unroll
      for (int j = 0; j < AHEAD; j++) {
        if (c + j * T >= r.hi) continue;
        chunk<4> v = widen<4>(b[j], nx);
#pragma unroll
        for (int e = 0; e < 4; e++) v.v[e] = grad((c + j * T) * 4 + e, v.v[e]);
        put<4>(dx, (c + j * T) * 4, nd, v);
      }
    }
    size_t i = r.edge(threadIdx.x);
    if (i < r.end) store(dx, i, nd, grad(i, load(x, i, nx)));
  }
}
