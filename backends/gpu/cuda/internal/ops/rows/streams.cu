// Residual streams (hyper-connections, arXiv 2409.19606): s [N,S,C] read into a
// branch and written by it. Coefficients are the same for all rows (a step of 0
// between theirs), or each row's own.
//
// Sums over streams are written with fmaf, so that no compiler rounds them in
// another way for one stream than for the next: streams that are treated alike
// stay equal to the last bit.
#include "rows.cuh"

// streamread: z = sum_i pre_i s_i, in the order of i.
//
// Floor: s and z once. 16384 x 4 x 768 in f32: 252 MB, 52 us; in bf16 half. A
// thread has S loads under way.
template <int S, int V>
__device__ __forceinline__ void streamread(const void *__restrict__ s, const float *__restrict__ pre, void *__restrict__ z, u64 rows, int width, int step, u32 narrow) {
  bool ns = narrow & 1, nz = narrow & 4;
  int chunks = width / V;
  for (u64 row = first_row(); row < rows; row += row_step()) {
    float p[S];
#pragma unroll
    for (int i = 0; i < S; i++) p[i] = pre[row * step + i];
    for (int c = threadIdx.x; c < chunks; c += blockDim.x) {
      bits<V> b[S];
#pragma unroll
      for (int i = 0; i < S; i++) b[i] = fetch<V>(s, ((size_t)row * S + i) * width + (size_t)c * V, ns);
      chunk<V> sum;
#pragma unroll
      for (int i = 0; i < S; i++) {
        chunk<V> v = widen<V>(b[i], ns);
#pragma unroll
        for (int e = 0; e < V; e++) sum.v[e] = i ? fmaf(p[i], v.v[e], sum.v[e]) : p[0] * v.v[e];
      }
      put<V>(z, (size_t)row * width + (size_t)c * V, nz, sum);
    }
  }
}

// around is sum_j h_j x_j, beginning with i and going round, where h_j is h[j * step].
template <int S, int V> __device__ __forceinline__ chunk<V> around(const float *h, int step, const chunk<V> *x, int i) {
  chunk<V> sum;
#pragma unroll
  for (int t = 0; t < S; t++) {
    int j = (i + t) % S;
#pragma unroll
    for (int e = 0; e < V; e++) sum.v[e] = t ? fmaf(h[j * step], x[j].v[e], sum.v[e]) : h[j * step] * x[j].v[e];
  }
  return sum;
}

// streamwrite: s'_i = sum_j h_ij s_j + post_i y. The result may lie over s: a
// thread reads a column of all streams before it writes it. Rows of at most 8
// columns may be their matrices, too, and then belong to threads of one warp,
// which have read it before any of them writes.
//
// Floor: s, y and s' once. 16384 x 4 x 768 in f32: 453 MB, 94 us; in bf16 half. A
// thread has S + 1 loads under way, and 20 of coefficients out of a cache, for
// all the columns of a row that it has.
template <int S, int V>
__device__ __forceinline__ void streamwrite(const void *s, const void *y, const float *h, const float *post, void *z, u64 rows, int width, int hstep, int pstep,
                                            u32 narrow) {
  bool ns = narrow & 1, ny = narrow & 2, nz = narrow & 16;
  int chunks = width / V;
  for (u64 row = first_row(); row < rows; row += row_step()) {
    float m[S * S], p[S];
#pragma unroll
    for (int k = 0; k < S * S; k++) m[k] = h[row * hstep + k];
#pragma unroll
    for (int i = 0; i < S; i++) p[i] = post[row * pstep + i];
    __syncwarp();  // before the row's matrix is overwritten
    for (int c = threadIdx.x; c < chunks; c += blockDim.x) {
      size_t at = (size_t)row * S * width + (size_t)c * V;
      bits<V> b[S], yb = fetch<V>(y, (size_t)row * width + (size_t)c * V, ny);
#pragma unroll
      for (int j = 0; j < S; j++) b[j] = fetch<V>(s, at + (size_t)j * width, ns);
      chunk<V> x[S], branch = widen<V>(yb, ny);
#pragma unroll
      for (int j = 0; j < S; j++) x[j] = widen<V>(b[j], ns);
#pragma unroll
      for (int i = 0; i < S; i++) {
        chunk<V> sum = around<S, V>(m + i * S, 1, x, i);
#pragma unroll
        for (int e = 0; e < V; e++) sum.v[e] = fmaf(p[i], branch.v[e], sum.v[e]);
        put<V>(z, at + (size_t)i * width, nz, sum);
      }
    }
  }
}

// lanes_sum adds up n values over the lanes of a warp, and writes them to out.
template <int n> __device__ __forceinline__ void lanes_sum(float *out, const float *v) {
  float mine = 0;
#pragma unroll
  for (int k = 0; k < n; k++) {
    float sum = warp_sum(v[k]);
    if ((int)threadIdx.x == k % 32) mine = sum;
    if (k % 32 == 31 || k == n - 1) {
      int at = k / 32 * 32 + threadIdx.x;
      if (at <= k) out[at] = mine;
    }
  }
}

// leave hands the gradients of n coefficients on: to the row's own place if it has
// one, and else, after the last row, to the block's row of `part`, with those of
// its 4 warps in order. share is shared memory for them.
template <int n> __device__ __forceinline__ void leave_row(float *acc, float *out, u64 row, int step) {
  if (!step) return;
  lanes_sum<n>(out + row * step, acc);
#pragma unroll
  for (int k = 0; k < n; k++) acc[k] = 0;
}
template <int n> __device__ __forceinline__ void leave_block(const float *acc, float *part, int step, float *share) {
  if (step) return;
  __syncthreads();  // of share's last use
  lanes_sum<n>(share + threadIdx.y * n, acc);
  __syncthreads();
  for (int k = threadIdx.y * 32 + threadIdx.x; k < n; k += 128) {
    float sum = share[k];
    for (int y = 1; y < 4; y++) sum += share[y * n + k];
    part[(size_t)blockIdx.x * n + k] = sum;
  }
}

// dot adds to acc the products of two chunks.
template <int V> __device__ __forceinline__ float dot(chunk<V> a, chunk<V> b, float acc) {
#pragma unroll
  for (int e = 0; e < V; e++) acc = fmaf(a.v[e], b.v[e], acc);
  return acc;
}

// streamread_vjp: ds_i = pre_i g and dpre_i = sum(s_i * g). A block has 4 warps and
// `span` rows that follow each other, a warp every fourth of them. dpre is the
// result where rows have their own coefficients, and else a row for each block,
// which stream_fold adds up. No operand shares memory with a result.
//
// Floor: s, g and ds once. 16384 x 4 x 768 in f32: 453 MB, 94 us; in bf16 half. 512
// blocks are 16 warps a multiprocessor: for 25 KiB on the way in bf16 a lane needs 6
// loads of 8 bytes, so that with few streams it has several chunks at a time. Where all
// arrays are bf16 (B16) that is known when it is compiled: what is loaded then stays in
// the registers that it is loaded into, and nothing waits for it in between.
template <int S, int V, bool B16>
__device__ __forceinline__ void streamread_vjp(const void *__restrict__ s, const float *__restrict__ pre, const void *__restrict__ g, void *__restrict__ ds,
                                               float *__restrict__ dpre, u64 rows, int width, int span, int step, u32 narrow, float *share) {
  bool ns = B16 || narrow & 1, ng = B16 || narrow & 4, nd = B16 || narrow & 8;
  int chunks = width / V;
  u64 first = (u64)blockIdx.x * span, last = min(rows, first + span);
  float acc[S] = {};
  constexpr int U = S <= 2 ? 3 : S <= 4 ? 2 : 1;  // chunks at a time
  for (u64 row = first + threadIdx.y; row < last; row += 4) {
    float p[S];
#pragma unroll
    for (int i = 0; i < S; i++) p[i] = pre[row * step + i];
#pragma unroll 1
    for (int c0 = threadIdx.x; c0 < chunks; c0 += 32 * U) {
      bits<V> b[U][S], gb[U];
#pragma unroll
      for (int u = 0; u < U; u++) {
        int c = c0 + 32 * u;
        if (c >= chunks) continue;
        gb[u] = fetch<V>(g, (size_t)row * width + (size_t)c * V, ng);
#pragma unroll
        for (int i = 0; i < S; i++) b[u][i] = fetch<V>(s, ((size_t)row * S + i) * width + (size_t)c * V, ns);
      }
#pragma unroll
      for (int u = 0; u < U; u++) {
        int c = c0 + 32 * u;
        if (c >= chunks) continue;
        chunk<V> d = widen<V>(gb[u], ng);
#pragma unroll
        for (int i = 0; i < S; i++) {
          acc[i] = dot<V>(widen<V>(b[u][i], ns), d, acc[i]);
          chunk<V> out;
#pragma unroll
          for (int e = 0; e < V; e++) out.v[e] = p[i] * d.v[e];
          put<V>(ds, ((size_t)row * S + i) * width + (size_t)c * V, nd, out);
        }
      }
    }
    leave_row<S>(acc, dpre, row, step);
  }
  leave_block<S>(acc, dpre, step, share);
}

// streamwrite_vjp: ds_j = sum_i h_ij g_i, dy = sum_i post_i g_i, dh_ij = sum(g_i *
// s_j) and dpost_i = sum(g_i * y), in one pass; blocks and what they leave are as
// for streamread_vjp. ds may lie over g.
//
// Floor: s, y, g, ds and dy once. 16384 x 4 x 768 in f32: 705 MB, 147 us; in bf16
// half. There are 2 S^2 + 2 S multiply-adds a column, 40 for 4 streams: a quarter
// of what the multiprocessors do in that time in bf16, and for 8 streams half. Of 1 or
// 2 streams a lane has two chunks at a time, which are read before either is written,
// since ds may lie over g.
template <int S, int V, bool B16>
__device__ __forceinline__ void streamwrite_vjp(const void *s, const void *y, const float *h, const float *post, const void *g, void *ds, void *dy, float *dh,
                                                float *dpost, u64 rows, int width, int span, int hstep, int pstep, u32 narrow, float *share) {
  bool ns = B16 || narrow & 1, ny = B16 || narrow & 2, ng = B16 || narrow & 16, nds = B16 || narrow & 32, ndy = B16 || narrow & 64;
  int chunks = width / V;
  u64 first = (u64)blockIdx.x * span, last = min(rows, first + span);
  float mixed[S * S] = {}, added[S] = {};
  constexpr int U = S <= 2 ? 2 : 1;  // chunks at a time
  for (u64 row = first + threadIdx.y; row < last; row += 4) {
    float m[S * S], p[S];
#pragma unroll
    for (int k = 0; k < S * S; k++) m[k] = h[row * hstep + k];
#pragma unroll
    for (int i = 0; i < S; i++) p[i] = post[row * pstep + i];
    __syncwarp();  // before the row's matrix is overwritten
#pragma unroll 1
    for (int c0 = threadIdx.x; c0 < chunks; c0 += 32 * U) {
      bits<V> gb[U][S], sb[U][S], yb[U];
#pragma unroll
      for (int u = 0; u < U; u++) {
        int c = c0 + 32 * u;
        if (c >= chunks) continue;
        size_t at = (size_t)row * S * width + (size_t)c * V;
        yb[u] = fetch<V>(y, (size_t)row * width + (size_t)c * V, ny);
#pragma unroll
        for (int i = 0; i < S; i++) gb[u][i] = fetch<V>(g, at + (size_t)i * width, ng), sb[u][i] = fetch<V>(s, at + (size_t)i * width, ns);
      }
#pragma unroll
      for (int u = 0; u < U; u++) {
        int c = c0 + 32 * u;
        if (c >= chunks) continue;
        size_t at = (size_t)row * S * width + (size_t)c * V;
        chunk<V> d[S], b = widen<V>(yb[u], ny), sum;
#pragma unroll
        for (int i = 0; i < S; i++) {
          d[i] = widen<V>(gb[u][i], ng);
          added[i] = dot<V>(d[i], b, added[i]);
#pragma unroll
          for (int e = 0; e < V; e++) sum.v[e] = i ? fmaf(p[i], d[i].v[e], sum.v[e]) : p[0] * d[0].v[e];
        }
        put<V>(dy, (size_t)row * width + (size_t)c * V, ndy, sum);
#pragma unroll
        for (int j = 0; j < S; j++) {
          chunk<V> x = widen<V>(sb[u][j], ns);
#pragma unroll
          for (int i = 0; i < S; i++) mixed[i * S + j] = dot<V>(d[i], x, mixed[i * S + j]);
          put<V>(ds, at + (size_t)j * width, nds, around<S, V>(m + j, S, d, j));
        }
      }
    }
    leave_row<S * S>(mixed, dh, row, hstep);
    leave_row<S>(added, dpost, row, pstep);
  }
  leave_block<S * S>(mixed, dh, hstep, share);
  leave_block<S>(added, dpost, pstep, share);
}

#define STREAM_KERNELS(S, V)                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                                             \
      streamread_##S##_##V(const void *s, const float *pre, void *z, u64 rows, int width, int step, u32 narrow) {                               \
    streamread<S, V>(s, pre, z, rows, width, step, narrow);                                                                                     \
  }                                                                                                                                             \
  extern "C" __global__ void __launch_bounds__(256) streamwrite_##S##_##V(const void *s, const void *y, const float *h, const float *post,      \
                                                                          void *z, u64 rows, int width, int hstep, int pstep, u32 narrow) {     \
    streamwrite<S, V>(s, y, h, post, z, rows, width, hstep, pstep, narrow);                                                                     \
  }                                                                                                                                             \
  extern "C" __global__ void __launch_bounds__(128) streamread_vjp_##S##_##V(const void *s, const float *pre, const void *g, void *ds,          \
                                                                             float *dpre, u64 rows, int width, int span, int step, u32 narrow) { \
    __shared__ float share[4 * S];                                                                                                              \
    if ((narrow & 13) == 13) streamread_vjp<S, V, true>(s, pre, g, ds, dpre, rows, width, span, step, narrow, share);                           \
    else streamread_vjp<S, V, false>(s, pre, g, ds, dpre, rows, width, span, step, narrow, share);                                              \
  }                                                                                                                                             \
  extern "C" __global__ void __launch_bounds__(128)                                                                                             \
      streamwrite_vjp_##S##_##V(const void *s, const void *y, const float *h, const float *post, const void *g, void *ds, void *dy, float *dh,  \
                                float *dpost, u64 rows, int width, int span, int hstep, int pstep, u32 narrow) {                                \
    __shared__ float share[4 * S * S];                                                                                                          \
    if ((narrow & 115) == 115) streamwrite_vjp<S, V, true>(s, y, h, post, g, ds, dy, dh, dpost, rows, width, span, hstep, pstep, narrow, share); \
    else streamwrite_vjp<S, V, false>(s, y, h, post, g, ds, dy, dh, dpost, rows, width, span, hstep, pstep, narrow, share);                     \
  }

STREAM_KERNELS(1, 4)
STREAM_KERNELS(2, 4)
STREAM_KERNELS(4, 4)
STREAM_KERNELS(8, 4)

// Other numbers of streams, and rows of other widths: element by element, and with
// reads that are repeated, out of a cache. What results may lie over was copied.

// mix_any: z_i = sum_k m_ik x_k, beginning with i and going round, plus post_i y
// where there is a y. m_ik is m[i * across + k * along].
extern "C" __global__ void __launch_bounds__(256)
    stream_mix_any(const void *x, const void *y, const float *m, const float *post, void *z, u64 n, int streams, int width, int across, int along, int mstep,
                   int pstep, u32 narrow) {
  for (size_t at = flat_index(); at < n; at += flat_step()) {
    size_t row = at / width / streams, c = at % width;
    int i = (int)(at / width % streams);
    float sum = 0;
    for (int t = 0; t < streams; t++) {
      int k = (i + t) % streams;
      float v = load(x, (row * streams + k) * width + c, narrow & 1);
      sum = fmaf(m[row * mstep + (size_t)i * across + (size_t)k * along], v, sum);
    }
    if (y) sum = fmaf(post[row * pstep + i], load(y, row * width + c, narrow & 2), sum);
    store(z, at, narrow & 4, sum);
  }
}

// read_any: z = sum_i p_i x_i.
extern "C" __global__ void __launch_bounds__(256)
    stream_read_any(const void *x, const float *p, void *z, u64 n, int streams, int width, int step, u32 narrow) {
  for (size_t at = flat_index(); at < n; at += flat_step()) {
    size_t row = at / width, c = at % width;
    float sum = 0;
    for (int i = 0; i < streams; i++) sum = fmaf(p[row * step + i], load(x, (row * streams + i) * width + c, narrow & 1), sum);
    store(z, at, narrow & 2, sum);
  }
}

// spread_any: z_i = p_i g.
extern "C" __global__ void __launch_bounds__(256)
    stream_spread_any(const void *g, const float *p, void *z, u64 n, int streams, int width, int step, u32 narrow) {
  for (size_t at = flat_index(); at < n; at += flat_step()) {
    size_t row = at / width / streams, c = at % width;
    store(z, at, narrow & 2, p[row * step + at / width % streams] * load(g, row * width + c, narrow & 1));
  }
}

// pairs_any: out[p,i,j] = sum of a_i * b_j over the columns and over rows p * span to
// (p + 1) * span, a warp each, for a of as and b of bs streams.
extern "C" __global__ void __launch_bounds__(256)
    stream_pairs_any(const void *a, const void *b, float *out, u64 rows, int as, int bs, int width, int span, u64 items, u32 narrow) {
  for (u64 item = first_row(); item < items; item += row_step()) {
    u64 p = item / ((u64)as * bs), last = min(rows, (p + 1) * span);
    int i = (int)(item / bs % as), j = (int)(item % bs);
    float sum = 0;
    for (u64 row = p * span; row < last; row++)
      for (int c = threadIdx.x; c < width; c += 32)
        sum = fmaf(load(a, (row * as + i) * width + c, narrow & 1), load(b, (row * bs + j) * width + c, narrow & 2), sum);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) out[item] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(512) stream_fold(const float *part, float *out, int parts, int columns) {
  __shared__ float sums[32][17];
  fold(part, out, parts, columns, sums);
}
