// Rows of int8 and their units, a block each: of all that row.cuh makes rows of, and of
// streams that are written and read at once.
//
// Floor: what is read and written once. 256 rows of 768 read from 2 streams in f32: 1.6
// MB, 0.3 us; with the streams written before, 4 MB, 0.8 us: the launch is what is seen.
#include "row.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) joined_rows(ROWS, s8 *q, float *unit, int K, int Kp) {
  extern __shared__ __align__(16) char shared[];
  __shared__ float parts[33];
  size_t n = blockIdx.x;
  Rows in = rows_of;
  quantize(in, ReadRow{in}, n, K, Kp, (float *)shared, q + n * Kp, unit + n, parts);
}

// Written reads a row from streams after it has written them: s'_i = sum_j h_ij s_j +
// post_i y, the sum from the stream itself on and round, as streamwrite has it. The new
// streams may lie over the old ones. Bits of narrow: the streams, y, the new streams.
template <int S> struct Written {
  const void *s, *y;
  const float *h, *post, *pre;
  void *out;
  int hstep, pstep, step;
  u32 narrow;
  template <class Keep> __device__ __forceinline__ void operator()(size_t n, int K, const Keep &keep) const {
    float m[S * S], p[S], r[S];
#pragma unroll
    for (int k = 0; k < S * S; k++) m[k] = h[n * hstep + k];
#pragma unroll
    for (int i = 0; i < S; i++) p[i] = post[n * pstep + i], r[i] = pre[n * step + i];
    for (int c = 4 * threadIdx.x; c < K; c += 4 * THREADS) {
      float x[S][4], sum[4];
      put(load4(y, n * K + c, narrow & 2), sum);
#pragma unroll
      for (int j = 0; j < S; j++) put(load4(s, (n * S + j) * K + c, narrow & 1), x[j]);
      float4 all;
#pragma unroll
      for (int i = 0; i < S; i++) {
        float z[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
          z[e] = m[i * S + i] * x[i][e];
#pragma unroll
          for (int u = 1; u < S; u++) z[e] = fmaf(m[i * S + (i + u) % S], x[(i + u) % S][e], z[e]);
          z[e] = fmaf(p[i], sum[e], z[e]);
        }
        float4 v = make_float4(z[0], z[1], z[2], z[3]);
        store4(out, (n * S + i) * K + c, narrow & 4, v);
        all = i ? make_float4(fmaf(r[i], v.x, all.x), fmaf(r[i], v.y, all.y), fmaf(r[i], v.z, all.z), fmaf(r[i], v.w, all.w))
                : make_float4(r[0] * v.x, r[0] * v.y, r[0] * v.z, r[0] * v.w);
      }
      keep(c, all);
    }
  }
  __device__ __forceinline__ static void put(float4 v, float *to) { to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w; }
};

#define WRITTEN(S)                                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(THREADS)                                                                                                     \
      joined_written_##S(const void *s, const void *y, const float *h, const float *post, const float *pre, const float *gain, void *out, s8 *q, float *unit, \
                         int hstep, int pstep, int step, float eps, u32 narrow, int K, int Kp) {                                                            \
    extern __shared__ __align__(16) char shared[];                                                                                                          \
    __shared__ float parts[33];                                                                                                                             \
    size_t n = blockIdx.x;                                                                                                                                  \
    Rows in = {ROWS_READ, s, pre, gain, 0, 0, S, step, eps, 0, 0, 0};                                                                                       \
    Written<S> streams = {s, y, h, post, pre, out, hstep, pstep, step, narrow};                                                                             \
    quantize(in, streams, n, K, Kp, (float *)shared, q + n * Kp, unit + n, parts);                                                                          \
  }

WRITTEN(1)
WRITTEN(2)
WRITTEN(4)
WRITTEN(8)
