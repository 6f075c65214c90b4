// The part of CUDA's cuda_fp16.h that kernels here may use.
#pragma once
#include "tern_narrow.h"

TERN_NARROW(__half, __half2, 5, 10)
typedef __half half;
typedef __half2 half2;

static inline __half __float2half(float v) { return __half(v); }
static inline __half __float2half_rn(float v) { return __half(v); }
static inline float __half2float(__half v) { return v; }
static inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
static inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
static inline float2 __half22float2(__half2 v) { return {(float)v.x, (float)v.y}; }
static inline unsigned short __half_as_ushort(__half v) { return v.bits; }
static inline __half __ushort_as_half(unsigned short v) { return tern_bits<__half>(v); }
