// How rotary embeddings turn a pair, for all kernels that do: which multiply-adds
// there are is said, so that they have the same bits.
#pragma once
#include "tern.cuh"

// sincos_turn is sine and cosine of an angle in units of 2^-64 of a turn.
__device__ __forceinline__ void sincos_turn(u64 angle, float *s, float *c) {
  float half = (float)(int)(angle >> 32) * 4.656612873077392578125e-10f;  // 2^-31: half turns, -1 to 1
#ifdef TERN_FAKE_CUDA
  *s = (float)sin(3.14159265358979323846 * half), *c = (float)cos(3.14159265358979323846 * half);
#else
  sincospif(half, s, c);
#endif
}

// turned is (x + iy)(c + is).
__device__ __forceinline__ float2 turned(float x, float y, float s, float c) {
  return make_float2(fmaf(x, c, -__fmul_rn(y, s)), fmaf(x, s, __fmul_rn(y, c)));
}
