// The sum and the largest element of each of the rows of a matrix, a block for
// each: warps reduce by shuffles, and meet in shared memory.
#define WARPS 8

template <bool sum> __device__ float reduce(float v) {
  __shared__ float partial[WARPS];
  for (int offset = 16; offset > 0; offset /= 2) {
    float other = __shfl_down_sync(0xffffffffu, v, offset);
    v = sum ? v + other : fmaxf(v, other);
  }
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) partial[warp] = v;
  __syncthreads();
  v = partial[0];
  for (int i = 1; i < WARPS; i++) v = sum ? v + partial[i] : fmaxf(v, partial[i]);
  return v;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) rowsum(const float *x, float *sums, float *maxima, int columns) {
  const float *row = x + (size_t)blockIdx.x * columns;
  float s = 0, m = __int_as_float(0xff800000);  // -infinity
  for (int i = threadIdx.x; i < columns; i += blockDim.x) {
    s += row[i];
    m = fmaxf(m, row[i]);
  }
  s = reduce<true>(s);
  m = reduce<false>(m);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = s;
    maxima[blockIdx.x] = m;
  }
}
