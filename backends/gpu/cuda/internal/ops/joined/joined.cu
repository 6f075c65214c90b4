// A step of decoding is made of kernels that each take about as long as a launch.
// These do what comes before and after a product of a few rows in the product's own
// kernel:
//
//   rows are made    of x, of silu(gate) * up, of a norm of x, or of a norm of what
//                    is read from streams
//   and multiplied   by up to three weights, whose results stay apart
//   then left        as they are; added to x; mixed into streams; or, of a query, a
//                    key and a value, turned by their position and written into the
//                    caches
//
// Every block makes the one or two rows again: some KiB out of L2, while the codes of
// its columns are on their way. For up to 8 rows the kernel of rows.cu makes them, and
// another multiplies.
//
// All bits in f32 are those of the kernels of the single ops. So sums are made in their
// order, and where a compiler could fuse across what were two kernels, it is told.
//
// Floor: the bytes of the codes, as for int8.cu: 442 KB for query, key and value of
// 768 columns, 0.1 us of an H200. What it takes is a launch, and what must wait for
// each other: what rows are made of, the gain, the codes and scales, and what results
// are added to, each about 270 cycles away in L2 (0.15 us), and five barriers. All but
// the first are asked for at once when a block begins, so that about 0.7 us should be
// left beside the launch; the single kernels wait as often as there are of them.
#include "few.cuh"
#include "rope.cuh"
#include "row.cuh"

#define JOIN(name, bits) name##_##bits
#define NAMED(name, bits) JOIN(name, bits)
#define KERNEL(name) NAMED(name, BITS)

// How results are left. product.go has the same.
enum { END_STORE, END_ADD, END_MIX, END_HEADS };

// Part is a weight and where its results go, stored as f32 (0), bf16 (1) or f16 (2).
struct Part {
  const u8 *codes;
  const float *scales;
  void *y;
  int M, scale_row, kind;
};
#define PART(i) const u8 *codes##i, const float *scales##i, void *y##i, int M##i, int scale_row##i, int kind##i
#define part_of(i) \
  Part { codes##i, scales##i, y##i, M##i, scale_row##i, kind##i }

// Parts are weights of the same columns, groups and levels. Their columns of y are
// taken two at a time, those of a weight never with another's.
struct Parts {
  Part part[3];
  int K, group, span;
  Book book;
};
#define PARTS PART(0), PART(1), PART(2), int K, int group, int span, u32 book0, u32 book1, u32 book2, u32 book3
#define parts_of \
  Parts { {part_of(0), part_of(1), part_of(2)}, K, group, span, Book { { book0, book1, book2, book3 } } }

__device__ __forceinline__ Weight weight_at(const Parts &all, const Part &p) { return Weight{p.codes, p.scales, p.M, all.K, all.group, p.scale_row, all.book}; }

// Columns are two of one of the weights.
struct Columns {
  int which;
  size_t m0;
};
__device__ __forceinline__ size_t pairs(int M) { return ((size_t)M + COLUMNS - 1) / COLUMNS; }
__device__ __forceinline__ Columns columns_at(const Parts &all, size_t pair) {
  size_t n0 = pairs(all.part[0].M), n1 = pairs(all.part[1].M);
  if (pair < n0) return Columns{0, pair * COLUMNS};
  if (pair < n0 + n1) return Columns{1, (pair - n0) * COLUMNS};
  return Columns{2, (pair - n0 - n1) * COLUMNS};
}
// The numbers of a part are picked one by one: an index would put them in memory.
__device__ __forceinline__ Part part_at(const Parts &all, int which) {
  const Part &a = all.part[0], &b = all.part[1], &c = all.part[2];
  return Part{which == 0 ? a.codes : which == 1 ? b.codes : c.codes,
              which == 0 ? a.scales : which == 1 ? b.scales : c.scales,
              which == 0 ? a.y : which == 1 ? b.y : c.y,
              which == 0 ? a.M : which == 1 ? b.M : c.M,
              which == 0 ? a.scale_row : which == 1 ? b.scale_row : c.scale_row,
              which == 0 ? a.kind : which == 1 ? b.kind : c.kind};
}

// End says how results are left. s is what they are added to, or the streams with h
// and post, of which hstep and pstep lie between a row's and the next row's. Rows are
// those of B sequences of len tokens; caches hold limit tokens of each.
struct End {
  int kind;
  const void *s;
  int s_narrow, streams;
  const float *h, *post;
  int hstep, pstep;
  const int *pos;
  const u64 *turns;
  int len, D, limit;
  int *failure, node;
};
#define END                                                                                                                                                \
  int end_kind, const void *end_s, int end_narrow, int end_streams, const float *end_h, const float *end_post, int end_hstep, int end_pstep, const int *pos, \
      const u64 *turns, int len, int D, int limit, int *failure, int node
#define end_of                                                                                                                                        \
  End {                                                                                                                                               \
    end_kind, end_s, end_narrow, end_streams, end_h, end_post, end_hstep, end_pstep, pos, turns, len, D, limit, failure, node \
  }

__device__ __forceinline__ void store_as(void *p, size_t i, int kind, float v) {
  if (kind == 2) ((f16 *)p)[i] = to_f16(v);
  else store(p, i, kind == 1, v);
}

// Leave gets the results of few_columns, T rows at most. What a lane's result is added to
// is read before there is one.
template <int T> struct Leave {
  const Part &part;
  const End &end;
  int which;
  float x[8];  // of each stream

  __device__ __forceinline__ Leave(const Part &part, const End &end, int which, size_t m0, int N) : part(part), end(end), which(which) {
    int lane = threadIdx.x & 31, t = lane % T, streams = end.kind == END_MIX ? end.streams : end.kind == END_ADD ? 1 : 0;
    size_t m = m0 + lane / T;
#pragma unroll
    for (int j = 0; j < 8; j++)
      if (j < streams && lane < COLUMNS * T && m < part.M && t < N) x[j] = load(end.s, ((size_t)t * streams + j) * part.M + m, end.s_narrow);
  }

  __device__ __forceinline__ void operator()(int t, size_t m, float v, bool here) const {
    if (end.kind == END_HEADS) return head(t, m, v, __shfl_xor_sync(0xffffffffu, v, T), here);
    if (!here) return;
    if (end.kind == END_MIX) return mix_any(t, m, v);
    if (end.kind == END_ADD) v = __fadd_rn(x[0], v);
    store_as(part.y, (size_t)t * part.M + m, part.kind, v);
  }

  __device__ __forceinline__ void mix_any(int t, size_t m, float v) const {
    switch (end.streams) {
      case 1: return mix<1>(t, m, v);
      case 2: return mix<2>(t, m, v);
      case 4: return mix<4>(t, m, v);
      default: return mix<8>(t, m, v);
    }
  }
  // mix writes column m of row t of S streams, as streamwrite does: each is the sum over
  // the streams, from its own on and round, and then of what is added.
  template <int S> __device__ __forceinline__ void mix(int t, size_t m, float v) const {
    const float *h = end.h + (size_t)t * end.hstep, *post = end.post + (size_t)t * end.pstep;
#pragma unroll
    for (int i = 0; i < S; i++) {
      float sum = h[i * S + i] * x[i];
#pragma unroll
      for (int u = 1; u < S; u++) {
        int j = (i + u) % S;
        sum = fmaf(h[i * S + j], x[j], sum);
      }
      store_as(part.y, ((size_t)t * S + i) * part.M + m, part.kind, fmaf(post[i], v, sum));
    }
  }

  // head leaves an element of the query (which is 0), the key or the value. other is
  // the pair's other one: pairs begin with an even column, as a warp's columns do.
  __device__ __forceinline__ void head(int t, size_t m, float v, float other, bool here) const {
    if (!here) return;
    int b = t / end.len, p = end.pos[b], token = t % end.len;
    bool odd = m & 1;
    if (which < 2) {
      float s, c;
      sincos_turn((u64)((long long)p + token) * end.turns[m % end.D / 2], &s, &c);
      float2 z = odd ? turned(other, v, s, c) : turned(v, other, s, c);
      v = odd ? z.y : z.x;
    }
    size_t row = t;
    if (which) {
      if (p < 0 || p > end.limit - end.len) {
        if (m == 0) fail(end.failure, end.node, p);
        return;
      }
      row = (size_t)b * end.limit + p + token;
    }
    store_as(part.y, row * part.M + m, part.kind, v);
  }
};

// multiply computes all columns of all weights.
template <int T> __device__ __forceinline__ void multiply(const s8 *q, const float *unit, const Parts &all, const End &end, int N, int Kp) {
  size_t step = (size_t)gridDim.x * (THREADS / 32), count = pairs(all.part[0].M) + pairs(all.part[1].M) + pairs(all.part[2].M);
  for (size_t pair = (size_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5); pair < count; pair += step) {
    Columns at = columns_at(all, pair);
    Part part = part_at(all, at.which);
    Leave<T> leave(part, end, at.which, at.m0, N);
    few_columns<T>(q, unit, weight_at(all, part), at.m0, N, Kp, all.span, leave);
  }
}

// prefetch_pair asks for what a warp's first columns are made of, and for what its
// results are left by.
__device__ __forceinline__ void prefetch_pair(const Parts &all, const End &end, int N) {
  size_t pair = (size_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5), bytes = (size_t)(all.K / 8) * BITS;
  if (pair >= pairs(all.part[0].M) + pairs(all.part[1].M) + pairs(all.part[2].M)) return;
  Columns at = columns_at(all, pair);
  Part part = part_at(all, at.which);
  int lane = threadIdx.x & 31;
  for (size_t m = at.m0; m < at.m0 + COLUMNS && m < part.M; m++) {
    for (size_t i = lane * 128; i < bytes; i += 32 * 128) prefetch(part.codes + m * bytes + i);
    if (lane < 2) prefetch(part.scales + m * part.scale_row + lane * min(32, all.K / all.group - 1));
  }
  if (end.kind == END_MIX) {
    int streams = end.streams;
    for (int i = lane; i < N * streams; i += 32) prefetch((const char *)end.s + ((size_t)i * part.M + at.m0) * (end.s_narrow ? 2 : 4));
    if (lane < N) prefetch(end.h + lane * end.hstep), prefetch(end.post + lane * end.pstep);
  } else if (end.kind == END_ADD) {
    if (lane < N) prefetch((const char *)end.s + ((size_t)lane * part.M + at.m0) * (end.s_narrow ? 2 : 4));
  } else if (end.kind == END_HEADS && lane < 2) {
    prefetch(lane ? (const void *)end.pos : (const void *)(end.turns + at.m0 % end.D / 2));
  }
}

// own makes the rows in each block. shared is a row of floats and the int8 rows.
template <int T> __device__ __forceinline__ void own(const Rows &in, const Parts &all, const End &end, int N, int Kp, char *shared, float *unit, float *parts) {
  prefetch_pair(all, end, N);
  float *row = (float *)shared;
  s8 *q = (s8 *)(shared + all.K * 4);
  for (int t = 0; t < N; t++) quantize(in, ReadRow{in}, t, all.K, Kp, row, q + t * Kp, unit + t, parts);
  __syncthreads();
  multiply<T>(q, unit, all, end, N, Kp);
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(joined_own_1)(ROWS, PARTS, END, int N, int Kp) {
  extern __shared__ __align__(16) char shared[];
  __shared__ float unit[1], parts[33];
  own<1>(rows_of, parts_of, end_of, N, Kp, shared, unit, parts);
}
extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(joined_own_2)(ROWS, PARTS, END, int N, int Kp) {
  extern __shared__ __align__(16) char shared[];
  __shared__ float unit[2], parts[33];
  own<2>(rows_of, parts_of, end_of, N, Kp, shared, unit, parts);
}

// The rows of these are made by rows.cu.
extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(joined_few_4)(const s8 *q, const float *unit, PARTS, END, int N, int Kp) {
  multiply<4>(q, unit, parts_of, end_of, N, Kp);
}
extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(joined_few_8)(const s8 *q, const float *unit, PARTS, END, int N, int Kp) {
  multiply<8>(q, unit, parts_of, end_of, N, Kp);
}
