// Rounding of floats to narrow formats, to nearest and ties to even (IEEE 754).
#pragma once

// tern_narrow rounds to a format of that many bits of exponent and fraction.
static inline unsigned short tern_narrow(float v, int exponent, int fraction) {
  unsigned bits = tern_bits<unsigned>(v), sign = bits >> 31 << (exponent + fraction);
  unsigned infinite = ((1u << exponent) - 1) << fraction;
  if (v != v) return sign | infinite | 1u << (fraction - 1);
  double a = fabs((double)v);
  int bias = (1 << (exponent - 1)) - 1, e;
  if (a == 0) return sign;
  frexp(a, &e);
  e -= 1;                                   // a = 1.f * 2^e
  if (e < 1 - bias) e = 1 - bias;           // subnormal
  double steps = nearbyint(ldexp(a, fraction - e));
  double value = ldexp(steps, e - fraction);
  if (value >= ldexp(1, bias + 1)) return sign | infinite;
  frexp(value, &e);
  e -= 1;
  if (value == 0) return sign;
  if (e < 1 - bias) return sign | (unsigned)ldexp(value, bias - 1 + fraction);
  return sign | (unsigned)(e + bias) << fraction | ((unsigned)ldexp(value, fraction - e) & ((1u << fraction) - 1));
}

static inline float tern_widen(unsigned short bits, int exponent, int fraction) {
  int bias = (1 << (exponent - 1)) - 1, e = bits >> fraction & ((1 << exponent) - 1), f = bits & ((1 << fraction) - 1);
  float v;
  if (e == (1 << exponent) - 1) v = f ? __builtin_nanf("") : __builtin_inff();
  else if (e == 0) v = (float)ldexp(f, 1 - bias - fraction);
  else v = (float)ldexp(f + (1 << fraction), e - bias - fraction);
  return bits >> (exponent + fraction) ? -v : v;
}

// TERN_NARROW defines a type of 16 bits and a pair of it as CUDA's headers do.
#define TERN_NARROW(T, T2, exponent, fraction)                                                     \
  struct __attribute__((aligned(2))) T {                                                           \
    unsigned short bits;                                                                           \
    T() = default;                                                                                 \
    T(float v) : bits(tern_narrow(v, exponent, fraction)) {}                                       \
    operator float() const { return tern_widen(bits, exponent, fraction); }                        \
  };                                                                                               \
  struct __attribute__((aligned(4))) T2 { T x, y; };                                               \
  static inline T operator+(T a, T b) { return T((float)a + (float)b); }                           \
  static inline T operator-(T a, T b) { return T((float)a - (float)b); }                           \
  static inline T operator*(T a, T b) { return T((float)a * (float)b); }                           \
  static inline T operator/(T a, T b) { return T((float)a / (float)b); }                           \
  static inline T __hadd(T a, T b) { return a + b; }                                               \
  static inline T __hsub(T a, T b) { return a - b; }                                               \
  static inline T __hmul(T a, T b) { return a * b; }                                               \
  static inline T __hfma(T a, T b, T c) { return T((float)((double)(float)a * (float)b + (float)c)); } \
  static inline T2 __hadd2(T2 a, T2 b) { return {a.x + b.x, a.y + b.y}; }                          \
  static inline T2 __hmul2(T2 a, T2 b) { return {a.x * b.x, a.y * b.y}; }                          \
  static inline float __low2float(T2 v) { return v.x; }                                            \
  static inline float __high2float(T2 v) { return v.y; }
