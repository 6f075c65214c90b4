// Products of floats for what cuBLASLt is not there for, does not take, or is slow
// at. Types are 0 f32, 1 bf16, 2 f16; sums are f32.
#include "tern.cuh"

__device__ __forceinline__ float load_typed(const void *p, size_t i, int type) { return type == 2 ? widen(((const f16 *)p)[i]) : load(p, i, type); }

// z [m,n] = x [m,k] y [k,n], added to z if it is to be: element (i,l) of x lies at
// i*x_row + l*x_step, (l,j) of y at l*y_row + j*y_step, rows of z are ld apart; the
// same for each of a batch. A block makes 32x32, a thread 2x2 of them, adding in
// the order of l.
//
// For small products, where the launch is all there is, and the fallback for all:
// it reads 64 floats of shared memory for 64 multiply-adds of a warp's lane, so
// that it may come to a tenth of the 67 TFLOPS of an H200 in f32.

__device__ __forceinline__ void load_tile(float (*to)[33], const void *from, int type, size_t row0, size_t step0, int rows, int steps, size_t row,
                                          size_t step) {
  for (int e = threadIdx.x; e < 1024; e += 256) {
    // Neighboring threads read neighboring elements.
    int i = step == 1 ? e >> 5 : e & 31, l = step == 1 ? e & 31 : e >> 5;
    to[l][i] = i < rows && l < steps ? load_typed(from, (row0 + i) * row + (step0 + l) * step, type) : 0;
  }
}

extern "C" __global__ void __launch_bounds__(256) product_tile(const void *x, const void *y, void *z, int x_type, int y_type, int z_type, int m, int n, int k,
                                                                    size_t x_row, size_t x_step, size_t x_batch, size_t y_row, size_t y_step, size_t y_batch,
                                                                    size_t ld, size_t z_batch, int add) {
  __shared__ float left[32][33], right[32][33];
  size_t across = (n + 31) / 32, down = (m + 31) / 32, batch = blockIdx.x / (across * down);
  size_t i0 = blockIdx.x / across % down * 32, j0 = blockIdx.x % across * 32;
  int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
  const char *from_x = (const char *)x + batch * x_batch * (x_type ? 2 : 4), *from_y = (const char *)y + batch * y_batch * (y_type ? 2 : 4);
  float sum[2][2] = {};
  for (int l0 = 0; l0 < k; l0 += 32) {
    __syncthreads();
    load_tile(left, from_x, x_type, i0, l0, m - i0 < 32 ? m - i0 : 32, k - l0, x_row, x_step);
    load_tile(right, from_y, y_type, j0, l0, n - j0 < 32 ? n - j0 : 32, k - l0, y_step, y_row);
    __syncthreads();
    int depth = k - l0 < 32 ? k - l0 : 32;
    for (int l = 0; l < depth; l++)
      for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) sum[a][b] = fmaf(left[l][ty + 16 * a], right[l][tx + 16 * b], sum[a][b]);
  }
  for (int a = 0; a < 2; a++)
    for (int b = 0; b < 2; b++) {
      size_t i = i0 + ty + 16 * a, j = j0 + tx + 16 * b, at = batch * z_batch + i * ld + j;
      if (i >= m || j >= n) continue;
      store(z, at, z_type, add ? load(z, at, z_type) + sum[a][b] : sum[a][b]);
    }
}

__device__ __forceinline__ float4 four(const float *p) { return *(const float4 *)p; }
__device__ __forceinline__ float4 four(const bf16 *p) { return load4(p, 0, true); }
__device__ __forceinline__ float4 four(const f16 *p) {
  uint2 v = *(const uint2 *)p;
  f16 a{(u16)v.x}, b{(u16)(v.x >> 16)}, c{(u16)v.y}, d{(u16)(v.y >> 16)};
  return make_float4(widen(a), widen(b), widen(c), widen(d));
}

// z [m,n] = x [m,k] y^T for up to T rows: a warp makes R columns. The kernel of a
// float head in decoding; floor: the bytes of y (f16 [50257,768]: 77 MB, 16 us at
// 4.8 TB/s), of which 8 to 16 bytes a lane for each of R rows are under way.
template <int T, int R, class X, class Y>
__device__ __forceinline__ void few(const X *x, const Y *y, void *z, int z_type, int m, int n, int k, int ld) {
  int lane = threadIdx.x & 31;
  size_t j0 = ((size_t)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)) * R;
  if (j0 >= n) return;
  const Y *rows[R];
  float sum[R][T] = {};
#pragma unroll
  for (int r = 0; r < R; r++) rows[r] = y + (j0 + r < n ? j0 + r : n - 1) * k;
  if (k % 4 == 0) {
    for (int l = lane * 4; l < k; l += 128) {
      float4 b[R];
#pragma unroll
      for (int r = 0; r < R; r++) b[r] = four(rows[r] + l);
#pragma unroll
      for (int t = 0; t < T; t++) {
        float4 a = four(x + (size_t)(t < m ? t : m - 1) * k + l);
#pragma unroll
        for (int r = 0; r < R; r++) sum[r][t] = fmaf(a.x, b[r].x, fmaf(a.y, b[r].y, fmaf(a.z, b[r].z, fmaf(a.w, b[r].w, sum[r][t]))));
      }
    }
  } else {
    for (int l = lane; l < k; l += 32)
#pragma unroll
      for (int t = 0; t < T; t++) {
        float a = widen(x[(size_t)(t < m ? t : m - 1) * k + l]);
#pragma unroll
        for (int r = 0; r < R; r++) sum[r][t] = fmaf(a, widen(rows[r][l]), sum[r][t]);
      }
  }
#pragma unroll
  for (int t = 0; t < T; t++)
#pragma unroll
    for (int r = 0; r < R; r++) {
      float v = warp_sum(sum[r][t]);
      if (lane == 0 && t < m && j0 + r < n) store(z, (size_t)t * ld + j0 + r, z_type, v);
    }
}

// Kernels are named by T and the types of x and y.
#define FEW(T, R, X, Y)                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(128) product_few_##T##_##X##_##Y(const X *x, const Y *y, void *z, int z_type, int m, int n, int k, int ld) { \
    few<T, R>(x, y, z, z_type, m, n, k, ld);                                                                                                         \
  }
#define FEW_OF(X, Y) FEW(1, 4, X, Y) FEW(2, 4, X, Y) FEW(4, 2, X, Y) FEW(8, 2, X, Y)
FEW_OF(float, float)
FEW_OF(float, bf16)
FEW_OF(float, f16)
FEW_OF(bf16, float)
FEW_OF(bf16, bf16)
FEW_OF(bf16, f16)
