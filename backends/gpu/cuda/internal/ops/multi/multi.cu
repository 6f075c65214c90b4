// Many small tensors at once.
#include "tern.cuh"

// piece is what a block works on: n elements of one tensor. Go fills it in.
struct piece {
  const float *p, *g, *m, *v;
  float *p2, *m2, *v2;
  u64 n;
};

// multi_adamw is adamw of rows_elementwise.cu for each piece, with the same bits: a
// step of AdamW (Loshchilov and Hutter, arXiv 1711.05101), its decay scaled by the
// learning rate; correct1 and correct2 are 1 - beta^t. Gradients are multiplied by
// *clip, unless clip is null. Results may lie over p, m and v.
//
// Floor: 28 bytes an element. The 145 small parameters of nano-125m have 19,416
// elements, 0.5 MB: a tenth of a microsecond, so this takes what a launch takes, in
// place of 290 of them. Nothing is gained by wider accesses.
extern "C" __global__ void __launch_bounds__(256)
    multi_adamw(const piece *pieces, const float *clip, const float *lr, const float *correct1, const float *correct2, float beta1, float rest1,
                float beta2, float rest2, float eps, float decay) {
  piece x = pieces[blockIdx.x];
  float rate = *lr, c1 = *correct1, c2 = *correct2, scale = clip ? *clip : 1.0f;
  for (u64 i = threadIdx.x; i < x.n; i += blockDim.x) {
    float p = x.p[i], g = __fmul_rn(x.g[i], scale);
    float m = fmaf(beta1, x.m[i], rest1 * g), v = fmaf(beta2, x.v[i], rest2 * (g * g));
    float step = fmaf(decay, p, m / c1 / (sqrtf(v / c2) + eps));
    x.p2[i] = fmaf(-rate, step, p), x.m2[i] = m, x.v2[i] = v;
  }
}
