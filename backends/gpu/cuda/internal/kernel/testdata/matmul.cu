// C [M,N] = A [M,K] B [K,N], row major, in tiles of shared memory: that of A is
// static, that of B dynamic.
#define TILE 16

extern "C" __global__ void matmul(const float *a, const float *b, float *c, int m, int n, int k) {
  __shared__ float left[TILE][TILE + 1];
  extern __shared__ __align__(16) float right[];  // [TILE][TILE]
  int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
  float sum = 0;
  for (int from = 0; from < k; from += TILE) {
    int ka = from + threadIdx.x, kb = from + threadIdx.y;
    left[threadIdx.y][threadIdx.x] = row < m && ka < k ? a[(size_t)row * k + ka] : 0;
    right[threadIdx.y * TILE + threadIdx.x] = kb < k && col < n ? b[(size_t)kb * n + col] : 0;
    __syncthreads();
    for (int i = 0; i < TILE; i++) sum += left[threadIdx.y][i] * right[i * TILE + threadIdx.x];
    __syncthreads();
  }
  if (row < m && col < n) c[(size_t)row * n + col] = sum;
}
