// What all kernels share. CUDA's own headers are not where only NVRTC is, so
// storage types are defined here. Values are f32 in registers, and stored as
// f32, bf16 or f16.
//
// Everything that is no plain CUDA C++ (PTX, tensor cores) has another form for
// the fake device, which runs each thread of a block as a fiber on the
// processor and defines TERN_FAKE_CUDA.
#pragma once

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct bf16 {
  u16 bits;
};
struct f16 {
  u16 bits;
};

#ifdef TERN_FAKE_CUDA
static inline float bits_to_float(u32 v) { float f; memcpy(&f, &v, 4); return f; }
static inline u32 float_to_bits(float v) { u32 b; memcpy(&b, &v, 4); return b; }
#else
__device__ __forceinline__ float bits_to_float(u32 v) { return __uint_as_float(v); }
__device__ __forceinline__ u32 float_to_bits(float v) { return __float_as_uint(v); }
#endif

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ float widen(bf16 v) { return bits_to_float((u32)v.bits << 16); }

// to_bf16 rounds to nearest, ties to even; NaN stays one, as 0x7fff.
__device__ __forceinline__ bf16 to_bf16(float v) {
  bf16 r;
#ifdef TERN_FAKE_CUDA
  u32 b = float_to_bits(v);
  r.bits = v != v ? (u16)0x7fff : (u16)((b + 0x7fff + (b >> 16 & 1)) >> 16);
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
#endif
  return r;
}

__device__ __forceinline__ float widen(f16 v) {
#ifdef TERN_FAKE_CUDA
  u32 s = (u32)(v.bits & 0x8000) << 16, e = v.bits >> 10 & 31, f = v.bits & 1023;
  if (e == 31) return bits_to_float(s | 0x7f800000 | f << 13);
  if (e) return bits_to_float(s | (e + 112) << 23 | f << 13);
  float m = (float)f * 5.9604644775390625e-8f;  // 2^-24
  return s ? -m : m;
#else
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
  return r;
#endif
}

// to_f16 rounds to nearest, ties to even.
__device__ __forceinline__ f16 to_f16(float v) {
  f16 r;
#ifdef TERN_FAKE_CUDA
  u32 b = float_to_bits(v), s = b >> 16 & 0x8000, a = b & 0x7fffffff;
  if (a > 0x7f800000) r.bits = 0x7fff;
  else if (a >= 0x477ff000) r.bits = s | 0x7c00;
  else if (a >= 0x38800000) r.bits = s | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
  else r.bits = s | (u32)rintf(bits_to_float(a) * 16777216.0f);
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
#endif
  return r;
}

template <class T> __device__ __forceinline__ T narrow(float v);
template <> __device__ __forceinline__ float narrow<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float v) { return to_bf16(v); }
template <> __device__ __forceinline__ f16 narrow<f16>(float v) { return to_f16(v); }

// Arrays that the plan may keep in either width. A kernel that is bound by
// memory takes a void pointer and a bit that says which: the branch is the same
// for all threads, and costs nothing beside the access.
__device__ __forceinline__ float load(const void *p, size_t i, bool is_bf16) {
  return is_bf16 ? widen(((const bf16 *)p)[i]) : ((const float *)p)[i];
}
__device__ __forceinline__ void store(void *p, size_t i, bool is_bf16, float v) {
  if (is_bf16) ((bf16 *)p)[i] = to_bf16(v);
  else ((float *)p)[i] = v;
}

// load4 and store4 move elements i to i+3 by one access; i is a multiple of 4.
__device__ __forceinline__ float4 load4(const void *p, size_t i, bool is_bf16) {
  if (!is_bf16) return *(const float4 *)((const float *)p + i);
  uint2 v = *(const uint2 *)((const bf16 *)p + i);
  return make_float4(bits_to_float(v.x << 16), bits_to_float(v.x & 0xffff0000u), bits_to_float(v.y << 16), bits_to_float(v.y & 0xffff0000u));
}
__device__ __forceinline__ void store4(void *p, size_t i, bool is_bf16, float4 v) {
  if (!is_bf16) {
    *(float4 *)((float *)p + i) = v;
    return;
  }
  uint2 b;
  b.x = (u32)to_bf16(v.x).bits | (u32)to_bf16(v.y).bits << 16;
  b.y = (u32)to_bf16(v.z).bits | (u32)to_bf16(v.w).bits << 16;
  *(uint2 *)((bf16 *)p + i) = b;
}

// Reductions of a whole warp; every lane gets the result, in an order that only
// depends on the lanes.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}
// Of a NaN and a number, warp_max takes the number: fmaxf does.
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int d = 16; d; d >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}

// Reductions of a block of whole warps, at most 1024 threads; every thread gets
// the result. parts is shared memory for 33 floats. All threads must call.
__device__ __forceinline__ float block_sum(float v, float *parts) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warp_sum(v);
  __syncthreads();  // of parts' last use
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = warp_sum(lane < warps ? parts[lane] : 0.0f);
    if (lane == 0) parts[32] = v;
  }
  __syncthreads();
  return parts[32];
}
__device__ __forceinline__ float block_max(float v, float *parts) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warp_max(v);
  __syncthreads();
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = warp_max(lane < warps ? parts[lane] : parts[0]);
    if (lane == 0) parts[32] = v;
  }
  __syncthreads();
  return parts[32];
}

// fail says that node (a number that is not 0) met a value it must not: an index
// out of range. The first one is kept. failure is two words.
__device__ __forceinline__ void fail(int *failure, int node, int value) {
  if (atomicCAS(&failure[0], 0, node) == 0) failure[1] = value;
}

// Tensor cores, by the instructions that every device from compute capability
// 8.0 on has (PTX ISA, mma.m16n8k16 and mma.m16n8k32). Of a warp's lane, with g =
// lane / 4 and t = lane % 4, the accumulators are d[0], d[1]: row g, columns 2t
// and 2t+1; d[2], d[3]: row g+8.
//
// mma_bf16: D[16,8] += A[16,16] B[16,8]. a[0]: row g, columns 2t, 2t+1 (the lower
// half of the word is the first); a[1]: row g+8; a[2], a[3]: the same, 8 columns
// on. b[0]: rows 2t, 2t+1 of column g; b[1]: 8 rows on.
//
// mma_s8: D[16,8] += A[16,32] B[32,8] of int8. a[0]: row g, columns 4t to 4t+3;
// a[1]: row g+8; a[2], a[3]: 16 columns on. b[0]: rows 4t to 4t+3 of column g;
// b[1]: 16 rows on.
#ifdef TERN_FAKE_CUDA
// The lanes give each other their words, two at a time, and each computes what is
// its own: rows g and g+8 of A, columns 2t and 2t+1 of B.
struct mma_words {
  u32 a[4][4], b[2][2][4];  // [register][lane of the row], [column][register][lane of the column]
};
static inline mma_words mma_exchange(const u32 a[4], const u32 b[2]) {
  int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  mma_words w;
  for (int l = 0; l < 4; l++) {
    for (int i = 0; i < 4; i += 2) {
      u64 two = __shfl_sync(0xffffffffu, (u64)a[i + 1] << 32 | a[i], g * 4 + l);
      w.a[i][l] = (u32)two, w.a[i + 1][l] = (u32)(two >> 32);
    }
    for (int j = 0; j < 2; j++) {
      u64 two = __shfl_sync(0xffffffffu, (u64)b[1] << 32 | b[0], (2 * t + j) * 4 + l);
      w.b[j][0][l] = (u32)two, w.b[j][1][l] = (u32)(two >> 32);
    }
  }
  return w;
}
static inline void mma_bf16(float d[4], const u32 a[4], const u32 b[2]) {
  mma_words w = mma_exchange(a, b);
  for (int k = 0; k < 8; k++)
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 2; j++) {
        u32 x = w.a[k < 4 ? i : i + 2][k & 3], y = w.b[j][k >> 2][k & 3];
        d[2 * i + j] += bits_to_float(x << 16) * bits_to_float(y << 16) + bits_to_float(x & 0xffff0000u) * bits_to_float(y & 0xffff0000u);
      }
}
static inline void mma_s8(int d[4], const u32 a[4], const u32 b[2]) {
  mma_words w = mma_exchange(a, b);
  for (int k = 0; k < 8; k++)
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 2; j++) {
        u32 x = w.a[k < 4 ? i : i + 2][k & 3], y = w.b[j][k >> 2][k & 3];
        for (int e = 0; e < 32; e += 8) d[2 * i + j] += (int)(s8)(x >> e) * (int)(s8)(y >> e);
      }
}
static inline int dot4(u32 a, u32 b, int c) {
  for (int e = 0; e < 32; e += 8) c += (int)(s8)(a >> e) * (int)(s8)(b >> e);
  return c;
}
#else
__device__ __forceinline__ void mma_bf16(float d[4], const u32 a[4], const u32 b[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_s8(int d[4], const u32 a[4], const u32 b[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// dot4 is c plus the product of four int8 pairs.
__device__ __forceinline__ int dot4(u32 a, u32 b, int c) { return __dp4a((int)a, (int)b, c); }
#endif

// pack_bf16 makes a word of two values, the first in its lower half.
__device__ __forceinline__ u32 pack_bf16(float lo, float hi) {
#ifdef TERN_FAKE_CUDA
  return (u32)to_bf16(lo).bits | (u32)to_bf16(hi).bits << 16;
#else
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
#endif
}

// copy16 copies 16 bytes from memory to shared memory without waiting;
// copies_commit closes a group of them, copies_wait<N> waits until at most N groups
// are under way.
//
// What they and ldmatrix do to memory is not in the operands of asm, so that "memory"
// keeps the compiler from moving other reads and writes of it across them.
#ifdef TERN_FAKE_CUDA
static inline void copy16(void *shared, const void *global) { *(uint4 *)shared = *(const uint4 *)global; }
static inline void copies_commit() {}
template <int N> static inline void copies_wait() {}
#else
__device__ __forceinline__ void copy16(void *shared, const void *global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(shared)), "l"(global)
               : "memory");
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#endif

// ldmatrix4 loads four 8x8 matrices of 16-bit elements from shared memory: lane l
// gives the address of row l%8 of matrix l/8 (16 bytes), and gets in r[m] the two
// elements 2t, 2t+1 of row g of matrix m (PTX ISA, ldmatrix.x4).
#ifdef TERN_FAKE_CUDA
static inline void ldmatrix4(u32 r[4], const void *row) {
  int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  for (int m = 0; m < 4; m++) {
    u64 from = __shfl_sync(0xffffffffu, (u64)(size_t)row, m * 8 + g);
    r[m] = ((const u32 *)(size_t)from)[t];
  }
}
static inline void ldmatrix4t(u32 r[4], const void *row) {
  int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  for (int m = 0; m < 4; m++) {
    u64 lo = __shfl_sync(0xffffffffu, (u64)(size_t)row, m * 8 + 2 * t), hi = __shfl_sync(0xffffffffu, (u64)(size_t)row, m * 8 + 2 * t + 1);
    r[m] = (u32)((const u16 *)(size_t)lo)[g] | (u32)((const u16 *)(size_t)hi)[g] << 16;
  }
}
#else
__device__ __forceinline__ void ldmatrix4(u32 r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"((u32)__cvta_generic_to_shared(row))
               : "memory");
}
// ldmatrix4t gives each lane the elements of column g, rows 2t and 2t+1, instead.
__device__ __forceinline__ void ldmatrix4t(u32 r[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"((u32)__cvta_generic_to_shared(row))
               : "memory");
}
#endif
