// Device functions that C has under no name, or another. The fast ones are
// computed exactly: results differ from a device's by what their manual allows.
#pragma once

template <class To, class From> static inline To tern_bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "sizes");
  To out;
  memcpy((void *)&out, &v, sizeof out);
  return out;
}

static inline int __float_as_int(float v) { return tern_bits<int>(v); }
static inline unsigned __float_as_uint(float v) { return tern_bits<unsigned>(v); }
static inline float __int_as_float(int v) { return tern_bits<float>(v); }
static inline float __uint_as_float(unsigned v) { return tern_bits<float>(v); }
static inline long long __double_as_longlong(double v) { return tern_bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return tern_bits<double>(v); }

static inline float rsqrtf(float x) { return (float)(1 / sqrt((double)x)); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float tern_expf(float x) { return (float)exp((double)x); }
static inline float tern_logf(float x) { return (float)log((double)x); }
static inline float tern_log2f(float x) { return (float)log2((double)x); }
static inline float tern_log10f(float x) { return (float)log10((double)x); }
static inline float tern_powf(float x, float y) { return (float)pow((double)x, (double)y); }
static inline float tern_sinf(float x) { return (float)sin((double)x); }
static inline float tern_cosf(float x) { return (float)cos((double)x); }
static inline float tern_tanf(float x) { return (float)tan((double)x); }
static inline void tern_sincosf(float x, float *s, float *c) { *s = tern_sinf(x), *c = tern_cosf(x); }
static inline float tern_exp10f(float x) { return (float)pow(10.0, (double)x); }
// The C library has functions of its own by these names.
#define __expf tern_expf
#define __logf tern_logf
#define __log2f tern_log2f
#define __log10f tern_log10f
#define __powf tern_powf
#define __sinf tern_sinf
#define __cosf tern_cosf
#define __tanf tern_tanf
#define __sincosf tern_sincosf
#define __exp10f tern_exp10f
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __saturatef(float x) { return x > 1 ? 1 : x > 0 ? x : 0; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline int __float2int_ru(float x) { return (int)ceilf(x); }
static inline unsigned __float2uint_rn(float x) { return (unsigned)rintf(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }

template <class T, class U> static inline typename std::common_type<T, U>::type min(T a, U b) { return b < a ? b : a; }
template <class T, class U> static inline typename std::common_type<T, U>::type max(T a, U b) { return a < b ? b : a; }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(unsigned long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
  return r;
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
  unsigned long long both = (unsigned long long)y << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) {
    unsigned pick = s >> (4 * i) & 0xf, byte = (unsigned)(both >> (8 * (pick & 7))) & 0xff;
    if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
    r |= byte << (8 * i);
  }
  return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s) { return s & 31 ? hi << (s & 31) | lo >> (32 - (s & 31)) : hi; }
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) { return s & 31 ? lo >> (s & 31) | hi << (32 - (s & 31)) : lo; }

// Four products of bytes, added to c.
static inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += (int)(signed char)(a >> (8 * i)) * (signed char)(b >> (8 * i));
  return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; i++) c += (a >> (8 * i) & 0xff) * (b >> (8 * i) & 0xff);
  return c;
}

template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
template <class T> static inline void __stcg(T *p, T v) { *p = v; }
