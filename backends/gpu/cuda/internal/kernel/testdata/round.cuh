// Rounding to bf16 without CUDA's headers, which need not be where NVRTC is.
#pragma once

__device__ __forceinline__ unsigned short to_bf16(float v) {
  unsigned bits = __float_as_uint(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;       // to nearest, ties to even
}
