// Codes of 1, 2 or 4 bits stand for the int8 levels of a book, low bits of a byte
// first; codes of 8 bits are the levels themselves, but for -128, which is none
// and stands for 0, as do codes that a book lacks.
#pragma once
#include "tern.cuh"

// Book is the levels of codes 0 to 15, a byte each.
struct Book {
  u32 words[4];
};

// Weight is what stands for f32 [M,K]: codes, in rows of whole bytes, and for each
// group of columns a scale. scale_row is the number of scales from one row to the
// next, 0 where all rows share one.
struct Weight {
  const u8 *codes;
  const float *scales;
  int M, K, group, scale_row;
  Book book;
};

// WEIGHT declares the parameters of a kernel that takes a weight, weight_of makes
// it of them.
#define WEIGHT const u8 *codes, const float *scales, int M, int K, int group, int scale_row, u32 book0, u32 book1, u32 book2, u32 book3
#define weight_of \
  Weight { codes, scales, M, K, group, scale_row, Book { { book0, book1, book2, book3 } } }

// level looks a code up. Indexing the words instead would put them in memory.
__device__ __forceinline__ int level(const Book &b, int code) {
  u32 lo = __byte_perm(b.words[0], b.words[1], code & 7), hi = __byte_perm(b.words[2], b.words[3], code & 7);
  return (int)(s8)(code & 8 ? hi : lo);
}

// level_at is the level of column k of a row of codes.
__device__ __forceinline__ int level_at(const Book &b, const u8 *row, int bits, size_t k) {
  if (bits == 8) {
    int v = (int)(s8)row[k];
    return v == -128 ? 0 : v;
  }
  size_t bit = k * bits;
  return level(b, row[bit >> 3] >> (bit & 7) & ((1 << bits) - 1));
}

// Packed is 32 codes. Where K is a multiple of 32 they are aligned to their size,
// so that a lane reads them by one access (two of 8 bits).
template <int WIDTH> struct Packed {
  u32 words[WIDTH];
};
__device__ __forceinline__ void load_packed(Packed<1> &p, const u8 *at) { p.words[0] = *(const u32 *)at; }
__device__ __forceinline__ void load_packed(Packed<2> &p, const u8 *at) {
  uint2 v = *(const uint2 *)at;
  p.words[0] = v.x, p.words[1] = v.y;
}
__device__ __forceinline__ void load_packed(Packed<4> &p, const u8 *at) {
  uint4 v = *(const uint4 *)at;
  p.words[0] = v.x, p.words[1] = v.y, p.words[2] = v.z, p.words[3] = v.w;
}
__device__ __forceinline__ void load_packed(Packed<8> &p, const u8 *at) {
  uint4 v = ((const uint4 *)at)[0], w = ((const uint4 *)at)[1];
  p.words[0] = v.x, p.words[1] = v.y, p.words[2] = v.z, p.words[3] = v.w;
  p.words[4] = w.x, p.words[5] = w.y, p.words[6] = w.z, p.words[7] = w.w;
}

// prefetch asks for the 128 bytes around an address, which are read later.
__device__ __forceinline__ void prefetch(const void *p) {
#ifndef TERN_FAKE_CUDA
  asm volatile("prefetch.global.L1 [%0];" ::"l"(p));
#endif
}

// unpack gives the levels of 32 codes in order, four a word. The byte permutation
// looks four codes up at once: its selector holds an index in each 4 bits.
__device__ __forceinline__ void unpack(u32 out[8], const Packed<1> &p, const Book &b) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    u32 n = p.words[0] >> (4 * i) & 15;
    out[i] = __byte_perm(b.words[0], 0, (n | n << 3 | n << 6 | n << 9) & 0x1111);
  }
}
__device__ __forceinline__ void unpack(u32 out[8], const Packed<2> &p, const Book &b) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    // Indices of the even and of the odd codes, 4 bits each.
    u32 even = p.words[i] & 0x33333333, odd = p.words[i] >> 2 & 0x33333333;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      u32 e = __byte_perm(b.words[0], 0, even >> (16 * h) & 0xffff), o = __byte_perm(b.words[0], 0, odd >> (16 * h) & 0xffff);
      out[4 * i + 2 * h] = __byte_perm(e, o, 0x5140);
      out[4 * i + 2 * h + 1] = __byte_perm(e, o, 0x7362);
    }
  }
}
__device__ __forceinline__ void unpack(u32 out[8], const Packed<4> &p, const Book &b) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    // Levels 0 to 7 and 8 to 15 by the lower 3 bits, of which the upper one picks.
    u32 s = p.words[i / 2] >> (16 * (i & 1)) & 0xffff;
    u32 lo = __byte_perm(b.words[0], b.words[1], s & 0x7777), hi = __byte_perm(b.words[2], b.words[3], s & 0x7777);
    out[i] = __byte_perm(lo, hi, 0x3210 | (s & 0x8888) >> 1);
  }
}
__device__ __forceinline__ void unpack(u32 out[8], const Packed<8> &p, const Book &) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    // The upper bit of each byte of is says that it is not 0x80.
    u32 v = p.words[i], t = v ^ 0x80808080u, is = (((t & 0x7f7f7f7fu) + 0x7f7f7f7fu) | t) & 0x80808080u;
    out[i] = v & (is >> 7) * 255u;
  }
}

// Rows of x are quantized to int8 by their largest magnitude, as the expansion of
// the op int8 says: s = max(absmax, 1e-8)/127, q = clamp(round(x/s), -127, 127).
__device__ __forceinline__ float activation_scale(float top) { return __fmul_rn(fmaxf(top, 1e-8f), 1.0f / 127); }
__device__ __forceinline__ float quantized(float v, float s) { return fmaxf(-127.0f, fminf(127.0f, rintf(__fdiv_rn(v, s)))); }

// Magnitude is the largest of some numbers, and whether all of them are finite.
struct Magnitude {
  float top;
  bool finite;
  __device__ __forceinline__ void see(float v) {
    v = fabsf(v);
    top = fmaxf(top, v);
    finite = finite && v <= 3.402823466e38f;
  }
  __device__ __forceinline__ void see(float4 v) { see(v.x), see(v.y), see(v.z), see(v.w); }
  // scale is that of a row of which each thread of a block has seen a part, NaN if
  // the row is not finite.
  __device__ __forceinline__ float scale(float *parts) {
    bool all = __syncthreads_and(finite);
    float s = activation_scale(block_max(top, parts));
    return all ? s : bits_to_float(0x7fc00000);
  }
};

__device__ __forceinline__ float4 quantized(float4 v, float s) {
  return make_float4(quantized(v.x, s), quantized(v.y, s), quantized(v.z, s), quantized(v.w, s));
}

// quantize_row gives put the K numbers of x by a whole block, as whole numbers times
// a scale, and zeros from K up to Kp (both multiples of 4, or put is called for one at
// a time). A row that the threads hold in four times four registers is read once.
template <class T, class Put> __device__ __forceinline__ void quantize_row(const T *x, int K, int Kp, float *parts, Put put) {
  const int step = 4 * blockDim.x, from = 4 * threadIdx.x;
  const bool narrow = sizeof(T) == 2;
  const float4 zero = make_float4(0, 0, 0, 0);
  Magnitude m = {0, true};
  if (K % 4 == 0 && K <= 4 * step) {
    float4 v[4];
#pragma unroll
    for (int u = 0; u < 4; u++) v[u] = from + u * step < K ? load4(x, from + u * step, narrow) : zero;
#pragma unroll
    for (int u = 0; u < 4; u++) m.see(v[u]);
    float s = m.scale(parts);
#pragma unroll
    for (int u = 0; u < 4; u++)
      if (from + u * step < Kp) put(from + u * step, quantized(v[u], s), s);
  } else if (K % 4 == 0) {
    for (int i = from; i < K; i += step) m.see(load4(x, i, narrow));
    float s = m.scale(parts);
    for (int i = from; i < Kp; i += step) put(i, quantized(i < K ? load4(x, i, narrow) : zero, s), s);
  } else {
    for (int i = threadIdx.x; i < K; i += blockDim.x) m.see(widen(x[i]));
    float s = m.scale(parts);
    for (int i = threadIdx.x; i < Kp; i += blockDim.x) put(i, quantized(i < K ? widen(x[i]) : 0.0f, s), s);
  }
}

// Int8Row puts a row as int8, and its scale. What is put of a row that is not finite
// means nothing: its scale makes NaN of all that comes of it.
struct Int8Row {
  s8 *to;
  float *unit;
  __device__ __forceinline__ void operator()(int i, float4 q, float s) const {
    u32 x = (u32)(int)q.x & 255, y = (u32)(int)q.y & 255, z = (u32)(int)q.z & 255, w = (u32)(int)q.w & 255;
    *(u32 *)(to + i) = x | y << 8 | z << 16 | w << 24;
    if (i == 0) *unit = s;
  }
  __device__ __forceinline__ void operator()(int i, float q, float s) const {
    to[i] = (s8)(int)q;
    if (i == 0) *unit = s;
  }
};

// quantize_int8 makes int8 of row n of x, f32 or bf16.
__device__ __forceinline__ void quantize_int8(const void *x, size_t n, int K, int Kp, int narrow, s8 *to, float *unit, float *parts) {
  Int8Row put = {to, unit};
  if (narrow) quantize_row((const bf16 *)x + n * K, K, Kp, parts, put);
  else quantize_row((const float *)x + n * K, K, Kp, parts, put);
}

// divided is i / by and, in rest, i % by. Most counts fit in 32 bits, where a device
// divides several times faster.
__device__ __forceinline__ size_t divided(size_t i, u32 by, u32 *rest) {
  if (i >> 32) {
    *rest = (u32)(i % by);
    return i / by;
  }
  u32 q = (u32)i / by;
  *rest = (u32)i - q * by;
  return q;
}
