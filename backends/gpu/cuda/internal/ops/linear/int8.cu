// y [N,M] = x W^T in exact integers: x as linear_quantize leaves it, q [N,Kp] int8
// and a scale a row, W as codes with a scale for each group of columns.
//
// Every kernel computes the same bits: a group is an int32 sum, which no order
// changes, and groups are added in their order, acc = fma(sum, scale, acc), then
// multiplied by the row's scale. So a row does not depend on how many there are,
// nor on which kernel took it.
//
// The file is compiled for codes of BITS bits, which kernels have behind their
// names: a model has one width as a rule, and the others are not compiled.
#include "few.cuh"

#define JOIN(name, bits) name##_##bits
#define NAMED(name, bits) JOIN(name, bits)
#define KERNEL(name) NAMED(name, BITS)

// OPERANDS are the parameters of all kernels but those that quantize x themselves. y
// has ld elements from a row to the next.
#define OPERANDS const s8 *q, const float *unit, WEIGHT, int N, int Kp, void *y, int ld, int narrow
#define ROWS_AS_THEY_ARE const void *x, int x_narrow, WEIGHT, int N, int Kp, void *y, int ld, int narrow

// Store puts y where it lies.
struct Store {
  void *y;
  int ld, narrow;
  __device__ __forceinline__ void operator()(int t, size_t m, float v, bool here) const {
    if (here) store(y, (size_t)t * ld + m, narrow, v);
  }
};

template <int T>
__device__ __forceinline__ void few_rows(const s8 *q, const float *unit, const Weight &w, int N, int Kp, void *y, int ld, int narrow, int span) {
  size_t warps = blockDim.x >> 5, m0 = (blockIdx.x * warps + (threadIdx.x >> 5)) * COLUMNS;
  for (; m0 < w.M; m0 += gridDim.x * warps * COLUMNS) few_columns<T>(q, unit, w, m0, N, Kp, span, Store{y, ld, narrow});
}

// One or two rows a block quantizes itself, into shared memory: less than another
// kernel's launch would take. Its codes come meanwhile.
template <int T>
__device__ __forceinline__ void few_quantized(s8 *rows, float *unit, float *parts, const void *x, int x_narrow, const Weight &w, int N, int Kp, void *y,
                                              int ld, int narrow, int span) {
  prefetch_columns(w);
  for (int t = 0; t < N; t++) quantize_int8(x, t, w.K, Kp, x_narrow, rows + t * Kp, unit + t, parts);
  __syncthreads();
  few_rows<T>(rows, unit, w, N, Kp, y, ld, narrow, span);
}

extern "C" __global__ void __launch_bounds__(128) KERNEL(int8_few_1)(ROWS_AS_THEY_ARE, int span) {
  extern __shared__ __align__(16) s8 rows[];
  __shared__ float unit[1], parts[33];
  few_quantized<1>(rows, unit, parts, x, x_narrow, weight_of, N, Kp, y, ld, narrow, span);
}
extern "C" __global__ void __launch_bounds__(128) KERNEL(int8_few_2)(ROWS_AS_THEY_ARE, int span) {
  extern __shared__ __align__(16) s8 rows[];
  __shared__ float unit[2], parts[33];
  few_quantized<2>(rows, unit, parts, x, x_narrow, weight_of, N, Kp, y, ld, narrow, span);
}
extern "C" __global__ void __launch_bounds__(128) KERNEL(int8_few_4)(OPERANDS, int span) {
  few_rows<4>(q, unit, weight_of, N, Kp, y, ld, narrow, span);
}
extern "C" __global__ void __launch_bounds__(128) KERNEL(int8_few_8)(OPERANDS, int span) {
  few_rows<8>(q, unit, weight_of, N, Kp, y, ld, narrow, span);
}

// A tile of y by tensor cores. WM x WN warps have MT x NT products of mma_s8 each:
// rows are the A operand, columns the B operand. q comes by asynchronous copies,
// codes by registers, which unpack them on the way to shared memory: there is no
// unpacked weight in memory.
//
// Shared memory is a ring of STAGES tiles of 64 columns of K, 64 bytes a row. The
// 16-byte pieces of a row are stored at piece ^ (row / 2 % 4): the 8 rows of a
// matrix that ldmatrix reads are then in 8 different sixteenths of the banks.
//
// Floor: 2 N M K operations at 1979 TOPS (H200, dense int8): N = 65536, M = K =
// 2048: 278 us; y as bf16 56 us at 4.8 TB/s. mma.sync reaches about 0.6 of the peak
// of Hopper's own wgmma, and a 64x32 tile a warp takes 6 ldmatrix for 16 mma_s8,
// which shared memory delivers in the time of the products: half of the floor's
// speed is what this design should reach. The code of NVRTC 12.9 for sm_90 has about
// 155 instructions a warp for 64 columns, 32 of them products, and 190 more where a
// group ends: with groups of 128 about as many as the schedulers issue while the
// tensor cores are busy.
constexpr int STAGES = 3, PIECE = 64;

template <int MT, int NT, int WM, int WN> struct Tile {
  static constexpr int ROWS = WM * MT * 16, WIDE = WN * NT * 8, THREADS = WM * WN * 32;
  static constexpr int BYTES = (ROWS + WIDE) * PIECE, COPIES = ROWS * 4 / THREADS;
  static_assert(ROWS * 4 % THREADS == 0 && WIDE * 2 <= THREADS && NT % 2 == 0, "work that threads do not share evenly");

  Weight w;
  int N;
  size_t n0, m0;
  char *shared;
  const s8 *rows[COPIES];  // what this thread copies of tile 0
  const u8 *source;        // and unpacks
  int acc[MT][NT][4];
  float sum[MT][NT][4];
  float scale[NT][2];

  // place is where a piece of a row lies. Eight rows on it is as much further, and
  // two pieces on in another half of 32 bytes: the address with that bit flipped.
  __device__ static int place(int row, int piece) { return row * PIECE + ((piece ^ (row >> 1 & 3)) << 4); }

  __device__ void aim(const s8 *q, int Kp) {
#pragma unroll
    for (int u = 0; u < COPIES; u++) {
      size_t n = n0 + (threadIdx.x + u * THREADS) / 4;
      rows[u] = q + (n < N ? n : N - 1) * Kp + (threadIdx.x & 3) * 16;
    }
    size_t m = m0 + threadIdx.x / 2;
    source = w.codes + ((m < w.M ? m : w.M - 1) * (size_t)w.K + (threadIdx.x & 1) * 32) / 8 * BITS;
  }

  __device__ void fetch_rows(int k, int stage) {
    char *to = shared + stage + place(threadIdx.x / 4, threadIdx.x & 3);
#pragma unroll
    for (int u = 0; u < COPIES; u++) copy16(to + u * (THREADS / 4) * PIECE, rows[u] + (size_t)k * PIECE);
  }

  // fetch_codes reads the codes of tile k; those beyond K meet zeros of q.
  __device__ Packed<BITS> fetch_codes(int k) {
    Packed<BITS> codes{};
    if (threadIdx.x < WIDE * 2 && k * PIECE + (threadIdx.x & 1) * 32 < w.K) load_packed(codes, source + (size_t)k * (PIECE / 8 * BITS));
    return codes;
  }

  __device__ void put_codes(const Packed<BITS> &codes, int stage) {
    if (threadIdx.x >= WIDE * 2) return;
    u32 v[8];
    unpack(v, codes, w.book);
    char *to = shared + stage + ROWS * PIECE;
    int row = threadIdx.x / 2, piece = (threadIdx.x & 1) * 2;
    *(uint4 *)(to + place(row, piece)) = make_uint4(v[0], v[1], v[2], v[3]);
    *(uint4 *)(to + place(row, piece + 1)) = make_uint4(v[4], v[5], v[6], v[7]);
  }

  // multiply adds 32 columns of K, half h of the tile in stage.
  __device__ void multiply(int stage, int h) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const char *a = shared + stage + (place(warp % WM * MT * 16 + (lane & 15), lane >> 4) ^ h * 32);
    const char *b = shared + stage + ROWS * PIECE + (place(warp / WM * NT * 8 + (lane & 7) + (lane >> 4) * 8, lane >> 3 & 1) ^ h * 32);
    u32 right[NT][2];
#pragma unroll
    for (int j = 0; j < NT; j += 2) {
      u32 r[4];
      ldmatrix4(r, b + j * 8 * PIECE);
      right[j][0] = r[0], right[j][1] = r[1], right[j + 1][0] = r[2], right[j + 1][1] = r[3];
    }
#pragma unroll
    for (int i = 0; i < MT; i++) {
      u32 left[4];
      ldmatrix4(left, a + i * 16 * PIECE);
#pragma unroll
      for (int j = 0; j < NT; j++) mma_s8(acc[i][j], left, right[j]);
    }
  }

  // column is that of the first two results of product j, and row those of product
  // i, which has two, 8 apart.
  __device__ size_t column(int j) { return m0 + (threadIdx.x >> 5) / WM * NT * 8 + j * 8 + (threadIdx.x & 3) * 2; }
  __device__ size_t row(int i, int half) { return n0 + (threadIdx.x >> 5) % WM * MT * 16 + i * 16 + (threadIdx.x >> 2 & 7) + half * 8; }

  // load_scales reads those of a group before its products, which hide the wait.
  __device__ void load_scales(int g) {
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        size_t m = column(j) + e;
        scale[j][e] = w.scales[(m < w.M ? m : w.M - 1) * w.scale_row + g];
      }
  }

  __device__ void close_group() {
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int j = 0; j < NT; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          sum[i][j][e] = fmaf((float)acc[i][j][e], scale[j][e & 1], sum[i][j][e]);
          acc[i][j][e] = 0;
        }
  }

  // Stages are told by where they begin in shared: of a pointer that a loop carries the
  // compiler does not see that it is to shared memory.
  __device__ static int after(int stage) { return stage == (STAGES - 1) * BYTES ? 0 : stage + BYTES; }

  __device__ void run(int pieces) {
    int groups = w.K / w.group, g = 0, left = w.group;
    int now = 0, next = (STAGES - 1) * BYTES;
    Packed<BITS> codes[STAGES];  // all on the way at once: no block hides another's wait
#pragma unroll
    for (int k = 0; k < STAGES; k++) codes[k] = fetch_codes(k);
#pragma unroll
    for (int k = 0; k < STAGES - 1; k++) {
      if (k < pieces) fetch_rows(k, k * BYTES);
      copies_commit();
    }
    load_scales(0);
#pragma unroll
    for (int k = 0; k < STAGES - 1; k++) put_codes(codes[k], k * BYTES);
    Packed<BITS> coming = codes[STAGES - 1];
#pragma unroll 1
    for (int k = 0; k < pieces; k++) {
      copies_wait<STAGES - 2>();
      __syncthreads();  // tile k is there, and what tile k-1 lay in is free
      if (k + STAGES - 1 < pieces) {
        fetch_rows(k + STAGES - 1, next);
        put_codes(coming, next);
        coming = fetch_codes(k + STAGES);
      }
      copies_commit();
#pragma unroll
      for (int h = 0; h < 2; h++) {
        multiply(now, h);
        if ((left -= 32) > 0) continue;
        left = w.group;
        close_group();
        if (++g < groups) load_scales(g);
      }
      now = after(now), next = after(next);
    }
  }

  // write stores the results, of a WHOLE tile two at a time and without a look at the
  // edges.
  template <bool WHOLE, class T> __device__ void write(const float *unit, T *y, int ld) {
    // The rows' scales are read before anything is written: for all that the compiler
    // knows, y lies over them.
    float s[MT][2];
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) s[i / 2][i & 1] = WHOLE || row(i / 2, i & 1) < N ? unit[row(i / 2, i & 1)] : 0;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        size_t n = row(i, h);
        if (!WHOLE && n >= N) continue;
        T *to = y + n * ld + column(0);
#pragma unroll
        for (int j = 0; j < NT; j++) {
          float lo = sum[i][j][2 * h] * s[i][h], hi = sum[i][j][2 * h + 1] * s[i][h];
          if (WHOLE) {
            put2(to + j * 8, lo, hi);
            continue;
          }
          if (column(j) < w.M) to[j * 8] = narrow<T>(lo);
          if (column(j) + 1 < w.M) to[j * 8 + 1] = narrow<T>(hi);
        }
      }
  }
  __device__ static void put2(float *to, float lo, float hi) { *(float2 *)to = make_float2(lo, hi); }
  __device__ static void put2(bf16 *to, float lo, float hi) { *(u32 *)to = pack_bf16(lo, hi); }

  template <class T> __device__ void write(const float *unit, T *y, int ld) {
    if (n0 + ROWS <= N && m0 + WIDE <= w.M && ld % 2 == 0) write<true>(unit, y, ld);
    else write<false>(unit, y, ld);
  }
};

template <int MT, int NT, int WM, int WN>
__device__ __forceinline__ void tile(char *shared, const s8 *q, const float *unit, const Weight &w, int N, int Kp, void *y, int ld, int narrow) {
  Tile<MT, NT, WM, WN> t{w, N};
  size_t across = (w.M + t.WIDE - 1) / t.WIDE;
  t.n0 = blockIdx.x / across * t.ROWS, t.m0 = blockIdx.x % across * t.WIDE;
  t.shared = shared;
  t.aim(q, Kp);
  t.run(Kp / PIECE);
  if (narrow) t.write(unit, (bf16 *)y, ld);
  else t.write(unit, (float *)y, ld);
}

// Large tiles are 128x128. Small ones, 32x32, are for few rows or columns, where
// they give more processors something to do: for N = 64, M = K = 2048 there are
// 128, each of which waits for memory more than it computes.
extern "C" __global__ void __launch_bounds__(256) KERNEL(int8_large)(OPERANDS) {
  extern __shared__ __align__(16) char shared[];
  tile<4, 4, 2, 4>(shared, q, unit, weight_of, N, Kp, y, ld, narrow);
}
extern "C" __global__ void __launch_bounds__(128) KERNEL(int8_small)(OPERANDS) {
  extern __shared__ __align__(16) char shared[];
  tile<1, 2, 2, 2>(shared, q, unit, weight_of, N, Kp, y, ld, narrow);
}

// Any group and any K, without tensor cores: 32 columns by 8 rows a block, in steps
// of up to 32 columns of K that end with their group.
extern "C" __global__ void __launch_bounds__(256) KERNEL(int8_any)(OPERANDS) {
  __shared__ int left[8][33], right[32][33];
  Weight w = weight_of;
  int column = threadIdx.x & 31, row = threadIdx.x >> 5;
  size_t across = (w.M + 31) / 32, m0 = blockIdx.x % across * 32, n0 = blockIdx.x / across * 8;
  size_t bytes = ((size_t)w.K * BITS + 7) / 8, m = m0 + column, n = n0 + row;
  float sum = 0;
  for (int g = 0; g < w.K / w.group; g++) {
    int d = 0;
    for (int k0 = 0; k0 < w.group; k0 += 32) {
      int depth = w.group - k0 < 32 ? w.group - k0 : 32;
      size_t k = (size_t)g * w.group + k0 + column;
      __syncthreads();
      if (column < depth) {
        left[row][column] = n < N ? q[n * Kp + k] : 0;
        for (int r = row; r < 32; r += 8) right[r][column] = m0 + r < w.M ? level_at(w.book, w.codes + (m0 + r) * bytes, BITS, k) : 0;
      }
      __syncthreads();
      for (int e = 0; e < depth; e++) d += left[row][e] * right[column][e];
    }
    if (m < w.M) sum = fmaf((float)d, w.scales[m * w.scale_row + g], sum);
  }
  if (m < w.M && n < N) store(y, n * ld + m, narrow, sum * unit[n]);
}
