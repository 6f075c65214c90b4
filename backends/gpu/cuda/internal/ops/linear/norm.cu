// y = rmsnorm(x, gain) w^T for few columns K: x [N,C], gain [C], w [K,C]. With r the
// inverse root mean square of a row of x, y = r (x (gain w)^T), so that x is read
// once and no normalized row stands in memory.
#include "tern.cuh"

constexpr int ROWS = 4;  // of a warp: what it reads of w serves all of them

// Rows<T, QUADS> reads rows of C elements four at a time: by one access each, where
// C is a multiple of 4 (QUADS), or else element by element, with zeros beyond C. What
// a loop reads is of one type, not told by a bit, so that its loads are all under way
// before the first is waited for.
template <class T, bool QUADS> struct Rows {
  const T *p;
  int C;
  __device__ __forceinline__ float4 at(size_t row, int i) const {
    const T *x = p + row * C + i;
    if (QUADS) return load4(x, 0, sizeof(T) == 2);
    return make_float4(widen(x[0]), i + 1 < C ? widen(x[1]) : 0, i + 2 < C ? widen(x[2]) : 0, i + 3 < C ? widen(x[3]) : 0);
  }
};

// BY_TYPE calls a function template for the type of x and the length of its rows.
#define BY_TYPE(call, ...)                                       \
  if (C % 4) {                                                   \
    if (narrow) call<bf16, false>(__VA_ARGS__);                  \
    else call<float, false>(__VA_ARGS__);                        \
  } else if (narrow) call<bf16, true>(__VA_ARGS__);              \
  else call<float, true>(__VA_ARGS__);

__device__ __forceinline__ float dot(float4 a, float4 b, float c) { return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, c)))); }
__device__ __forceinline__ float4 mul(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }

// inverse is that of the root of a mean square plus epsilon.
__device__ __forceinline__ float inverse(float squares, int C, float eps) { return 1.0f / sqrtf(squares / C + eps); }

template <class T, bool QUADS>
__device__ __forceinline__ void forward(const void *from, const float *gain, const float *weight, void *y, size_t n0, size_t N, int C, int K, float eps,
                                        int out_narrow) {
  int lane = threadIdx.x & 31;
  Rows<T, QUADS> x = {(const T *)from, C};
  Rows<float, QUADS> gains = {gain, C}, w = {weight, C};
  for (int k0 = 0; k0 < K; k0 += 8) {
    float sum[ROWS][8] = {}, squares[ROWS] = {};
    for (int i = lane * 4; i < C; i += 128) {
      float4 v[ROWS], by = gains.at(0, i);
#pragma unroll
      for (int r = 0; r < ROWS; r++) v[r] = x.at(n0 + r < N ? n0 + r : N - 1, i);
#pragma unroll
      for (int r = 0; r < ROWS; r++) squares[r] = dot(v[r], v[r], squares[r]);
#pragma unroll
      for (int k = 0; k < 8; k++) {
        float4 gained = mul(by, w.at(k0 + k < K ? k0 + k : K - 1, i));
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r][k] = dot(v[r], gained, sum[r][k]);
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float scale = inverse(warp_sum(squares[r]), C, eps);
#pragma unroll
      for (int k = 0; k < 8; k++) {
        float v = warp_sum(sum[r][k]);
        if (lane == 0 && n0 + r < N && k0 + k < K) store(y, (n0 + r) * K + k0 + k, out_narrow, v * scale);
      }
    }
  }
}

// A warp makes 8 columns at a time of 4 rows. Floor: the bytes of x (N = 65536, C =
// 768, bf16: 101 MB, 21 us at 4.8 TB/s); w comes from the first-level cache, K
// words for 4 of x, which for K = 6 takes about as long.
extern "C" __global__ void __launch_bounds__(256, 2) normlinear(const void *x, const float *gain, const float *w, void *y, size_t N, int C, int K, float eps,
                                                             int narrow, int out_narrow) {
  size_t n0 = ((size_t)blockIdx.x * 8 + (threadIdx.x >> 5)) * ROWS;
  if (n0 >= N) return;
  BY_TYPE(forward, x, gain, w, y, n0, N, C, K, eps, out_narrow)
}

// cotangents sets u to g (gain w), elements i to i+3 of some rows. Those of g are
// read by all lanes alike.
template <bool QUADS>
__device__ __forceinline__ void cotangents(float4 u[ROWS], const void *g, int g_narrow, const size_t rows[ROWS], const Rows<float, QUADS> &gains,
                                           const Rows<float, QUADS> &w, int K, int i) {
#pragma unroll
  for (int r = 0; r < ROWS; r++) u[r] = make_float4(0, 0, 0, 0);
#pragma unroll 2
  for (int k = 0; k < K; k++) {
    float4 v = w.at(k, i);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float by = load(g, rows[r] * K + k, g_narrow);
      u[r] = make_float4(fmaf(by, v.x, u[r].x), fmaf(by, v.y, u[r].y), fmaf(by, v.z, u[r].z), fmaf(by, v.w, u[r].w));
    }
  }
  float4 by = gains.at(0, i);
#pragma unroll
  for (int r = 0; r < ROWS; r++) u[r] = mul(u[r], by);
}

template <class T, bool QUADS>
__device__ __forceinline__ void backward(const void *from, const float *gain, const float *weight, const void *g, void *dx, float *rg, size_t n0, size_t N,
                                         int C, int K, float eps, int g_narrow, int out_narrow) {
  int lane = threadIdx.x & 31;
  Rows<T, QUADS> x = {(const T *)from, C};
  Rows<float, QUADS> gains = {gain, C}, w = {weight, C};
  size_t rows[ROWS];
  float squares[ROWS] = {}, along[ROWS] = {}, scale[ROWS];
  float4 u[ROWS], v[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) rows[r] = n0 + r < N ? n0 + r : N - 1;
  for (int i = lane * 4; i < C; i += 128) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = x.at(rows[r], i);
    cotangents(u, g, g_narrow, rows, gains, w, K, i);
#pragma unroll
    for (int r = 0; r < ROWS; r++) squares[r] = dot(v[r], v[r], squares[r]), along[r] = dot(v[r], u[r], along[r]);
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    float sum = warp_sum(squares[r]);
    scale[r] = inverse(sum, C, eps);
    along[r] = warp_sum(along[r]) / (sum + C * eps);
    if (n0 + r < N)
      for (int k = lane; k < K; k += 32) rg[(n0 + r) * K + k] = scale[r] * load(g, (n0 + r) * K + k, g_narrow);
  }
  for (int i = lane * 4; i < C; i += 128) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = x.at(rows[r], i);
    cotangents(u, g, g_narrow, rows, gains, w, K, i);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (n0 + r >= N) continue;
      float d[4] = {scale[r] * fmaf(-along[r], v[r].x, u[r].x), scale[r] * fmaf(-along[r], v[r].y, u[r].y), scale[r] * fmaf(-along[r], v[r].z, u[r].z),
                    scale[r] * fmaf(-along[r], v[r].w, u[r].w)};
      if (QUADS) store4(dx, rows[r] * C + i, out_narrow, make_float4(d[0], d[1], d[2], d[3]));
#pragma unroll
      for (int e = 0; e < 4; e++)
        if (!QUADS && i + e < C) store(dx, rows[r] * C + i + e, out_narrow, d[e]);
    }
  }
}

// The pullback: with u = g (gain w),
//
//	dx = r u - x r^3 sum(x u)/C = r (u - x sum(x u)/(sum(x x) + C eps))
//
// of which the second form rounds less where the two nearly cancel, and rg = r g
// [N,K] for the gradients of gain and w. u is made twice, which costs nothing beside
// x: floor as above, with dx to be written too.
extern "C" __global__ void __launch_bounds__(256) normlinear_dx(const void *x, const float *gain, const float *w, const void *g, void *dx, float *rg,
                                                                size_t N, int C, int K, float eps, int narrow, int g_narrow, int out_narrow) {
  size_t n0 = ((size_t)blockIdx.x * 8 + (threadIdx.x >> 5)) * ROWS;
  if (n0 >= N) return;
  BY_TYPE(backward, x, gain, w, g, dx, rg, n0, N, C, K, eps, g_narrow, out_narrow)
}

template <class T, bool QUADS>
__device__ __forceinline__ void weight_part(const void *from, const float *rg, float *part, size_t s, size_t lo, size_t hi, int C, int K, int i, int k0) {
  Rows<T, QUADS> x = {(const T *)from, C};
  float4 sum[8];
#pragma unroll
  for (int k = 0; k < 8; k++) sum[k] = make_float4(0, 0, 0, 0);
#pragma unroll 4
  for (size_t n = lo; n < hi; n++) {
    float4 v = x.at(n, i);
#pragma unroll
    for (int k = 0; k < 8; k++) {
      float by = k0 + k < K ? rg[n * K + k0 + k] : 0;
      sum[k] = make_float4(fmaf(by, v.x, sum[k].x), fmaf(by, v.y, sum[k].y), fmaf(by, v.z, sum[k].z), fmaf(by, v.w, sum[k].w));
    }
  }
#pragma unroll
  for (int k = 0; k < 8; k++) {
    if (k0 + k >= K) continue;
    float *to = part + (s * K + k0 + k) * C + i;
    to[0] = sum[k].x;
    if (i + 1 < C) to[1] = sum[k].y;
    if (i + 2 < C) to[2] = sum[k].z;
    if (i + 3 < C) to[3] = sum[k].w;
  }
}

// part [S,K,C] gets, for each of S slices of the rows, rg^T x. A block makes 8 of K
// by 256 columns of a slice, a thread 4 columns. The slices are a function of N, so
// that the order of the sum is. Floor: the bytes of x.
extern "C" __global__ void __launch_bounds__(64) normlinear_part(const void *x, const float *rg, float *part, size_t N, int C, int K, int slices, int narrow) {
  size_t across = (C + 255) / 256, blocks = (K + 7) / 8;
  int i = (int)(blockIdx.x % across) * 256 + threadIdx.x * 4, k0 = (int)(blockIdx.x / across % blocks) * 8;
  size_t s = blockIdx.x / (across * blocks), lo = s * N / slices, hi = (s + 1) * N / slices;
  if (i >= C) return;
  BY_TYPE(weight_part, x, rg, part, s, lo, hi, C, K, i, k0)
}

// The first slice of part becomes the sum v of all, element by element.
extern "C" __global__ void __launch_bounds__(128) normlinear_sum(float *part, size_t n, int slices) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = part[i];
#pragma unroll 8
  for (int s = 1; s < slices; s++) v += part[s * n + i];
  part[i] = v;
}

// dw = gain v, dgain = sum over K of w v.
extern "C" __global__ void __launch_bounds__(128) normlinear_dw(const float *v, const float *gain, const float *w, float *dgain, float *dw, int C, int K) {
  size_t c = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= C) return;
  float total = 0;
  for (int k = 0; k < K; k++) {
    size_t i = (size_t)k * C + c;
    total = fmaf(w[i], v[i], total);
    dw[i] = gain[c] * v[i];
  }
  dgain[c] = total;
}
