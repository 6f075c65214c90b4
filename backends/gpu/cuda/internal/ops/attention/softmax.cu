// Softmax over the last axis and its pullback, a warp or a block a row.
//
// Rows are read three times, from the caches after the first; results may lie over
// x, since a thread reads an element last when it writes it. What is not a number
// makes the sum, and so the row, not a number; so does an infinity above 0, and a
// row of infinities below.
//
// Floor on an H200 (4.8 TB/s): x read and the result written once, 8 bytes an
// element in f32 and 4 in bf16, the pullback half as much again; 16384 rows of 4096
// in bf16 are 268 MB or 56 us. Rows that fit in a multiprocessor's cache should
// reach 70%.
#include "tern.cuh"

// Rows are handled by a warp, or by all of a block of more.
template <bool WARP> __device__ __forceinline__ float row_sum(float v, float *parts) {
  if constexpr (WARP) return warp_sum(v);
  else return block_sum(v, parts);
}
template <bool WARP> __device__ __forceinline__ float row_max(float v, float *parts) {
  if constexpr (WARP) return warp_max(v);
  else return block_max(v, parts);
}

// Four elements of a row from i on, or one where V is 1.
template <int V> struct Some {
  float x[V];
};
template <int V> __device__ __forceinline__ Some<V> get(const void *p, size_t i, bool is_bf16) {
  if constexpr (V == 1) return {load(p, i, is_bf16)};
  else {
    float4 v = load4(p, i, is_bf16);
    return {v.x, v.y, v.z, v.w};
  }
}
template <int V> __device__ __forceinline__ void put(void *p, size_t i, bool is_bf16, const Some<V> &s) {
  if constexpr (V == 1) store(p, i, is_bf16, s.x[0]);
  else store4(p, i, is_bf16, make_float4(s.x[0], s.x[1], s.x[2], s.x[3]));
}

// softmax_row computes exp(x - max x) / sum where g is null, and else the pullback
// p (g - sum of p g), with p the softmax. narrow: bit 0 is x, bit 1 g, bit 2 the
// result.
template <bool WARP, int V>
__device__ __forceinline__ void softmax_row(const void *x, const void *g, void *out, u64 rows, u64 width, u32 narrow) {
  extern __shared__ float softmax_parts[];
  u64 row = WARP ? (u64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32 : blockIdx.x;
  if (row >= rows) return;
  u64 first = row * width, end = first + width, step = V * (WARP ? 32 : blockDim.x);
  u64 from = first + V * (WARP ? threadIdx.x & 31 : threadIdx.x);
  float top = bits_to_float(0xff800000u), sum = 0, mean = 0;
  for (u64 i = from; i < end; i += step) {
    Some<V> a = get<V>(x, i, narrow & 1);
#pragma unroll
    for (int e = 0; e < V; e++) top = fmaxf(top, a.x[e]);
  }
  top = row_max<WARP>(top, softmax_parts);
  for (u64 i = from; i < end; i += step) {
    Some<V> a = get<V>(x, i, narrow & 1), b = {};
    if (g) b = get<V>(g, i, narrow & 2);
#pragma unroll
    for (int e = 0; e < V; e++) {
      float p = expf(a.x[e] - top);
      sum += p;
      mean = fmaf(p, b.x[e], mean);
    }
  }
  sum = row_sum<WARP>(sum, softmax_parts);
  if (g) mean = row_sum<WARP>(mean, softmax_parts) / sum;
  for (u64 i = from; i < end; i += step) {
    Some<V> a = get<V>(x, i, narrow & 1), b = {};
    if (g) b = get<V>(g, i, narrow & 2);
#pragma unroll
    for (int e = 0; e < V; e++) {
      float p = expf(a.x[e] - top) / sum;
      a.x[e] = g ? p * (b.x[e] - mean) : p;
    }
    put<V>(out, i, narrow & 4, a);
  }
}

#define SOFTMAX(name, WARP, V)                                                                                          \
  extern "C" __global__ void __launch_bounds__(256) name(const void *x, const void *g, void *out, u64 rows, u64 width, \
                                                         u32 narrow) {                                                  \
    softmax_row<WARP, V>(x, g, out, rows, width, narrow);                                                               \
  }
SOFTMAX(softmax_warp_1, true, 1)
SOFTMAX(softmax_warp_4, true, 4)
SOFTMAX(softmax_block_1, false, 1)
SOFTMAX(softmax_block_4, false, 4)
