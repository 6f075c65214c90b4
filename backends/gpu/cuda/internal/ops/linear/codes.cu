// What surrounds products: activations and weights from one form to another, and
// the packing of codes. All of it is bound by memory; the floor of each kernel is
// the bytes it reads and writes, at 4.8 TB/s on an H200.
#include "codes.cuh"

// Row n of x [N,K] as int8 in q [N,Kp], and its scale in unit. One block a row. Floor:
// 5 bytes an element of f32, 3 of bf16 (N = 65536, K = 2048, bf16: 84 us).
extern "C" __global__ void __launch_bounds__(256) linear_quantize(const void *x, s8 *q, float *unit, int K, int Kp, int narrow) {
  __shared__ float parts[33];
  size_t n = blockIdx.x;
  quantize_int8(x, n, K, Kp, narrow, q + n * Kp, unit + n, parts);
}

// FloatRow puts what a row of int8 stands for.
struct FloatRow {
  void *to;
  size_t at;
  int narrow;
  __device__ __forceinline__ void operator()(int i, float4 q, float s) const { store4(to, at + i, narrow, make_float4(q.x * s, q.y * s, q.z * s, q.w * s)); }
  __device__ __forceinline__ void operator()(int i, float q, float s) const { store(to, at + i, narrow, q * s); }
};

// The same as f32 or bf16: q*s.
extern "C" __global__ void __launch_bounds__(256) linear_fake_quantize(const void *x, void *out, int K, int narrow, int out_narrow) {
  __shared__ float parts[33];
  size_t at = (size_t)blockIdx.x * K;
  FloatRow put = {out, at, out_narrow};
  if (narrow) quantize_row((const bf16 *)x + at, K, K, parts, put);
  else quantize_row((const float *)x + at, K, K, parts, put);
}

// The same from int8 rows q [N,Kp] and their scales: out [N,K]. A thread makes eight
// columns. Floor: 3 bytes an element of bf16 (N = 16384, K = 2048: 101 MB, 21 us), 5
// of f32, by accesses of 8 and 16 bytes.
extern "C" __global__ void __launch_bounds__(256) linear_rows(const s8 *q, const float *unit, void *out, int N, int K, int Kp, int narrow) {
  u32 part;
  size_t n = divided((size_t)blockIdx.x * blockDim.x + threadIdx.x, ((u32)K + 7) / 8, &part);
  if (n >= N) return;
  int k = part * 8;
  float s = unit[n], v[8];
  uint2 codes = *(const uint2 *)(q + n * Kp + k);
#pragma unroll
  for (int e = 0; e < 8; e++) v[e] = (float)(s8)((e < 4 ? codes.x : codes.y) >> (e % 4 * 8)) * s;
  size_t at = n * K + k;
  if (K % 8) {
    for (int e = 0; e < 8 && k + e < K; e++) store(out, at + e, narrow, v[e]);
  } else if (narrow) {
    *(uint4 *)((bf16 *)out + at) = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
  } else {
    store4(out, at, false, make_float4(v[0], v[1], v[2], v[3]));
    store4(out, at + 4, false, make_float4(v[4], v[5], v[6], v[7]));
  }
}

// Level times scale of a weight, f32 or bf16 [M,K]. A thread makes eight columns.
// Floor: the bytes written, [50257,768] in bf16: 77 MB, 16 us; its instructions,
// about 15 a column, take as long.
extern "C" __global__ void __launch_bounds__(256) linear_dequantize(WEIGHT, int bits, void *out, int narrow) {
  Weight w = weight_of;
  u32 per_row = ((u32)w.K + 7) / 8, part;
  size_t m = divided((size_t)blockIdx.x * blockDim.x + threadIdx.x, per_row, &part);
  if (m >= w.M) return;
  int k = part * 8;
  const u8 *row = w.codes + m * (((size_t)w.K * bits + 7) / 8);
  const float *scale = w.scales + m * w.scale_row;
  float v[8] = {};
  if (w.group % 8 == 0) {
    float s = scale[k / w.group];
#pragma unroll
    for (int e = 0; e < 8; e++) v[e] = (float)level_at(w.book, row, bits, k + e) * s;
  } else {
    for (int e = 0; e < 8 && k + e < w.K; e++) v[e] = (float)level_at(w.book, row, bits, k + e) * scale[(k + e) / w.group];
  }
  if (w.K % 8 == 0) {
    store4(out, m * w.K + k, narrow, make_float4(v[0], v[1], v[2], v[3]));
    store4(out, m * w.K + k + 4, narrow, make_float4(v[4], v[5], v[6], v[7]));
    return;
  }
  for (int e = 0; e < 8 && k + e < w.K; e++) store(out, m * w.K + k + e, narrow, v[e]);
}

// The gradient of the scales: part [M,G] gets, for each group of columns of d
// [M,K], the sum of its products by the levels. A warp sums a group.
extern "C" __global__ void __launch_bounds__(256) linear_scale_grad(WEIGHT, int bits, const float *d, float *part) {
  Weight w = weight_of;
  size_t G = w.K / w.group, i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  if (i >= G * w.M) return;
  size_t m = i / G, k0 = i % G * w.group;
  const u8 *row = w.codes + m * (((size_t)w.K * bits + 7) / 8);
  float sum = 0;
  for (int k = threadIdx.x & 31; k < w.group; k += 32) sum = fmaf(d[m * w.K + k0 + k], (float)level_at(w.book, row, bits, k0 + k), sum);
  sum = warp_sum(sum);
  if ((threadIdx.x & 31) == 0) part[i] = sum;
}

// out[0] is the sum of x [n], by one block.
extern "C" __global__ void __launch_bounds__(256) linear_sum(const float *x, float *out, size_t n) {
  __shared__ float parts[33];
  float sum = 0;
  for (size_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  sum = block_sum(sum, parts);
  if (threadIdx.x == 0) out[0] = sum;
}

// n numbers of one type (0 f32, 1 bf16, 2 f16) as f32 or bf16.
extern "C" __global__ void __launch_bounds__(256) linear_convert(const void *x, void *out, size_t n, int type, int narrow) {
  size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (i >= n) return;
  if (i + 4 <= n && type < 2) {
    store4(out, i, narrow, load4(x, i, type));
    return;
  }
  for (size_t e = i; e < i + 4 && e < n; e++) store(out, e, narrow, type == 2 ? widen(((const f16 *)x)[e]) : load(x, e, type));
}

// nearest is the code of the level nearest to v, the first of equally near ones,
// 0 for NaN. Distances are those of float64: then ties are ties.
__device__ __forceinline__ u32 nearest(const Book &b, int levels, float v) {
  u32 best = 0;
  double distance = (double)bits_to_float(0x7f800000);
  for (int i = 0; i < levels; i++) {
    double d = fabs((double)v - level(b, i));
    if (d < distance) best = i, distance = d;
  }
  return best;
}

// Codes of x [rows,K], in rows of whole bytes: a thread makes a byte.
extern "C" __global__ void __launch_bounds__(256) linear_encode(const float *x, u8 *out, size_t rows, int K, int bits, int levels,
                                                                     u32 book0, u32 book1, u32 book2, u32 book3) {
  Book b = {{book0, book1, book2, book3}};
  size_t bytes = ((size_t)K * bits + 7) / 8, i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= rows * bytes) return;
  u32 per = 8 / bits, at, packed = 0;
  size_t row = divided(i, bytes, &at), k = (size_t)at * per;
  for (u32 e = 0; e < per && k + e < K; e++) packed |= nearest(b, levels, x[row * K + k + e]) << (e * bits);
  out[i] = (u8)packed;
}

// The integers of -127 to 127 nearest to x, the lower of equally near ones, -127
// for NaN.
extern "C" __global__ void __launch_bounds__(256) linear_encode8(const float *x, s8 *out, size_t n) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  double v = x[i];
  out[i] = v > -127 ? (s8)(int)fmin(127.0, ceil(v - 0.5)) : (s8)-127;
}

// Levels of codes [rows,K].
extern "C" __global__ void __launch_bounds__(256) linear_decode(const u8 *codes, void *out, size_t rows, int K, int bits,
                                                                     u32 book0, u32 book1, u32 book2, u32 book3, int narrow) {
  Book b = {{book0, book1, book2, book3}};
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= rows * K) return;
  u32 k;
  size_t row = divided(i, K, &k);
  store(out, i, narrow, (float)level_at(b, codes + row * (((size_t)K * bits + 7) / 8), bits, k));
}
