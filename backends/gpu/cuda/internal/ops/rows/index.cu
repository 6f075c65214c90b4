// Rows that are picked, added up and written by index.
#include "rows.cuh"

// Tile is the part of a row that a warp has: up to K chunks a lane.
template <int K> struct Tile {
  u64 row;
  int lo, chunks;  // chunks of the row: the first that the lane has, and how many there are
  __device__ __forceinline__ Tile(u64 item, u32 tiles, int chunks) : row(item / tiles), lo((int)(item % tiles) * K * 32 + threadIdx.x), chunks(chunks) {}
  __device__ __forceinline__ bool has(int j) const { return lo + j * 32 < chunks; }
  // at is the index of the first element of chunk j of a row, in an array whose rows
  // are as wide.
  template <int V> __device__ __forceinline__ size_t at(u64 row, int j) const { return (size_t)row * chunks * V + (size_t)(lo + j * 32) * V; }
};

static constexpr int WIDE = 8, NARROW = 2;  // chunks of tiles: index.go has the same

// gather: out[i] = table[ids[i]]. kind says what the table is: 0 f32, 1 bf16,
// 2 f16.
//
// Floor: the rows once in, once out: 16384 x 768 of f32 into bf16: 75 MB, 16 us.
template <int V>
__device__ __forceinline__ void gather(const void *table, const int *ids, void *out, u64 count, int limit, int width, u32 tiles, int kind, bool bf16_out,
                                       int *failure, int node) {
  for (u64 item = first_row(); item < count * tiles; item += row_step()) {
    Tile<WIDE> t(item, tiles, width / V);
    int id = ids[t.row];
    bool good = id >= 0 && id < limit;
    if (!good && t.lo == 0) fail(failure, node, id);
    bits<V> b[WIDE];
#pragma unroll
    for (int j = 0; j < WIDE; j++)
      if (good && t.has(j)) b[j] = fetch<V>(table, t.template at<V>(id, j), kind != 0);
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
      if (!t.has(j)) continue;
      chunk<V> c = {};
      if (good) c = kind == 2 ? widen_half<V>(b[j]) : widen<V>(b[j], kind == 1);
      put<V>(out, t.template at<V>(t.row, j), bf16_out, c);
    }
  }
}

// scatteradd adds row i of x to row ids[i] of a result that is 0 elsewhere, in the
// order of i whatever the device does, in three steps.
//
// scatter_link makes of the rows that go to one place a list: heads[id] is its
// first, next[i] what follows, -1 the end. Lists have any order.
extern "C" __global__ void __launch_bounds__(256) scatter_link(const int *ids, int *heads, int *next, u64 count, int limit, int *failure, int node) {
  for (size_t i = flat_index(); i < count; i += flat_step()) {
    int id = ids[i];
    if (id >= 0 && id < limit) next[i] = atomicExch(&heads[id], (int)i);
    else fail(failure, node, id);
  }
}

// add_rows adds the tiles of N rows of x to acc, in order; rows has their numbers,
// and count of them are there.
template <int V, int K, int N> __device__ __forceinline__ void add_rows(chunk<V> *acc, const void *x, const int *rows, int count, const Tile<K> &t, bool nx) {
  bits<V> b[N][K];
#pragma unroll
  for (int k = 0; k < N; k++)
#pragma unroll
    for (int j = 0; j < K; j++)
      if (k < count && t.has(j)) b[k][j] = fetch<V>(x, t.template at<V>(rows[k], j), nx);
#pragma unroll
  for (int k = 0; k < N; k++)
#pragma unroll
    for (int j = 0; j < K; j++) {
      if (k >= count || !t.has(j)) continue;
      chunk<V> c = widen<V>(b[k][j], nx);
#pragma unroll
      for (int e = 0; e < V; e++) acc[j].v[e] += c.v[e];
    }
}

// scatter_short writes the rows whose list is at most 32 long: a warp takes the
// list into its lanes and adds in the order of their numbers. Longer ones are
// noted in `longs`, behind their count.
//
// Floor: the result once, and x: 50257 x 768 of f32 and 16384 x 768 of bf16: 180
// MB, 37 us; most rows of the result are zeros that wait for one load.
template <int V>
__device__ __forceinline__ void scatter_short(const void *x, const int *heads, const int *next, int *longs, float *z, u64 limit, int width, u32 tiles, bool nx) {
  for (u64 item = first_row(); item < limit * tiles; item += row_step()) {
    Tile<WIDE> t(item, tiles, width / V);
    int mine = -1, count = 0, at = heads[t.row];
    for (; at >= 0 && count < 32; count++, at = next[at])
      if (count == (int)threadIdx.x) mine = at;
    if (at >= 0) {
      if (t.lo == 0) longs[1 + atomicAdd(&longs[0], 1)] = (int)t.row;
      continue;
    }
    // rank is how many of the list come before the lane's.
    int rank = 0;
    for (int k = 0; k < count; k++) rank += __shfl_sync(0xffffffffu, mine, k) < mine;
    chunk<V> acc[WIDE] = {};
    for (int k = 0; k < count; k++) {
      u32 who = __ballot_sync(0xffffffffu, mine >= 0 && rank == k);
      int row = __shfl_sync(0xffffffffu, mine, __ffs(who) - 1);
      add_rows<V, WIDE, 1>(acc, x, &row, 1, t, nx);
    }
#pragma unroll
    for (int j = 0; j < WIDE; j++)
      if (t.has(j)) put<V>(z, t.template at<V>(t.row, j), false, acc[j]);
  }
}

// scatter_long writes the rows that scatter_short noted, a block of 16 warps for
// each narrow tile: a warp looks through its 16th of ids for those that go there,
// SCAN at a time, and adds their rows in order, 4 under way; the first warp then
// adds what all have, in order. Which block does a row, and when, has no bearing
// on it. found has room for SCAN numbers, share for a warp's sums.
//
// The most frequent token of a text makes some 5% of it: of 65536 rows of 768 bf16
// 5 MB, which a multiprocessor takes 90 us for, and 3 that have a tile each 30. The
// others look through 256 KB of ids in L2 for each of a few hundred such rows.
static constexpr int SCAN = 256;

// collect lists in found the numbers of [at, hi), of SCAN at most, that go to id, in
// order, and returns how many there are.
__device__ __forceinline__ int collect(const int *ids, u64 at, u64 hi, int id, int *found) {
  int all[SCAN / 32], count = 0;
#pragma unroll
  for (int k = 0; k < SCAN / 32; k++) {
    u64 i = at + k * 32 + threadIdx.x;
    all[k] = i < hi ? ids[i] : -1;
  }
  __syncwarp();  // of found's last use
#pragma unroll
  for (int k = 0; k < SCAN / 32; k++) {
    u32 here = __ballot_sync(0xffffffffu, all[k] == id);
    if (all[k] == id) found[count + __popc(here & ((1u << threadIdx.x) - 1))] = (int)at + k * 32 + threadIdx.x;
    count += __popc(here);
  }
  __syncwarp();
  return count;
}

template <int V>
__device__ __forceinline__ void scatter_long(const void *x, const int *ids, const int *longs, float *z, u64 count, int width, u32 tiles, bool nx, int *found,
                                             float *share) {
  u64 part = (count + blockDim.y - 1) / blockDim.y, lo = part * threadIdx.y, hi = min(count, lo + part);
  for (u64 item = blockIdx.x; item < (u64)longs[0] * tiles; item += gridDim.x) {
    Tile<NARROW> t(item, tiles, width / V);
    int id = longs[1 + t.row];
    chunk<V> acc[NARROW] = {};
    for (u64 at = lo; at < hi; at += SCAN) {
      int n = collect(ids, at, hi, id, found);
      for (int k = 0; k < n; k += 4) add_rows<V, NARROW, 4>(acc, x, found + k, n - k, t, nx);
    }
    add_warps(acc, share);
    if (threadIdx.y) continue;
#pragma unroll
    for (int j = 0; j < NARROW; j++)
      if (t.has(j)) put<V>(z, t.template at<V>(id, j), false, acc[j]);
  }
}

// updateat writes src [outer,count,inner] into dst [outer,n,inner] from position
// pos[o / per] on. width is count * inner; a block has 1024 elements of one o.
//
// Floor: what is written, twice. In decoding it is nothing beside the launch.
template <int V>
__device__ __forceinline__ void updateat(void *dst, const void *src, const int *pos, u64 outer, u64 per, int n, int count, u64 inner, u32 tiles, bool half,
                                         bool ns, int *failure, int node) {
  u64 width = count * inner;
  for (u64 item = blockIdx.x; item < outer * tiles; item += gridDim.x) {
    u64 o = item / tiles, tile = item % tiles;
    int p = pos[o / per];
    if (p < 0 || p > n - count) {
      if (tile == 0 && threadIdx.x == 0) fail(failure, node, p);
      continue;
    }
    size_t to = ((size_t)o * n + p) * inner, from = (size_t)o * width;
    for (u64 i = tile * 1024 + threadIdx.x * V; i < min(width, (tile + 1) * 1024); i += 256 * V) {
      chunk<V> c = get<V>(src, from + i, ns);
      if (!half) {
        put<V>(dst, to + i, false, c);
        continue;
      }
      u16 h[V];
#pragma unroll
      for (int e = 0; e < V; e++) h[e] = to_f16(c.v[e]).bits;
      if constexpr (V == 4) *(uint2 *)((u16 *)dst + to + i) = make_uint2(h[0] | (u32)h[1] << 16, h[2] | (u32)h[3] << 16);
      else ((u16 *)dst)[to + i] = h[0];
    }
  }
}

#define INDEX_KERNELS(V)                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) gather_##V(const void *table, const int *ids, void *out, u64 count, int limit, int width,  \
                                                               u32 tiles, int kind, u32 bf16_out, int *failure, int node) {                    \
    gather<V>(table, ids, out, count, limit, width, tiles, kind, bf16_out, failure, node);                                                     \
  }                                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(256) scatter_short_##V(const void *x, const int *heads, const int *next, int *longs, float *z,  \
                                                                      u64 limit, int width, u32 tiles, u32 nx) {                               \
    scatter_short<V>(x, heads, next, longs, z, limit, width, tiles, nx);                                                                       \
  }                                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(512) scatter_long_##V(const void *x, const int *ids, const int *longs, float *z, u64 count,    \
                                                                      int width, u32 tiles, u32 nx) {                                          \
    __shared__ float share[NARROW * V * 32];                                                                                                   \
    __shared__ int found[16][SCAN];                                                                                                            \
    scatter_long<V>(x, ids, longs, z, count, width, tiles, nx, found[threadIdx.y], share);                                                     \
  }                                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                                                                            \
      updateat_##V(void *dst, const void *src, const int *pos, u64 outer, u64 per, int n, int count, u64 inner, u32 tiles, u32 half, u32 ns,   \
                   int *failure, int node) {                                                                                                   \
    updateat<V>(dst, src, pos, outer, per, n, count, inner, tiles, half, ns, failure, node);                                                   \
  }

INDEX_KERNELS(4)
INDEX_KERNELS(1)
