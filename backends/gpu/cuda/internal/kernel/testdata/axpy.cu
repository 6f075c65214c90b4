// y = a x + y, and a copy of it as bf16, over n elements.
#include "round.cuh"

extern "C" __global__ void axpy(float a, const float *x, float *y, unsigned short *narrow, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    float v = a * x[i] + y[i];
    y[i] = v;
    narrow[i] = to_bf16(v);
  }
}
