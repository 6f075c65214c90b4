// What chains are computed by, whether their kernels were made for them or they
// are run by the interpreter: both do the same operations in the same order, so
// that their results are equal to the bit.
#pragma once
#include "tern.cuh"

#define QUAD 4
#define BLOCK 256
#define EACH _Pragma("unroll") for (int l = 0; l < QUAD; l++)

// Elementwise operations that CUDA has under no name. Of a NaN and a number,
// larger and smaller take the NaN.
__device__ __forceinline__ float logistic(float x) { return 1.0f / __fadd_rn(1.0f, expf(-x)); }
__device__ __forceinline__ float quotient(float x, float y) { return x / y; }
__device__ __forceinline__ float larger(float x, float y) { return x != x ? x : y != y ? y : fmaxf(x, y); }
__device__ __forceinline__ float smaller(float x, float y) { return x != x ? x : y != y ? y : fminf(x, y); }
__device__ __forceinline__ bool less(float x, float y) { return x < y; }
__device__ __forceinline__ bool equal(float x, float y) { return x == y; }
__device__ __forceinline__ float through_f16(float x) { return widen(to_f16(x)); }
__device__ __forceinline__ float through_bf16(float x) { return widen(to_bf16(x)); }
__device__ __forceinline__ float from_int(float x) { return (float)(int)float_to_bits(x); }

// Elements in memory. A register holds an int as its bits, all else as a float.
__device__ __forceinline__ float get(const float *p, size_t i) { return p[i]; }
__device__ __forceinline__ float get(const bf16 *p, size_t i) { return widen(p[i]); }
__device__ __forceinline__ float get(const f16 *p, size_t i) { return widen(p[i]); }
__device__ __forceinline__ float get(const int *p, size_t i) { return bits_to_float((u32)p[i]); }
__device__ __forceinline__ float get(const u8 *p, size_t i) { return (float)p[i]; }
__device__ __forceinline__ float get(const s8 *p, size_t i) { return (float)p[i]; }
__device__ __forceinline__ void put(float *p, size_t i, float v) { p[i] = v; }
__device__ __forceinline__ void put(bf16 *p, size_t i, float v) { p[i] = to_bf16(v); }
__device__ __forceinline__ void put(f16 *p, size_t i, float v) { p[i] = to_f16(v); }
__device__ __forceinline__ void put(int *p, size_t i, float v) { p[i] = (int)float_to_bits(v); }
__device__ __forceinline__ void put(u8 *p, size_t i, float v) { p[i] = (u8)v; }
__device__ __forceinline__ void put(s8 *p, size_t i, float v) { p[i] = (s8)v; }

// Four elements at once, from a multiple of four on.
__device__ __forceinline__ void get4(const float *p, size_t i, float *v) {
  float4 q = load4(p, i, false);
  v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}
__device__ __forceinline__ void get4(const bf16 *p, size_t i, float *v) {
  float4 q = load4(p, i, true);
  v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}
__device__ __forceinline__ void put4(float *p, size_t i, const float *v) { store4(p, i, false, make_float4(v[0], v[1], v[2], v[3])); }
__device__ __forceinline__ void put4(bf16 *p, size_t i, const float *v) { store4(p, i, true, make_float4(v[0], v[1], v[2], v[3])); }

__device__ __forceinline__ float combine(float x, float y, bool max) { return max ? larger(x, y) : __fadd_rn(x, y); }

// A Reduction is what a thread has of a row, or of four rows: for each of its four
// lanes a sum of sums of 32 elements, which keeps the error of a float sum of any
// length below that of a few hundred terms.
struct Reduction {
  float whole[QUAD], part[QUAD];
};
__device__ __forceinline__ void start(Reduction &r, bool max) {
  EACH r.whole[l] = max ? bits_to_float(0xff800000u) : 0.0f, r.part[l] = 0.0f;
}
__device__ __forceinline__ void take(Reduction &r, int l, float v, bool max) {
  if (max) r.whole[l] = larger(r.whole[l], v);
  else r.part[l] = __fadd_rn(r.part[l], v);
}
__device__ __forceinline__ void settle(Reduction &r, bool max) {
  if (max) return;
  EACH r.whole[l] = __fadd_rn(r.whole[l], r.part[l]), r.part[l] = 0.0f;
}
__device__ __forceinline__ float lanes(const Reduction &r, bool max) {
  return combine(combine(r.whole[0], r.whole[1], max), combine(r.whole[2], r.whole[3], max), max);
}

// across combines the values of a group of 1, 32 or 256 threads, in the order of a
// tree, for each of them. shared has a float for each warp of the block; all threads
// of a group of 256, which is the block, must call.
__device__ __forceinline__ float across(float v, bool max, int group, float *shared) {
  if (group == 1) return v;
#pragma unroll
  for (int d = 16; d; d >>= 1) v = combine(v, __shfl_xor_sync(0xffffffffu, v, d), max);
  if (group == 32) return v;
  __syncthreads();  // of the last use of shared
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;
  __syncthreads();
  v = shared[threadIdx.x & (BLOCK / 32 - 1)];
#pragma unroll
  for (int d = BLOCK / 64; d; d >>= 1) v = combine(v, __shfl_xor_sync(0xffffffffu, v, d), max);
  return v;
}

// finished combines the parts of a row, by a warp.
__device__ __forceinline__ float finished(const float *parts, size_t count, bool max) {
  float v = max ? bits_to_float(0xff800000u) : 0.0f;
  for (size_t p = threadIdx.x & 31; p < count; p += 32) v = combine(v, parts[p], max);
  return across(v, max, 32, nullptr);
}
