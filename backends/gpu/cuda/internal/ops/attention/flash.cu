// Attention in bf16 by tensor cores: FlashAttention-2 (Dao, arXiv 2307.08691),
// with the instructions of compute capability 8.0, which later devices have too.
//
// A block has four warps and 64 query rows of a head, or in the last pass 64
// columns of a key head. Keys and values come in tiles through two buffers in
// shared memory, the next copied while one is worked on. Products multiply bf16
// and add in f32; scores, weights and sums are f32, weights are rounded to bf16
// for the second product. No scores are written to memory.
//
// The pullback is given no result and no sums, so a first pass computes them again
// and leaves for each row the logarithm of its sum and delta, the sum of cotangent
// times result; two passes compute dq, and dk with dv, each weight again from the
// logarithm. There are no atomic operations, and the order of every sum follows
// from shapes: same inputs, same bits.
//
// A row of shared memory has 16 bytes more than its D elements, so that the eight
// rows that ldmatrix reads at a time lie in different banks. D is padded to one of
// the sizes compiled, with zeros.
//
// A column that a row does not see has a weight of 0 that is multiplied all the
// same: what is not a number, in a row or a column of the tiles on the diagonal,
// spreads to others of the same tile. Columns that no row sees are never read.
//
// Floors on an H200 (4.8 TB/s; 989 TFLOP/s of dense bf16, of which mma.sync, which is
// not wgmma, reaches about 60%; 3.7e12 exponentials a second): with N =
// 2*B*H*D*T*T/2 operations for a product under the diagonal, forward takes 2 N and
// the pullback's passes 2, 3 and 4. B*H = 768, T = 256, D = 64 is N = 3.2 GFLOP:
// forward 11 us in mma.sync, 7 us of exponentials, and 21 us for 100 MB of operands
// and result, so that memory bounds it; the pullback takes 49 us in mma.sync. At T =
// 1024 and B*H = 192 N is 12.9 GFLOP, forward 44, 27 and 21 us, the pullback 196 us.
// A warp has 16 rows and reads 256 bytes of shared memory, 2 cycles, for each product
// of 16x8x16, which takes 1.6 at that rate. FlashAttention-2's kernels reach a third
// of the peak with D = 64, and that is what to expect here.
#include "tern.cuh"

static constexpr int kThreads = 128, kRows = 64;

__device__ __forceinline__ float minus_infinity() { return bits_to_float(0xff800000u); }

// exp2_fast is 2^x to 2 units in the last place, with results below the smallest
// normal number 0.
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef TERN_FAKE_CUDA
  return exp2f(x);
#else
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
#endif
}

// place copies 16 bytes of a row to shared memory: as they are without waiting,
// f16 as bf16.
__device__ __forceinline__ void place(bf16 *to, const bf16 *from) { copy16(to, from); }
__device__ __forceinline__ u32 pair_of_f16(u32 v) {
  f16 lo, hi;
  lo.bits = (u16)v, hi.bits = (u16)(v >> 16);
  return pack_bf16(widen(lo), widen(hi));
}
__device__ __forceinline__ void place(bf16 *to, const f16 *from) {
  uint4 v = *(const uint4 *)from;
  *(uint4 *)to = make_uint4(pair_of_f16(v.x), pair_of_f16(v.y), pair_of_f16(v.z), pair_of_f16(v.w));
}

// stage fills a tile of ROWS rows of DT elements with rows first to end-1 of an
// array whose rows are step elements apart and have D; what is not there is 0.
template <int DT, int ROWS, class E>
__device__ __forceinline__ void stage(bf16 *tile, const E *from, size_t step, int first, int end, int D) {
  constexpr int words = DT / 8;
#pragma unroll
  for (int i = threadIdx.x; i < ROWS * words; i += kThreads) {
    int r = i / words, c = i % words * 8;
    bf16 *to = tile + r * (DT + 8) + c;
    if (first + r < end && c < D) place(to, from + (size_t)(first + r) * step + c);
    else *(uint4 *)to = make_uint4(0, 0, 0, 0);
  }
}

// Fragments of mma_bf16, by ldmatrix, from a tile whose rows have DT elements.

// rows_fragment is A: rows row to row+15, elements d to d+15.
template <int DT> __device__ __forceinline__ void rows_fragment(u32 a[4], const bf16 *tile, int row, int d) {
  int lane = threadIdx.x & 31;
  ldmatrix4(a, tile + (row + (lane & 15)) * (DT + 8) + d + (lane >> 4) * 8);
}
// across_fragment is B twice, for the product with the tile's rows row to row+15 as
// columns: b[0], b[1] for the first eight of them.
template <int DT> __device__ __forceinline__ void across_fragment(u32 b[4], const bf16 *tile, int row, int d) {
  int lane = threadIdx.x & 31;
  ldmatrix4(b, tile + (row + (lane >> 4) * 8 + (lane & 7)) * (DT + 8) + d + (lane >> 3 & 1) * 8);
}
// down_fragment is B twice, for the product with the tile itself: rows row to
// row+15, elements d to d+7 in b[0], b[1] and the next eight in b[2], b[3].
template <int DT> __device__ __forceinline__ void down_fragment(u32 b[4], const bf16 *tile, int row, int d) {
  int lane = threadIdx.x & 31;
  ldmatrix4t(b, tile + (row + (lane & 15)) * (DT + 8) + d + (lane >> 4) * 8);
}

// multiply adds to z[16, N] the product of a warp's 16 rows of x, from row on, and
// the N rows of y.
template <int DT, int N> __device__ __forceinline__ void multiply(float z[N / 8][4], const bf16 *x, int row, const bf16 *y) {
#pragma unroll
  for (int d = 0; d < DT; d += 16) {
    u32 a[4];
    rows_fragment<DT>(a, x, row, d);
#pragma unroll
    for (int n = 0; n < N; n += 16) {
      u32 b[4];
      across_fragment<DT>(b, y, n, d);
      mma_bf16(z[n / 8], a, b);
      mma_bf16(z[n / 8 + 1], a, b + 2);
    }
  }
}

// accumulate adds to z[16, DT] the product of w[16, N], rounded to bf16, and the N
// rows of y. The accumulators of one product are laid out as an operand of the next.
template <int DT, int N> __device__ __forceinline__ void accumulate(float z[DT / 8][4], const float w[N / 8][4], const bf16 *y) {
#pragma unroll
  for (int n = 0; n < N; n += 16) {
    const float *lo = w[n / 8], *hi = w[n / 8 + 1];
    u32 a[4] = {pack_bf16(lo[0], lo[1]), pack_bf16(lo[2], lo[3]), pack_bf16(hi[0], hi[1]), pack_bf16(hi[2], hi[3])};
#pragma unroll
    for (int d = 0; d < DT; d += 16) {
      u32 b[4];
      down_fragment<DT>(b, y, n, d);
      mma_bf16(z[d / 8], a, b);
      mma_bf16(z[d / 8 + 1], a, b + 2);
    }
  }
}

// Reductions over the four lanes that share a row of accumulators.
__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(0xffffffffu, v, 1);
  return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

// store2 writes two neighbors; i is even.
__device__ __forceinline__ void store2(void *p, size_t i, bool is_bf16, float x, float y) {
  if (is_bf16) *(u32 *)((bf16 *)p + i) = pack_bf16(x, y);
  else *(float2 *)((float *)p + i) = make_float2(x, y);
}

// write_rows writes a warp's accumulators, scaled, to rows of D elements that are step
// rows apart; this thread's are row and row+8, of those below end.
template <int DT>
__device__ __forceinline__ void write_rows(void *to, bool is_bf16, const float z[DT / 8][4], size_t from, size_t step, int row, int end, int D, float scale) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (row + 8 * h >= end) continue;
    size_t i = (from + (row + 8 * h) * step) * D + 2 * (threadIdx.x & 3);
#pragma unroll
    for (int j = 0; j < DT / 8; j++)
      if (8 * j < D) store2(to, i + 8 * j, is_bf16, z[j][2 * h] * scale, z[j][2 * h + 1] * scale);
  }
}

// Bits of narrow, by operand and result of the op.
enum { kOut = 16, kDQ = 32, kDK = 64, kDV = 128 };

// mask sets the scores of columns that their row does not see to minus infinity:
// those beyond last, for the accumulators' first row, and last+8 for the second.
template <int N> __device__ __forceinline__ void mask(float s[N / 8][4], int last) {
  int t = threadIdx.x & 3;
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (8 * j + 2 * t + (i & 1) > last + (i >> 1) * 8) s[j][i] = minus_infinity();
}

// mask_across does so for transposed scores, a row of accumulators for a column: the
// first one is seen by rows from before on, the second by those from before+8 on.
template <int N> __device__ __forceinline__ void mask_across(float s[N / 8][4], int before) {
  int t = threadIdx.x & 3;
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (8 * j + 2 * t + (i & 1) < before + (i >> 1) * 8) s[j][i] = minus_infinity();
}

// Online is the softmax of two rows as far as their columns have come (arXiv
// 1805.02867): the largest score m, and this lane's part of the sum l of 2^(scale
// (score - m)).
struct Online {
  float m[2], l[2];
  // take turns the scores of N more columns into weights and rescales the sums of
  // values for a larger m. The base of scores that are all minus infinity is 0.
  template <int N, int DT> __device__ __forceinline__ void take(float s[N / 8][4], float o[DT / 8][4], float scale) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float top = m[h];
#pragma unroll
      for (int j = 0; j < N / 8; j++) top = fmaxf(top, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
      top = quad_max(top);
      float base = top == minus_infinity() ? 0.0f : top * scale, shrink = exp2_fast(m[h] * scale - base), sum = 0;
      m[h] = top;
#pragma unroll
      for (int j = 0; j < N / 8; j++)
#pragma unroll
        for (int i = 2 * h; i < 2 * h + 2; i++) {
          s[j][i] = exp2_fast(fmaf(s[j][i], scale, -base));
          sum += s[j][i];
        }
      l[h] = fmaf(l[h], shrink, sum);
#pragma unroll
      for (int j = 0; j < DT / 8; j++) o[j][2 * h] *= shrink, o[j][2 * h + 1] *= shrink;
    }
  }
};

// Block is which rows of which head a block of queries has. Those that see most
// columns come first.
struct Block {
  int b, h, first, pos;
  __device__ __forceinline__ Block(int B, int T, int H, const int *positions) {
    int tiles = (T + kRows - 1) / kRows;
    unsigned at = blockIdx.x % (unsigned)(B * H);
    b = at / H, h = at % H;
    first = (tiles - 1 - (int)(blockIdx.x / (unsigned)(B * H))) * kRows;
    pos = positions[b];
  }
};

// flash_forward writes the result or, where stats is not null, for each row the
// logarithm to base 2 of the sum of its weights, and delta. scale is that of
// scores, times log2(e).
template <int DT, int N, class E>
__device__ __forceinline__ void flash_forward(const bf16 *q, const E *k, const E *v, const int *pos, void *out, float2 *stats, const bf16 *g,
                                              int B, int T, int H, int D, int S, int KV, float scale, u32 narrow, int *failure, int node) {
  extern __shared__ uint4 flash_shared[];
  constexpr int tile = N * (DT + 8);
  bf16 *queries = (bf16 *)flash_shared, *keys = queries + kRows * (DT + 8), *vals = keys + 2 * tile;
  Block at(B, T, H, pos);
  if (at.pos < 0 || at.pos > S - T) {
    if (threadIdx.x == 0) fail(failure, node, at.pos);
    return;
  }
  int end = min(T, at.first + kRows), columns = at.pos + end, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  size_t step = (size_t)KV * D, from = ((size_t)at.b * S * KV + at.h / (H / KV)) * D, row = (size_t)at.b * T * H + at.h;
  stage<DT, kRows>(queries, q + row * D, (size_t)H * D, at.first, end, D);
  stage<DT, N>(keys, k + from, step, 0, columns, D);
  stage<DT, N>(vals, v + from, step, 0, columns, D);
  copies_commit();

  Online rows = {{minus_infinity(), minus_infinity()}, {0, 0}};
  float o[DT / 8][4] = {};
  for (int c = 0, buffer = 0; c < columns; c += N, buffer ^= 1) {
    copies_wait<0>();
    __syncthreads();  // this tile is there, and the other is no longer read
    if (c + N < columns) {
      stage<DT, N>(keys + (buffer ^ 1) * tile, k + from, step, c + N, columns, D);
      stage<DT, N>(vals + (buffer ^ 1) * tile, v + from, step, c + N, columns, D);
      copies_commit();
    }
    float s[N / 8][4] = {};
    multiply<DT, N>(s, queries, 16 * warp, keys + buffer * tile);
    int last = at.pos + at.first + 16 * warp - c;  // that the warp's first row sees
    if (last < N - 1) mask<N>(s, last + (lane >> 2));
    rows.template take<N, DT>(s, o, scale);
    accumulate<DT, N>(o, s, vals + buffer * tile);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int t = at.first + 16 * warp + 8 * h + (lane >> 2), d = 2 * (lane & 3);
    float sum = quad_sum(rows.l[h]), inverse = 1 / sum, delta = 0;
    size_t i = row + (size_t)t * H;
#pragma unroll
    for (int j = 0; j < DT / 8; j++) {
      if (t >= T || 8 * j >= D) continue;
      float x = o[j][2 * h] * inverse, y = o[j][2 * h + 1] * inverse;
      if (!stats) {
        store2(out, i * D + 8 * j + d, narrow & kOut, x, y);
        continue;
      }
      u32 two = *(const u32 *)(g + i * D + 8 * j + d);
      delta = fmaf(x, bits_to_float(two << 16), fmaf(y, bits_to_float(two & 0xffff0000u), delta));
    }
    if (!stats) continue;
    delta = quad_sum(delta);
    if (t < T && (lane & 3) == 0) stats[i] = make_float2(fmaf(rows.m[h], scale, log2f(sum)), delta);
  }
}

#define FLASH(name, DT, N, E)                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128) name(                                                                                      \
      const bf16 *q, const E *k, const E *v, const int *pos, void *out, float2 *stats, const bf16 *g, int B, int T, int H, int D, int S, int KV, \
      float scale, u32 narrow, int *failure, int node) {                                                                                       \
    flash_forward<DT, N>(q, k, v, pos, out, stats, g, B, T, H, D, S, KV, scale, narrow, failure, node);                                        \
  }
FLASH(flash_bf16_64, 64, 64, bf16)
FLASH(flash_bf16_96, 96, 64, bf16)
FLASH(flash_bf16_128, 128, 64, bf16)
FLASH(flash_bf16_256, 256, 32, bf16)
FLASH(flash_f16_64, 64, 64, f16)
FLASH(flash_f16_96, 96, 64, f16)
FLASH(flash_f16_128, 128, 64, f16)
FLASH(flash_f16_256, 256, 32, f16)

// flash_dq computes dq of 64 rows: the sum over columns of ds k, scaled, with ds =
// p (dp - delta), p = 2^(scale score - log) and dp the product of cotangent and
// value.
template <int DT, int N>
__device__ __forceinline__ void flash_dq(const bf16 *q, const bf16 *k, const bf16 *v, const int *pos, const bf16 *g, const float2 *stats, void *dq,
                                         int B, int T, int H, int D, int S, int KV, float scale, float scale_out, u32 narrow) {
  extern __shared__ uint4 flash_shared[];
  constexpr int tile = N * (DT + 8);
  bf16 *queries = (bf16 *)flash_shared, *grads = queries + kRows * (DT + 8), *keys = grads + kRows * (DT + 8), *vals = keys + 2 * tile;
  Block at(B, T, H, pos);
  if (at.pos < 0 || at.pos > S - T) return;  // the first pass has said so
  int end = min(T, at.first + kRows), columns = at.pos + end, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  size_t step = (size_t)KV * D, from = ((size_t)at.b * S * KV + at.h / (H / KV)) * D, row = (size_t)at.b * T * H + at.h;
  stage<DT, kRows>(queries, q + row * D, (size_t)H * D, at.first, end, D);
  stage<DT, kRows>(grads, g + row * D, (size_t)H * D, at.first, end, D);
  stage<DT, N>(keys, k + from, step, 0, columns, D);
  stage<DT, N>(vals, v + from, step, 0, columns, D);
  copies_commit();

  int t = at.first + 16 * warp + (lane >> 2);
  float2 stat[2];
#pragma unroll
  for (int h = 0; h < 2; h++) stat[h] = t + 8 * h < T ? stats[row + (size_t)(t + 8 * h) * H] : make_float2(0, 0);
  float acc[DT / 8][4] = {};
  for (int c = 0, buffer = 0; c < columns; c += N, buffer ^= 1) {
    copies_wait<0>();
    __syncthreads();
    if (c + N < columns) {
      stage<DT, N>(keys + (buffer ^ 1) * tile, k + from, step, c + N, columns, D);
      stage<DT, N>(vals + (buffer ^ 1) * tile, v + from, step, c + N, columns, D);
      copies_commit();
    }
    float s[N / 8][4] = {}, dp[N / 8][4] = {};
    multiply<DT, N>(s, queries, 16 * warp, keys + buffer * tile);
    multiply<DT, N>(dp, grads, 16 * warp, vals + buffer * tile);
    int last = at.pos + at.first + 16 * warp - c;  // that the warp's first row sees
    if (last < N - 1) mask<N>(s, last + (lane >> 2));
#pragma unroll
    for (int j = 0; j < N / 8; j++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float2 row = stat[i >> 1];
        s[j][i] = exp2_fast(fmaf(s[j][i], scale, -row.x)) * (dp[j][i] - row.y);
      }
    accumulate<DT, N>(acc, s, keys + buffer * tile);
  }
  write_rows<DT>(dq, narrow & kDQ, acc, row, H, t, T, D, scale_out);
}

// flash_dkv computes dk and dv of 64 columns of a key head: the sums over the query
// rows that see them, and over the heads that share the key head, of ds q, scaled,
// and of p g. Scores are computed transposed, a row of accumulators for a column,
// so that weights and ds are laid out as the products with g and q want them.
template <int DT, int N>
__device__ __forceinline__ void flash_dkv(const bf16 *q, const bf16 *k, const bf16 *v, const int *pos, const bf16 *g, const float2 *stats, void *dk, void *dv,
                                          int B, int T, int H, int D, int S, int KV, float scale, float scale_out, u32 narrow) {
  extern __shared__ uint4 flash_shared[];
  constexpr int tile = N * (DT + 8);
  bf16 *keys = (bf16 *)flash_shared, *vals = keys + kRows * (DT + 8), *queries = vals + kRows * (DT + 8), *grads = queries + 2 * tile;
  float2 *stat = (float2 *)(grads + 2 * tile);
  // The first columns are seen by most rows: their blocks come first. Rows that
  // are not there are zeros, in q and g, and add nothing.
  int kv = blockIdx.x % KV, b = blockIdx.x / KV % B, first = (int)(blockIdx.x / KV / B) * kRows, p = pos[b];
  int G = H / KV, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  bool in_range = p >= 0 && p <= S - T;
  int skip = in_range ? min(T, max(0, first - p)) : T;  // rows that see none of the columns
  int tiles = (T - skip + N - 1) / N, count = tiles * G;
  size_t step = (size_t)H * D, column = (size_t)b * S * KV + kv;
  auto stage_rows = [&](int i, int buffer) {
    int h = kv * G + i / tiles, start = skip + i % tiles * N;
    size_t row = (size_t)b * T * H + h;
    stage<DT, N>(queries + buffer * tile, q + row * D, step, start, T, D);
    stage<DT, N>(grads + buffer * tile, g + row * D, step, start, T, D);
    if (threadIdx.x < N) stat[buffer * N + threadIdx.x] = start + (int)threadIdx.x < T ? stats[row + (size_t)(start + threadIdx.x) * H] : make_float2(0, 0);
  };
  int columns = in_range ? p + T : 0;
  stage<DT, kRows>(keys, k + column * D, (size_t)KV * D, first, columns, D);
  stage<DT, kRows>(vals, v + column * D, (size_t)KV * D, first, columns, D);
  if (count) stage_rows(0, 0);
  copies_commit();

  float dkey[DT / 8][4] = {}, dvalue[DT / 8][4] = {};
  int c = first + 16 * warp + (lane >> 2);
  for (int i = 0, buffer = 0; i < count; i++, buffer ^= 1) {
    copies_wait<0>();
    __syncthreads();
    if (i + 1 < count) {
      stage_rows(i + 1, buffer ^ 1);
      copies_commit();
    }
    float s[N / 8][4] = {}, dp[N / 8][4] = {};
    multiply<DT, N>(s, keys, 16 * warp, queries + buffer * tile);
    multiply<DT, N>(dp, vals, 16 * warp, grads + buffer * tile);
    int before = first + 16 * warp - p - skip - i % tiles * N;  // rows of the tile that do not see the warp's first column
    if (before + 15 > 0) mask_across<N>(s, before + (lane >> 2));
#pragma unroll
    for (int j = 0; j < N / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float2 row = stat[buffer * N + 8 * j + 2 * (lane & 3) + (e & 1)];
        s[j][e] = exp2_fast(fmaf(s[j][e], scale, -row.x));
        dp[j][e] = s[j][e] * (dp[j][e] - row.y);
      }
    accumulate<DT, N>(dvalue, s, grads + buffer * tile);
    accumulate<DT, N>(dkey, dp, queries + buffer * tile);
  }
  copies_wait<0>();
  write_rows<DT>(dk, narrow & kDK, dkey, column, KV, c, S, D, scale_out);
  write_rows<DT>(dv, narrow & kDV, dvalue, column, KV, c, S, D, 1);
}

// BLOCKS is how many blocks a multiprocessor shall hold: as many as leave registers
// enough.
#define FLASH_GRAD(DT, N, BLOCKS)                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS) flash_dq_##DT(                                                                                   \
      const bf16 *q, const bf16 *k, const bf16 *v, const int *pos, const bf16 *g, const float2 *stats, void *dq, int B, int T, int H, int D, int S, \
      int KV, float scale, float scale_out, u32 narrow) {                                                                                            \
    flash_dq<DT, N>(q, k, v, pos, g, stats, dq, B, T, H, D, S, KV, scale, scale_out, narrow);                                                        \
  }                                                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS) flash_dkv_##DT(                                                                                  \
      const bf16 *q, const bf16 *k, const bf16 *v, const int *pos, const bf16 *g, const float2 *stats, void *dk, void *dv, int B, int T, int H,     \
      int D, int S, int KV, float scale, float scale_out, u32 narrow) {                                                                              \
    flash_dkv<DT, N>(q, k, v, pos, g, stats, dk, dv, B, T, H, D, S, KV, scale, scale_out, narrow);                                                   \
  }
FLASH_GRAD(64, 64, 3)
FLASH_GRAD(96, 32, 3)
FLASH_GRAD(128, 32, 2)
