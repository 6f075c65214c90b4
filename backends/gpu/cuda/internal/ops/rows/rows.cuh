// What the kernels of this package share: chunks of elements, which threads a
// row has, and sums over rows in a fixed order.
//
// The kernels are bound by memory. Their floors are bytes moved over 4.8 TB/s, the
// bandwidth of an H200 (an H100 has 3.35). By Little's law that takes about 25 KiB
// under way in each of 132 multiprocessors at a latency of 0.7 us: a thread has
// several loads of 16 bytes under way before it waits for the first of them.
#pragma once
#include "tern.cuh"

// Elements move in chunks of V: 4 by one access where rows begin on a multiple of
// 4 elements, else 1.
template <int V> struct chunk {
  float v[V];
};

// bits is a chunk as it lies in memory. It is fetched apart from being widened:
// loads then follow each other, and none waits for the one before.
template <int V> struct bits {
  u32 w[V];
};

template <int V> __device__ __forceinline__ bits<V> fetch(const void *p, size_t at, bool is_16) {
  bits<V> b;
  if constexpr (V == 4) {
    if (is_16) {
      uint2 r = *(const uint2 *)((const u16 *)p + at);
      b.w[0] = r.x, b.w[1] = r.y, b.w[2] = 0, b.w[3] = 0;
    } else {
      uint4 r = *(const uint4 *)((const u32 *)p + at);
      b.w[0] = r.x, b.w[1] = r.y, b.w[2] = r.z, b.w[3] = r.w;
    }
  } else {
    b.w[0] = is_16 ? (u32)((const u16 *)p)[at] : ((const u32 *)p)[at];
  }
  return b;
}

template <int V> __device__ __forceinline__ chunk<V> widen(bits<V> b, bool is_bf16) {
  chunk<V> c;
  if constexpr (V == 4) {
    c.v[0] = bits_to_float(is_bf16 ? b.w[0] << 16 : b.w[0]);
    c.v[1] = bits_to_float(is_bf16 ? b.w[0] & 0xffff0000u : b.w[1]);
    c.v[2] = bits_to_float(is_bf16 ? b.w[1] << 16 : b.w[2]);
    c.v[3] = bits_to_float(is_bf16 ? b.w[1] & 0xffff0000u : b.w[3]);
  } else {
    c.v[0] = bits_to_float(is_bf16 ? b.w[0] << 16 : b.w[0]);
  }
  return c;
}

// widen_half is widen of f16.
template <int V> __device__ __forceinline__ chunk<V> widen_half(bits<V> b) {
  chunk<V> c;
#pragma unroll
  for (int e = 0; e < V; e++) {
    f16 h;
    h.bits = (u16)(b.w[e / 2] >> (e % 2 * 16));
    c.v[e] = widen(h);
  }
  return c;
}

template <int V> __device__ __forceinline__ chunk<V> get(const void *p, size_t at, bool is_bf16) {
  return widen<V>(fetch<V>(p, at, is_bf16), is_bf16);
}

template <int V> __device__ __forceinline__ void put(void *p, size_t at, bool is_bf16, chunk<V> c) {
  if constexpr (V == 4) store4(p, at, is_bf16, make_float4(c.v[0], c.v[1], c.v[2], c.v[3]));
  else store(p, at, is_bf16, c.v[0]);
}

// A row belongs to threads of one threadIdx.y: to a warp, of which a block has
// several, or to all threads of a block. row_sum is the sum over them; parts is
// shared memory for 33 floats.
__device__ __forceinline__ float row_sum(float v, float *parts) { return blockDim.x == 32 ? warp_sum(v) : block_sum(v, parts); }
__device__ __forceinline__ float row_max(float v, float *parts) { return blockDim.x == 32 ? warp_max(v) : block_max(v, parts); }

// first_row and row_step say which rows the threads have.
__device__ __forceinline__ u64 first_row() { return (u64)blockIdx.x * blockDim.y + threadIdx.y; }
__device__ __forceinline__ u64 row_step() { return (u64)gridDim.x * blockDim.y; }

// flat_index and flat_step are those of threads that share one long array.
__device__ __forceinline__ size_t flat_index() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ size_t flat_step() { return (size_t)gridDim.x * blockDim.x; }

// sigmoid adds what expf has multiplied: said so, no compiler makes one operation of
// both in one kernel and two in another.
__device__ __forceinline__ float sigmoid(float x) { return 1 / __fadd_rn(1, expf(-x)); }

// add_warps adds to the chunks of a block's first warp those of the others, one warp
// after another. share is shared memory for a warp's, K * V * 32 floats. All
// threads must call.
template <int V, int K> __device__ __forceinline__ void add_warps(chunk<V> (&acc)[K], float *share) {
  for (int y = 1; y < (int)blockDim.y; y++) {
    __syncthreads();  // of share's last use
    if ((int)threadIdx.y == y) {
#pragma unroll
      for (int k = 0; k < K * V; k++) share[k * 32 + threadIdx.x] = acc[k / V].v[k % V];
    }
    __syncthreads();
    if (threadIdx.y == 0) {
#pragma unroll
      for (int k = 0; k < K * V; k++) acc[k / V].v[k % V] += share[k * 32 + threadIdx.x];
    }
  }
}

// fold adds up parts rows of so many columns: the second stage of a sum that was
// cut over rows. A block of 16 x 32 threads has 16 columns; sums is its shared
// memory. The order is that of the parts modulo 32, whatever the device.
__device__ __forceinline__ void fold(const float *part, float *out, int parts, int columns, float (*sums)[17]) {
  int c = blockIdx.x * 16 + threadIdx.x;
  float sum = 0;
  if (c < columns) {
#pragma unroll 4
    for (int p = threadIdx.y; p < parts; p += 32) sum += part[(size_t)p * columns + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || c >= columns) return;
  for (int y = 1; y < 32; y++) sum += sums[y][threadIdx.x];
  out[c] = sum;
}
