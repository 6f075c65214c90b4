// Attention in f32, by rows: for decoding, for caches of f32, and for all of the
// backend in f32. Values are read in any width and multiplied by plain
// multiply-adds.
//
// The bits of a result row depend on its own query and on the keys and values
// that it sees: not on how many rows there are, on how long the cache is, or on
// what lies behind. So a token that is decoded alone has the bits that it has as
// part of a whole sequence. Columns are cut into pieces of 128, counted from the
// first of the cache. Of each piece a row has the largest score m, the sum l of
// exp(score - m) and the sum o of the values weighted so, and pieces are merged
// in their order (Milakov and Gimelshein, arXiv 1805.02867; Dao, arXiv
// 2307.08691). One block can go through all pieces of its rows, or each piece can
// have a block and another kernel merges: the operations are the same, and where a
// compiler could choose between a multiply-add and two operations they say which.
//
// A row of D elements lies over lanes, 8 neighbors to each: a power of two of
// them, so that a warp reads several rows at a time, in 16 byte words.
//
// Floors on an H200 (4.8 TB/s, 67 TFLOP/s of f32 multiply-adds). Decoding reads
// the visible keys and values once: 2*B*KV*(pos+T)*D elements, 256 streams of
// 1024 columns with 4 heads of 64 in f16 are 268 MB or 56 us. A thread has 4
// words of 16 bytes under way, a multiprocessor with 4 blocks 32 KB, enough to
// cover the memory's latency, so that 70% should be met with up to 4 query heads
// to a key head; with 8 the shuffles take as long as the memory. Whole sequences
// take 4*B*H*D*T*T/2 operations; the sums over lanes and the reads of the same
// keys by every block leave about a fifth of the rate of the multiply-adds.
#include "tern.cuh"

static constexpr int kThreads = 128, kWarps = 4, kPiece = 128;

__device__ __forceinline__ float minus_infinity() { return bits_to_float(0xff800000u); }

// shared_memory is as much as the launch asks for.
__device__ __forceinline__ float *shared_memory() {
  extern __shared__ float4 attention_shared[];
  return (float *)attention_shared;
}

__device__ __forceinline__ u32 bits_of(float v) { return float_to_bits(v); }
__device__ __forceinline__ u32 bits_of(bf16 v) { return v.bits; }
__device__ __forceinline__ u32 bits_of(f16 v) { return v.bits; }

// Eight neighbors of a row, as they lie in memory.
template <class E> struct Eight {
  u32 w[2 * sizeof(E)];
};

// fetch reads the eight from p on, of which the row has n: where it has fewer the
// rest is 0. whole says that n is a multiple of 8 and p aligned.
template <class E> __device__ __forceinline__ Eight<E> fetch(const E *p, int n, bool whole) {
  Eight<E> e;
#pragma unroll
  for (int i = 0; i < (int)(2 * sizeof(E)); i++) e.w[i] = 0;
  if (!whole) {
    constexpr int per = 4 / sizeof(E);
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (i < n) e.w[i / per] |= bits_of(p[i]) << (i % per * 16);
  } else if (n > 0) {
#pragma unroll
    for (int i = 0; i < (int)(2 * sizeof(E)); i += 4) {
      uint4 v = ((const uint4 *)p)[i / 4];
      e.w[i] = v.x, e.w[i + 1] = v.y, e.w[i + 2] = v.z, e.w[i + 3] = v.w;
    }
  }
  return e;
}

__device__ __forceinline__ void unpack(float x[8], const Eight<float> &e) {
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = bits_to_float(e.w[i]);
}
__device__ __forceinline__ void unpack(float x[8], const Eight<bf16> &e) {
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = bits_to_float(i & 1 ? e.w[i / 2] & 0xffff0000u : e.w[i / 2] << 16);
}
__device__ __forceinline__ void unpack(float x[8], const Eight<f16> &e) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    f16 h;
    h.bits = (u16)(e.w[i / 2] >> (i % 2 * 16));
    x[i] = widen(h);
  }
}

// read is fetch and unpack of an array in either width.
__device__ __forceinline__ void read(float x[8], const void *p, size_t i, bool is_bf16, int n, bool whole) {
  if (is_bf16) unpack(x, fetch((const bf16 *)p + i, n, whole));
  else unpack(x, fetch((const float *)p + i, n, whole));
}

// Lanes is a thread's place: which eight of a row, and which of the groups of
// lanes that have a row each at a time.
struct Lanes {
  int lanes, within, group, groups, left, width;
  bool whole;
  __device__ __forceinline__ Lanes(int D, int lanes_, bool whole_) {
    lanes = lanes_, width = 8 * lanes_, whole = whole_;
    within = threadIdx.x & (lanes - 1), group = threadIdx.x / lanes, groups = kThreads / lanes;
    left = D - 8 * within;
  }
};

__device__ __forceinline__ float dot8(const float x[8], const float y[8]) {
  float s = x[0] * y[0];
#pragma unroll
  for (int i = 1; i < 8; i++) s = fmaf(x[i], y[i], s);
  return s;
}

// sum_lanes adds over the lanes of a row.
template <int R> __device__ __forceinline__ void sum_lanes(float s[R], int lanes) {
  for (int d = lanes >> 1; d; d >>= 1)
#pragma unroll
    for (int r = 0; r < R; r++) s[r] += __shfl_xor_sync(0xffffffffu, s[r], d);
}

// collect leaves in part, for each of the block's warps, the sum over its groups
// of acc: [warp][r][width]. The threads meet before it is read.
template <int R> __device__ __forceinline__ void collect(float *part, float acc[R][8], const Lanes &at) {
  for (int d = at.lanes; d < 32; d <<= 1)
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
      for (int i = 0; i < 8; i++) acc[r][i] += __shfl_xor_sync(0xffffffffu, acc[r][i], d);
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane >= at.lanes) return;
#pragma unroll
  for (int r = 0; r < R; r++) {
    float4 *to = (float4 *)(part + (warp * R + r) * at.width + 8 * at.within);
    to[0] = make_float4(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
    to[1] = make_float4(acc[r][4], acc[r][5], acc[r][6], acc[r][7]);
  }
}

// collected is the sum of what the warps left for element e of [R][width].
template <int R> __device__ __forceinline__ float collected(const float *part, int e, int width) {
  int n = R * width;
  return part[e] + part[n + e] + part[2 * n + e] + part[3 * n + e];
}

// Tile is what a block of queries works on: up to R of the T*G query rows that
// share a key head, G heads of a position before the next position. Blocks of one
// tile are neighbors, and tiles that see most columns come first.
struct Tile {
  int b, kv, first, rows, G, T, H, pos;
  __device__ __forceinline__ Tile(unsigned block, int R, int tiles, int B, int T_, int H_, int KV, const int *positions) {
    T = T_, H = H_, G = H_ / KV;
    unsigned at = block % (unsigned)(B * KV);
    b = at / KV, kv = at % KV;
    first = (tiles - 1 - (int)(block / (unsigned)(B * KV))) * R;
    rows = min(R, T * G - first);
    pos = positions[b];
  }
  __device__ __forceinline__ int position(int r) const { return (first + r) / G; }
  // row is the number of row r in [B,T,H].
  __device__ __forceinline__ size_t row(int r) const {
    return ((size_t)b * T + position(r)) * H + kv * G + (first + r) % G;
  }
  // seen is how many columns row r sees; a row that is not there sees none.
  __device__ __forceinline__ int seen(int r) const { return r < rows ? pos + position(r) + 1 : 0; }
  __device__ __forceinline__ int columns() const { return seen(rows - 1); }
};

// out_of_range fails the run at a position that has no room for T rows.
__device__ __forceinline__ bool out_of_range(int pos, int T, int S, int *failure, int node) {
  if (pos >= 0 && pos <= S - T) return false;
  if (threadIdx.x == 0) fail(failure, node, pos);
  return true;
}

// Scores lie by column, with an odd number of floats from one to the next, so that
// 32 columns of a row lie in as many banks.
//
// scores sets score[c][r], for the n columns from k on, to the scaled product
// of query r and key c, and to minus infinity where r does not see c.
template <class K, int R>
__device__ __forceinline__ void scores(float *score, const float q[R][8], const K *k, size_t step, int n, const int seen[R], float scale, const Lanes &at) {
  constexpr int batch = R > 4 ? 2 : 4;  // columns that a thread has under way
  for (int base = 0; base < n; base += batch * at.groups) {
    Eight<K> words[batch];
#pragma unroll
    for (int u = 0; u < batch; u++) {
      int c = base + u * at.groups + at.group;
      words[u] = fetch(k + c * step, c < n ? at.left : 0, at.whole);
    }
#pragma unroll
    for (int u = 0; u < batch; u++) {
      int c = base + u * at.groups + at.group;
      float x[8], s[R];
      unpack(x, words[u]);
#pragma unroll
      for (int r = 0; r < R; r++) s[r] = dot8(q[r], x);
      sum_lanes<R>(s, at.lanes);
      if (at.within || c >= n) continue;
#pragma unroll
      for (int r = 0; r < R; r++) score[c * (R | 1) + r] = c < seen[r] ? s[r] * scale : minus_infinity();
    }
  }
}

// weights replaces the scores by exp(score - m), and sets m and their sum for each
// row. The base of scores that are all minus infinity is 0, which gives a sum of 0.
template <int R> __device__ __forceinline__ void weights(float *score, float *m, float *l, int n) {
  int lane = threadIdx.x & 31;
  for (int r = threadIdx.x >> 5; r < R; r += kWarps) {
    float top = minus_infinity(), sum = 0;
    for (int c = lane; c < n; c += 32) top = fmaxf(top, score[c * (R | 1) + r]);
    top = warp_max(top);
    float base = top == minus_infinity() ? 0.0f : top;
    for (int c = lane; c < n; c += 32) {
      float p = expf(score[c * (R | 1) + r] - base);
      score[c * (R | 1) + r] = p;
      sum = __fadd_rn(sum, p);  // not one multiply-add with the last product of expf
    }
    sum = warp_sum(sum);
    if (lane == 0) m[r] = top, l[r] = sum;
  }
}

// values leaves in part the sums of the values, weighted. A column that a row does
// not see takes no part, whatever is there.
template <class V, int R>
__device__ __forceinline__ void values(float *part, const float *score, const V *v, size_t step, int n, const int seen[R], const Lanes &at) {
  constexpr int batch = R > 4 ? 2 : 4;
  float acc[R][8] = {};
  for (int base = 0; base < n; base += batch * at.groups) {
    Eight<V> words[batch];
#pragma unroll
    for (int u = 0; u < batch; u++) {
      int c = base + u * at.groups + at.group;
      words[u] = fetch(v + c * step, c < n ? at.left : 0, at.whole);
    }
#pragma unroll
    for (int u = 0; u < batch; u++) {
      int c = base + u * at.groups + at.group;
      if (c >= n) continue;
      float x[8];
      unpack(x, words[u]);
#pragma unroll
      for (int r = 0; r < R; r++) {
        if (c >= seen[r]) continue;
        float p = score[c * (R | 1) + r];
#pragma unroll
        for (int i = 0; i < 8; i++) acc[r][i] = fmaf(p, x[i], acc[r][i]);
      }
    }
  }
  collect<R>(part, acc, at);
}

// Merge adds a piece to what a row has: a and b are what its sums and the piece's
// are multiplied by.
struct Merge {
  float m, l, a, b;
};
__device__ __forceinline__ Merge merge(float m, float l, float piece_m, float piece_l) {
  Merge z;
  z.m = fmaxf(m, piece_m);
  float base = z.m == minus_infinity() ? 0.0f : z.m;
  z.a = expf(m - base), z.b = expf(piece_m - base);
  z.l = fmaf(l, z.a, __fmul_rn(piece_l, z.b));
  return z;
}
__device__ __forceinline__ float merged(float o, float piece_o, float a, float b) { return fmaf(o, a, __fmul_rn(piece_o, b)); }

// Bits of narrow, by operand and result of the op.
enum { kQ = 1, kK = 2, kV = 4, kOut = 16, kG = 16, kDQ = 32, kDK = 64, kDV = 128 };

// Sizes are the arguments that a kernel by rows has about shapes.
struct Sizes {
  int B, T, H, D, S, KV, lanes, whole, tiles, pieces;
};

// State is what a block keeps of its R rows in shared memory: m and l of a piece and
// of all before it, by how much the merge scales sums, and the sums.
template <int R> struct State {
  static constexpr int small = (6 * R + 3) / 4 * 4;  // part is aligned to 16 bytes
  float *score, *part, *sums;
  __device__ __forceinline__ float *piece_m() const { return score + kPiece * (R | 1); }
  __device__ __forceinline__ float *piece_l() const { return piece_m() + R; }
  __device__ __forceinline__ float *m() const { return piece_m() + 2 * R; }
  __device__ __forceinline__ float *l() const { return piece_m() + 3 * R; }
  __device__ __forceinline__ float *a() const { return piece_m() + 4 * R; }
  __device__ __forceinline__ float *b() const { return piece_m() + 5 * R; }
  __device__ __forceinline__ State(float *memory, int width) {
    score = memory, part = score + kPiece * (R | 1) + small, sums = part + kWarps * R * width;
    for (int e = threadIdx.x; e < R * width; e += kThreads) sums[e] = 0;
    if (threadIdx.x < R) m()[threadIdx.x] = minus_infinity(), l()[threadIdx.x] = 0;
  }
  // add merges a piece, of which part has the sums, or writes it to partial.
  __device__ __forceinline__ void add(const Tile &tile, const Sizes &z, int piece, float *partial, const Lanes &at) {
    if (threadIdx.x < R) {
      int r = threadIdx.x;
      Merge x = merge(m()[r], l()[r], piece_m()[r], piece_l()[r]);
      m()[r] = x.m, l()[r] = x.l, a()[r] = x.a, b()[r] = x.b;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < R * at.width; e += kThreads) {
      int r = e / at.width, d = e & (at.width - 1);
      if (d >= z.D || tile.seen(r) <= piece * kPiece) continue;
      float o = collected<R>(part, e, at.width);
      if (!z.pieces) {
        sums[e] = merged(sums[e], o, a()[r], b()[r]);
        continue;
      }
      float *to = partial + (tile.row(r) * z.pieces + piece) * (z.D + 2);
      to[d] = o;
      if (d == 0) to[z.D] = piece_m()[r], to[z.D + 1] = piece_l()[r];
    }
  }
  // write gives the result.
  __device__ __forceinline__ void write(void *out, bool is_bf16, const Tile &tile, int D, const Lanes &at) const {
    for (int e = threadIdx.x; e < R * at.width; e += kThreads) {
      int r = e / at.width, d = e & (at.width - 1);
      if (d < D && r < tile.rows) store(out, tile.row(r) * D + d, is_bf16, sums[e] / l()[r]);
    }
  }
  // write_stats gives what the pullback wants of each row: m, 1/l, and the product of
  // cotangent and result.
  __device__ __forceinline__ void write_stats(float4 *stats, const void *g, bool is_bf16, const Tile &tile, int D, const Lanes &at) const {
    for (int r = threadIdx.x >> 5; r < tile.rows; r += kWarps) {
      float delta = 0;
      for (int d = threadIdx.x & 31; d < D; d += 32) delta = fmaf(sums[r * at.width + d] / l()[r], load(g, tile.row(r) * D + d, is_bf16), delta);
      delta = warp_sum(delta);
      if ((threadIdx.x & 31) == 0) stats[tile.row(r)] = make_float4(m()[r], 1 / l()[r], delta, 0);
    }
  }
};

// attention_rows computes up to R rows a block. pieces is 0: a block goes through
// all columns of its rows and writes out or, where that is null, stats. Or it is the
// number of pieces of the cache: block i has piece i % pieces and writes partial,
// [B,T,H,pieces] of sums, m and l.
template <class K, class V, int R>
__device__ __forceinline__ void rows_kernel(const void *q, const K *k, const V *v, const int *pos, void *out, float *partial, float4 *stats, const void *g,
                                            Sizes z, float scale, u32 narrow, int *failure, int node) {
  Lanes at(z.D, z.lanes, z.whole);
  unsigned blocks = max(z.pieces, 1);
  Tile tile(blockIdx.x / blocks, R, z.tiles, z.B, z.T, z.H, z.KV, pos);
  if (out_of_range(tile.pos, z.T, z.S, failure, node)) return;
  int columns = tile.columns(), piece = blockIdx.x % blocks, last = z.pieces ? piece + 1 : (columns + kPiece - 1) / kPiece;
  if (piece * kPiece >= columns) return;
  State<R> state(shared_memory(), at.width);
  float query[R][8];
#pragma unroll
  for (int r = 0; r < R; r++) {
    size_t row = r < tile.rows ? tile.row(r) : 0;
    read(query[r], q, row * z.D + 8 * at.within, narrow & kQ, r < tile.rows ? at.left : 0, z.whole);
  }
  size_t step = (size_t)z.KV * z.D, from = ((size_t)tile.b * z.S * z.KV + tile.kv) * z.D + 8 * at.within;
  for (; piece < last; piece++) {
    int start = piece * kPiece, n = min(kPiece, columns - start), seen[R];
#pragma unroll
    for (int r = 0; r < R; r++) seen[r] = tile.seen(r) - start;
    scores<K, R>(state.score, query, k + from + start * step, step, n, seen, scale, at);
    __syncthreads();
    weights<R>(state.score, state.piece_m(), state.piece_l(), n);
    __syncthreads();
    values<V, R>(state.part, state.score, v + from + start * step, step, n, seen, at);
    state.add(tile, z, piece, partial, at);
  }
  if (z.pieces) return;
  __syncthreads();
  if (out) state.write(out, narrow & kOut, tile, z.D, at);
  else state.write_stats(stats, g, narrow & kG, tile, z.D, at);
}

#define ATTENTION_ROWS(name, K, V, R)                                                                                                         \
  extern "C" __global__ void __launch_bounds__(128, R == 1 ? 5 : 2) name(                                                                       \
      const void *q, const K *k, const V *v, const int *pos, void *out, float *partial, float4 *stats, const void *g, int B, int T, int H,   \
      int D, int S, int KV, int lanes, int whole, int tiles, int pieces, float scale, u32 narrow, int *failure, int node) {                  \
    rows_kernel<K, V, R>(q, k, v, pos, out, partial, stats, g, {B, T, H, D, S, KV, lanes, whole, tiles, pieces}, scale, narrow, failure, node);  \
  }
ATTENTION_ROWS(attention_rows_f32_1, float, float, 1)
ATTENTION_ROWS(attention_rows_f32_4, float, float, 4)
ATTENTION_ROWS(attention_rows_f32_8, float, float, 8)
ATTENTION_ROWS(attention_rows_bf16_1, bf16, bf16, 1)
ATTENTION_ROWS(attention_rows_bf16_4, bf16, bf16, 4)
ATTENTION_ROWS(attention_rows_bf16_8, bf16, bf16, 8)
ATTENTION_ROWS(attention_rows_f16_1, f16, f16, 1)
ATTENTION_ROWS(attention_rows_f16_4, f16, f16, 4)
ATTENTION_ROWS(attention_rows_f16_8, f16, f16, 8)
ATTENTION_ROWS(attention_rows_f32_bf16_4, float, bf16, 4)
ATTENTION_ROWS(attention_rows_bf16_f32_4, bf16, float, 4)

// attention_merge makes rows of their pieces: one row a block, an element or more
// a thread.
extern "C" __global__ void attention_merge(const float *partial, const int *pos, void *out, int T, int H, int D, int S, int pieces, u32 narrow) {
  size_t row = blockIdx.x;
  int t = (int)(row / H % T), p = pos[row / H / T];
  if (p < 0 || p > S - T) return;  // attention_rows has said so
  int n = (p + t + kPiece) / kPiece;
  const float *from = partial + row * pieces * (D + 2);
  for (int d = threadIdx.x; d < D; d += blockDim.x) {
    float m = minus_infinity(), l = 0, o = 0;
#pragma unroll 4
    for (int i = 0; i < n; i++) {
      const float *piece = from + (size_t)i * (D + 2);
      Merge z = merge(m, l, piece[D], piece[D + 1]);
      o = merged(o, piece[d], z.a, z.b);
      m = z.m, l = z.l;
    }
    store(out, row * D + d, narrow & kOut, o / l);
  }
}

static constexpr int kGradRows = 4;

// attention_dq: with weight p = exp(score - m)/l of a column, of which the
// cotangent is g v, the score's is ds = p (g v - sum of p (g v) over the columns),
// and that sum is g times the result, delta. dq is the sum of ds k, scaled.
extern "C" __global__ void __launch_bounds__(128)
    attention_dq(const void *q, const void *k, const void *v, const int *pos, const void *g, const float4 *stats, void *dq, int B, int T, int H, int D, int S,
                 int KV, int lanes, int whole, int tiles, float scale, u32 narrow) {
  constexpr int R = kGradRows;
  float *part = shared_memory();
  Lanes at(D, lanes, whole);
  Tile tile(blockIdx.x, R, tiles, B, T, H, KV, pos);
  if (tile.pos < 0 || tile.pos > S - T) return;  // attention_rows has said so
  float query[R][8], cotangent[R][8], acc[R][8] = {};
  float4 row[R];
#pragma unroll
  for (int r = 0; r < R; r++) {
    size_t i = r < tile.rows ? tile.row(r) : 0;
    row[r] = stats[i];
    read(query[r], q, i * D + 8 * at.within, narrow & kQ, at.left, whole);
    read(cotangent[r], g, i * D + 8 * at.within, narrow & kG, at.left, whole);
  }
  int n = tile.columns();
  for (int base = 0; base < n; base += at.groups) {
    int c = base + at.group, left = c < n ? at.left : 0;
    size_t i = (((size_t)tile.b * S + c) * KV + tile.kv) * D + 8 * at.within;
    float key[8], value[8], s[R], dp[R];
    read(key, k, i, narrow & kK, left, whole);
    read(value, v, i, narrow & kV, left, whole);
#pragma unroll
    for (int r = 0; r < R; r++) s[r] = dot8(query[r], key), dp[r] = dot8(cotangent[r], value);
    sum_lanes<R>(s, lanes);
    sum_lanes<R>(dp, lanes);
#pragma unroll
    for (int r = 0; r < R; r++) {
      if (c >= tile.seen(r)) continue;
      float ds = expf(s[r] * scale - row[r].x) * row[r].y * (dp[r] - row[r].z);
#pragma unroll
      for (int i = 0; i < 8; i++) acc[r][i] = fmaf(ds, key[i], acc[r][i]);
    }
  }
  collect<R>(part, acc, at);
  __syncthreads();
  for (int e = threadIdx.x; e < R * at.width; e += kThreads) {
    int r = e / at.width, d = e & (at.width - 1);
    if (d < D && r < tile.rows) store(dq, tile.row(r) * D + d, narrow & kDQ, collected<R>(part, e, at.width) * scale);
  }
}

// scatter writes what was collected of R columns of a key head.
__device__ __forceinline__ void scatter(void *to, bool is_bf16, float *part, float acc[kGradRows][8], size_t row, int rows, int KV, int D, float scale, const Lanes &at) {
  __syncthreads();  // of part's last use
  collect<kGradRows>(part, acc, at);
  __syncthreads();
  for (int e = threadIdx.x; e < kGradRows * at.width; e += kThreads) {
    int c = e / at.width, d = e & (at.width - 1);
    if (d < D && c < rows) store(to, (row + (size_t)c * KV) * D + d, is_bf16, collected<kGradRows>(part, e, at.width) * scale);
  }
}

// attention_dkv has up to 4 columns of a key head a block and goes over the query
// rows that see the first of them, head by head: dv is the sum of p g, dk that of
// ds q, scaled. Of a position out of range both are 0.
extern "C" __global__ void __launch_bounds__(128)
    attention_dkv(const void *q, const void *k, const void *v, const int *pos, const void *g, const float4 *stats, void *dk, void *dv, int B, int T, int H, int D,
                  int S, int KV, int lanes, int whole, float scale, u32 narrow) {
  constexpr int R = kGradRows;
  float *part = shared_memory();
  Lanes at(D, lanes, whole);
  int G = H / KV, kv = blockIdx.x % KV, b = blockIdx.x / KV % B, first = (int)(blockIdx.x / KV / B) * R, rows = min(R, S - first), p = pos[b];
  size_t column = ((size_t)b * S + first) * KV + kv;
  float key[R][8], value[R][8], dkey[R][8] = {}, dvalue[R][8] = {};
#pragma unroll
  for (int c = 0; c < R; c++) {
    size_t i = (column + (size_t)(c < rows ? c : 0) * KV) * D + 8 * at.within;
    read(key[c], k, i, narrow & kK, at.left, whole);
    read(value[c], v, i, narrow & kV, at.left, whole);
  }
  bool in_range = p >= 0 && p <= S - T;
  int skip = in_range ? min(T, max(0, first - p)) : T, see = T - skip, n = see * G;
  for (int base = 0; base < n; base += at.groups) {
    int u = base + at.group, left = u < n ? at.left : 0, t = skip + (u < n ? u % see : 0), h = kv * G + (u < n ? u / see : 0);
    size_t row = ((size_t)b * T + t) * H + h;
    float query[8], cotangent[8], s[R], dp[R];
    float4 stat = stats[row];
    read(query, q, row * D + 8 * at.within, narrow & kQ, left, whole);
    read(cotangent, g, row * D + 8 * at.within, narrow & kG, left, whole);
#pragma unroll
    for (int c = 0; c < R; c++) s[c] = dot8(query, key[c]), dp[c] = dot8(cotangent, value[c]);
    sum_lanes<R>(s, lanes);
    sum_lanes<R>(dp, lanes);
#pragma unroll
    for (int c = 0; c < R; c++) {
      if (u >= n || first + c > p + t) continue;
      float weight = expf(s[c] * scale - stat.x) * stat.y, ds = weight * (dp[c] - stat.z);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        dkey[c][i] = fmaf(ds, query[i], dkey[c][i]);
        dvalue[c][i] = fmaf(weight, cotangent[i], dvalue[c][i]);
      }
    }
  }
  scatter(dk, narrow & kDK, part, dkey, column, rows, KV, D, scale, at);
  scatter(dv, narrow & kDV, part, dvalue, column, rows, KV, D, 1, at);
}
