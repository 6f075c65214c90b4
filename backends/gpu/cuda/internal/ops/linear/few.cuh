// Products of a few rows: what the kernels of this file's includers share. They are
// compiled for codes of BITS bits.
#pragma once
#include "codes.cuh"

// A warp computes COLUMNS columns of y at a time for up to T rows of x, reading codes
// as they lie: the kernel of decoding. Lanes go over 32 codes each. span lanes share
// a group (span is a power of two), so that a warp has 32/span groups under way.
//
// Floor: the bytes of the codes. 2 bits, [50257,768]: 9.6 MB, 2.0 us; [2048,2048]:
// 1 MB, 0.2 us, where the launch is what is seen. Unpacking and dot products are
// about 25 instructions for 32 codes and one row, 1.9 us of an H200's issue slots
// for the first shape, and less than twice that for 2 rows.
//
// leave(t, m, v, here) gets element m of row t of y, where here says that there is
// one. All lanes call it, and those of a row's two columns are T lanes apart.
constexpr int COLUMNS = 2;

template <int T, class Leave>
__device__ __forceinline__ void few_columns(const s8 *q, const float *unit, const Weight &w, size_t m0, int N, int Kp, int span, const Leave &leave) {
  int lane = threadIdx.x & 31, part = lane & (span - 1), first = lane / span, step = 32 / span;
  int groups = w.K / w.group, pieces = w.group / 32;
  const u8 *codes[COLUMNS];
  const float *scales[COLUMNS];
  float acc[COLUMNS][T] = {};
#pragma unroll
  for (int r = 0; r < COLUMNS; r++) {
    size_t m = m0 + r < w.M ? m0 + r : w.M - 1;
    codes[r] = w.codes + m * (size_t)(w.K / 8) * BITS;
    scales[r] = w.scales + m * w.scale_row;
  }
  for (int g0 = 0; g0 < groups; g0 += step) {
    int d[COLUMNS][T] = {};
    float scale[COLUMNS];  // of the lane's group: on the way while codes are
#pragma unroll
    for (int r = 0; r < COLUMNS; r++) scale[r] = scales[r][min(g0 + first, groups - 1)];
    for (int c = g0 + first < groups ? part : pieces; c < pieces; c += span) {
      size_t at = (size_t)(g0 + first) * pieces + c;
      Packed<BITS> packed[COLUMNS];
      u32 v[COLUMNS][8];
#pragma unroll
      for (int r = 0; r < COLUMNS; r++) load_packed(packed[r], codes[r] + at * 4 * BITS);
#pragma unroll
      for (int r = 0; r < COLUMNS; r++) unpack(v[r], packed[r], w.book);
#pragma unroll
      for (int t = 0; t < T; t++) {
        const uint4 *row = (const uint4 *)(q + (size_t)(t < N ? t : N - 1) * Kp + at * 32);
        uint4 a = row[0], b = row[1];
#pragma unroll
        for (int r = 0; r < COLUMNS; r++) {
          int s = dot4(a.x, v[r][0], dot4(a.y, v[r][1], dot4(a.z, v[r][2], dot4(a.w, v[r][3], d[r][t]))));
          d[r][t] = dot4(b.x, v[r][4], dot4(b.y, v[r][5], dot4(b.z, v[r][6], dot4(b.w, v[r][7], s))));
        }
      }
    }
#pragma unroll 1
    for (int o = span / 2; o; o >>= 1)
#pragma unroll
      for (int i = 0; i < COLUMNS * T; i++) d[i / T][i % T] += __shfl_xor_sync(0xffffffffu, d[i / T][i % T], o);
#pragma unroll 1
    for (int j = 0; j < step && g0 + j < groups; j++)
#pragma unroll
      for (int r = 0; r < COLUMNS; r++) {
        float by = __shfl_sync(0xffffffffu, scale[r], j * span);
#pragma unroll
        for (int t = 0; t < T; t++) acc[r][t] = fmaf((float)__shfl_sync(0xffffffffu, d[r][t], j * span), by, acc[r][t]);
      }
  }
  // All lanes have all sums. Lane r T + t leaves that of column r and row t.
  int r = lane / T, t = lane % T;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < COLUMNS * T; i++)
    if (lane == i) sum = acc[i / T][i % T];
  bool here = r < COLUMNS && m0 + r < w.M && t < N;
  leave(t, m0 + r, here ? sum * unit[t] : 0.0f, here);
}

// prefetch_columns asks for the codes of a warp's first columns.
__device__ __forceinline__ void prefetch_columns(const Weight &w) {
  size_t bytes = (size_t)(w.K / 8) * BITS, m0 = ((size_t)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)) * COLUMNS;
  for (size_t m = m0; m < m0 + COLUMNS && m < w.M; m++)
    for (size_t i = (threadIdx.x & 31) * 128; i < bytes; i += 32 * 128) prefetch(w.codes + m * bytes + i);
}
