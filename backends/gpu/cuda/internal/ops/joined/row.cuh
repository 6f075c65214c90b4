// Rows that are made and rounded to int8 by a block, of which each thread has some
// chunks of four elements.
#pragma once
#include "codes.cuh"

// How rows are made. product.go has the same.
enum { ROWS_PLAIN, ROWS_GATED, ROWS_NORMED, ROWS_READ };

constexpr int THREADS = 128;

// Rows are made of a: x, the gate or the streams; and b: what gates or the
// coefficients of streams, of which step lie between a row's and the next row's. Where
// some of `limit` rows are picked, row n is made of their row picked[n].
struct Rows {
  int kind;
  const void *a, *b;
  const float *gain;
  const int *picked;
  int limit, streams, step;
  float eps;
  u32 narrow;
  int *failure, node;
};
#define ROWS \
  int kind, const void *a, const void *b, const float *gain, const int *picked, int from_rows, int streams, int step, float eps, u32 rows_narrow, \
      int *rows_failure, int rows_node
#define rows_of \
  Rows { kind, a, b, gain, picked, from_rows, streams, step, eps, rows_narrow, rows_failure, rows_node }

// What reads elements i to i+3 of row n. WIDE says that all is f32: then no branch
// stands between loads, which follow each other.
template <bool WIDE> struct Plain {
  const Rows &in;
  size_t at;
  __device__ __forceinline__ Plain(const Rows &in, size_t n, int K) : in(in), at(n * K) {}
  __device__ __forceinline__ float4 operator()(int i) const { return load4(in.a, at + i, !WIDE && in.narrow & 1); }
};
__device__ __forceinline__ float gated(float gate, float up) { return up * (gate * (1 / (1 + expf(-gate)))); }
template <bool WIDE> struct Gated {
  const Rows &in;
  size_t at;
  __device__ __forceinline__ Gated(const Rows &in, size_t n, int K) : in(in), at(n * K) {}
  __device__ __forceinline__ float4 operator()(int i) const {
    float4 g = load4(in.a, at + i, !WIDE && in.narrow & 1), u = load4(in.b, at + i, !WIDE && in.narrow & 2);
    return make_float4(gated(g.x, u.x), gated(g.y, u.y), gated(g.z, u.z), gated(g.w, u.w));
  }
};
template <int S, bool WIDE> struct Streams {
  const Rows &in;
  size_t at;
  int K;
  float p[S];
  __device__ __forceinline__ Streams(const Rows &in, size_t n, int K) : in(in), at(n * S * K), K(K) {
#pragma unroll
    for (int j = 0; j < S; j++) p[j] = ((const float *)in.b)[n * in.step + j];
  }
  __device__ __forceinline__ float4 operator()(int i) const {
    float4 v[S];
#pragma unroll
    for (int j = 0; j < S; j++) v[j] = load4(in.a, at + (size_t)j * K + i, !WIDE && in.narrow & 1);
    float4 sum = make_float4(p[0] * v[0].x, p[0] * v[0].y, p[0] * v[0].z, p[0] * v[0].w);
#pragma unroll
    for (int j = 1; j < S; j++)
      sum = make_float4(fmaf(p[j], v[j].x, sum.x), fmaf(p[j], v[j].y, sum.y), fmaf(p[j], v[j].z, sum.z), fmaf(p[j], v[j].w, sum.w));
    return sum;
  }
};

// chunks gives keep a thread's chunks of a row, of which U are read before the first
// is waited for: from one end of the row to the other in one latency of memory.
template <int U, class Read, class Keep> __device__ __forceinline__ void chunks(int K, const Read &read, const Keep &keep) {
  const int step = 4 * THREADS;
  for (int i = 4 * threadIdx.x; i < K; i += U * step) {
    float4 v[U];
#pragma unroll
    for (int u = 0; u < U; u++) v[u] = read(min(i + u * step, K - 4));
#pragma unroll
    for (int u = 0; u < U; u++)
      if (i + u * step < K) keep(i + u * step, v[u]);
  }
}

// ReadRow reads all of row n, whatever it is made of.
struct ReadRow {
  const Rows &in;
  template <bool WIDE, class Keep> __device__ __forceinline__ void read(size_t n, int K, const Keep &keep) const;
  template <class Keep> __device__ __forceinline__ void operator()(size_t n, int K, const Keep &keep) const {
    if (in.narrow) read<false>(n, K, keep);
    else read<true>(n, K, keep);
  }
};
template <bool WIDE, class Keep> __device__ __forceinline__ void ReadRow::read(size_t n, int K, const Keep &keep) const {
  constexpr int U = WIDE ? 4 : 1;
  if (in.kind == ROWS_GATED) return chunks<U>(K, Gated<WIDE>(in, n, K), keep);
  if (in.kind != ROWS_READ) return chunks<U>(K, Plain<WIDE>(in, n, K), keep);
  switch (in.streams) {
    case 1: return chunks<U>(K, Streams<1, WIDE>(in, n, K), keep);
    case 2: return chunks<WIDE ? 2 : 1>(K, Streams<2, WIDE>(in, n, K), keep);
    case 4: return chunks<1>(K, Streams<4, WIDE>(in, n, K), keep);
    default: return chunks<1>(K, Streams<8, WIDE>(in, n, K), keep);
  }
}

// norm gives what a row in shared memory is multiplied by. The sum of squares is cut as
// rmsnorm cuts it: among a warp up to 1024 columns, and else among so many threads
// that each has 8 chunks of 4 (up to 4096 columns).
__device__ __forceinline__ float norm(const float *row, int K, float eps, float *parts) {
  int chunks = K / 4, sharers = chunks <= 256 ? 32 : (chunks + 255) / 256 * 32;
  float sum = 0;
  for (int c = threadIdx.x; c < chunks && threadIdx.x < sharers; c += sharers) {
    float4 v = ((const float4 *)row)[c];
    sum = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
  }
  return rsqrtf(block_sum(sum, parts) / K + eps);
}

// quantize leaves row n, which read_row reads, as int8, and zeros from K up to Kp. row is
// shared memory for the K numbers, of which a thread has the same ones all along.
template <class Read>
__device__ __forceinline__ void quantize(const Rows &in, const Read &read_row, size_t n, int K, int Kp, float *row, s8 *q, float *unit, float *parts) {
  const int step = 4 * THREADS, from = 4 * threadIdx.x;
  if (in.picked) {
    int id = in.picked[n];
    bool good = id >= 0 && id < in.limit;
    if (!good && threadIdx.x == 0) fail(in.failure, in.node, id);
    n = good ? id : 0;
  }
  Magnitude m = {0, true};
  bool normed = in.kind >= ROWS_NORMED;
  if (normed) prefetch((const char *)in.gain + min((int)threadIdx.x * 128, K * 4 - 4));
  auto keep = [&](int i, float4 v) {
    *(float4 *)(row + i) = v;
    if (!normed) m.see(v);
  };
  __syncthreads();  // of row's last use
  read_row(n, K, keep);
  if (normed) {
    __syncthreads();
    float r = norm(row, K, in.eps, parts);
    for (int i = from; i < K; i += step) {
      float4 v = *(float4 *)(row + i), g = load4(in.gain, i, false);
      v = make_float4(v.x * r * g.x, v.y * r * g.y, v.z * r * g.z, v.w * r * g.w);
      *(float4 *)(row + i) = v;
      m.see(v);
    }
  }
  float s = m.scale(parts);
  Int8Row put = {q, unit};
  for (int i = from; i < Kp; i += step) put(i, quantized(i < K ? *(float4 *)(row + i) : make_float4(0, 0, 0, 0), s), s);
}
