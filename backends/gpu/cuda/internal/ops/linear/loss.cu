// Cross-entropy of a block of logits, and its gradient in their place.
#include "tern.cuh"

// Sum is a sum of exponentials of numbers up to top, less top.
struct Sum {
  float top, sum;
};

// With no number yet, or minus infinity alone, top is minus infinity: what is
// subtracted is then 0, so that the sum is 0 and not NaN.
__device__ __forceinline__ float offset_of(float top) { return top == -bits_to_float(0x7f800000) ? 0.0f : top; }

__device__ __forceinline__ void see(Sum *s, float a, float b, float c, float d) {
  float top = fmaxf(s->top, fmaxf(fmaxf(a, b), fmaxf(c, d))), less = offset_of(top);
  s->sum = s->sum * expf(s->top - less) + ((expf(a - less) + expf(b - less)) + (expf(c - less) + expf(d - less)));
  s->top = top;
}

// four is elements i to i+3 of a row of V, of which some may lie beyond: it has room
// for them. Rows are read one such step ahead of what is done with them.
__device__ __forceinline__ float4 four(const float *x, int i, int V) { return i < V ? *(const float4 *)(x + i) : make_float4(0, 0, 0, 0); }

// log_sum is log(sum(exp(x))) of a row, read once (Milakov and Gimelshein, arXiv
// 1805.02867). NaN stays one.
__device__ __forceinline__ float log_sum(const float *x, int V, float *parts) {
  const float none = -bits_to_float(0x7f800000);
  Sum s = {none, 0};
  float4 next = four(x, threadIdx.x * 4, V);
  for (int i = threadIdx.x * 4, step = blockDim.x * 4; i < V; i += step) {
    float4 v = next;
    next = four(x, i + step, V);
    see(&s, v.x, i + 1 < V ? v.y : none, i + 2 < V ? v.z : none, i + 3 < V ? v.w : none);
  }
  float top = block_max(s.top, parts), less = offset_of(top);
  return less + logf(block_sum(s.sum * expf(s.top - less), parts));
}

// Rows of V logits, ld apart (a multiple of 4), with targets: nll gets the loss of
// each if there is one, and if there is a cotangent g the row becomes
// g*(softmax - onehot), as f32 or as bf16 from the row's beginning. The bf16 number
// of an element lies at or before it, and all threads of the block have read what
// a step writes over. The gradient of what lies between V and ld is 0.
//
// Floor on an H200: 4 bytes a logit for the loss, 10 with a gradient in bf16 (a row is
// read twice: the 528 rows of 200 KB that are under way are twice what the L2 cache
// holds): 4096 rows of 50257: 429 us. The exponentials are about 30 instructions a
// logit, 210 us.
extern "C" __global__ void __launch_bounds__(512) head_loss(float *logits, const int *targets, float *nll, const float *g, int V, int ld, int narrow,
                                                                 int *failure, int node) {
  __shared__ float parts[33];
  size_t n = blockIdx.x;
  float *x = logits + n * ld;
  int target = targets[n];
  bool counts = target >= 0 && target < V;
  if (target >= V && threadIdx.x == 0) fail(failure, node, target);
  float total = counts ? log_sum(x, V, parts) : 0, at = counts ? x[target] : 0;
  if (nll && threadIdx.x == 0) nll[n] = total - at;
  if (!g) return;
  float by = g[n];
  float4 next = four(x, threadIdx.x * 4, V);
  for (int i0 = 0, step = blockDim.x * 4; i0 < ld; i0 += step) {
    int i = i0 + threadIdx.x * 4;
    float4 v = next;
    next = four(x, i + step, V);
    __syncthreads();
    if (i >= ld) continue;
    v.x = counts ? by * (expf(v.x - total) - (float)(i == target)) : 0;
    v.y = counts ? by * (expf(v.y - total) - (float)(i + 1 == target)) : 0;
    v.z = counts ? by * (expf(v.z - total) - (float)(i + 2 == target)) : 0;
    v.w = counts ? by * (expf(v.w - total) - (float)(i + 3 == target)) : 0;
    if (i + 4 > V) {
      if (i >= V) v.x = 0;
      if (i + 1 >= V) v.y = 0;
      if (i + 2 >= V) v.z = 0;
      v.w = 0;
    }
    store4(x, i, narrow, v);
  }
}
