// What is computed element by element, over arrays that begin on 16 bytes: whole
// chunks of 4, and an end of fewer elements one by one.
#include "rows.cuh"

// each calls f<4>(i) for every whole chunk and f<1>(i) for what is left of n.
template <class F> __device__ __forceinline__ void each(u64 n, F f) {
  for (u64 c = flat_index(); c < n / 4; c += flat_step()) f.template at<4>(c * 4);
  u64 rest = n / 4 * 4 + flat_index();
  if (rest < n) f.template at<1>(rest);
}

// swiglu: silu(gate) * up (Shazeer, arXiv 2002.05202). The result may lie over
// either.
//
// Floor: three arrays. 16384 x 2048 in f32: 403 MB, 84 us; in bf16 half of it, with
// about 30 instructions for the 6 bytes of an element: a third of what the
// multiprocessors issue in that time.
struct SwiGLU {
  const void *gate, *up;
  void *z;
  u32 narrow;
  template <int V> __device__ __forceinline__ void at(size_t i) const {
    bits<V> gb = fetch<V>(gate, i, narrow & 1), ub = fetch<V>(up, i, narrow & 2);
    chunk<V> g = widen<V>(gb, narrow & 1), u = widen<V>(ub, narrow & 2);
#pragma unroll
    for (int e = 0; e < V; e++) u.v[e] *= g.v[e] * sigmoid(g.v[e]);
    put<V>(z, i, narrow & 4, u);
  }
};

extern "C" __global__ void __launch_bounds__(256) swiglu(const void *gate, const void *up, void *z, u64 n, u32 narrow) {
  each(n, SwiGLU{gate, up, z, narrow});
}

// swiglu_vjp: with s = sigmoid(gate), dgate = g * up * s * (1 + gate * (1 - s)) and
// dup = g * gate * s. Results may lie over operands: an element is read whole
// before it is written.
//
// Floor: five arrays. 16384 x 2048 in f32: 671 MB, 140 us; in bf16 half.
struct SwiGLUVJP {
  const void *gate, *up, *g;
  void *dgate, *dup;
  u32 narrow;
  template <int V> __device__ __forceinline__ void at(size_t i) const {
    bits<V> xb = fetch<V>(gate, i, narrow & 1), ub = fetch<V>(up, i, narrow & 2), gb = fetch<V>(g, i, narrow & 4);
    chunk<V> x = widen<V>(xb, narrow & 1), u = widen<V>(ub, narrow & 2), d = widen<V>(gb, narrow & 4);
#pragma unroll
    for (int e = 0; e < V; e++) {
      float s = sigmoid(x.v[e]), gs = d.v[e] * s;
      d.v[e] = gs * u.v[e] * (1 + x.v[e] * (1 - s));
      u.v[e] = gs * x.v[e];
    }
    put<V>(dgate, i, narrow & 8, d);
    put<V>(dup, i, narrow & 16, u);
  }
};

extern "C" __global__ void __launch_bounds__(256)
    swiglu_vjp(const void *gate, const void *up, const void *g, void *dgate, void *dup, u64 n, u32 narrow) {
  each(n, SwiGLUVJP{gate, up, g, dgate, dup, narrow});
}

// rewiden copies an array into the other width.
struct Rewiden {
  const void *x;
  void *z;
  u32 narrow;
  template <int V> __device__ __forceinline__ void at(size_t i) const { put<V>(z, i, narrow & 2, get<V>(x, i, narrow & 1)); }
};

extern "C" __global__ void __launch_bounds__(256) rewiden(const void *x, void *z, u64 n, u32 narrow) { each(n, Rewiden{x, z, narrow}); }

// adamw is a step of AdamW (Loshchilov and Hutter, arXiv 1711.05101), its decay
// scaled by the learning rate; correct1 and correct2 are 1 - beta^t. Results may
// lie over p, m and v.
//
// Floor: 28 bytes an element: 124 M parameters move 3.5 GB, 0.72 ms.
struct AdamW {
  const float *p, *g, *m, *v, *lr, *correct1, *correct2;
  float *p2, *m2, *v2;
  float beta1, rest1, beta2, rest2, eps, decay;
  template <int V> __device__ __forceinline__ void at(size_t i) const {
    chunk<V> pc = get<V>(p, i, false), gc = get<V>(g, i, false), mc = get<V>(m, i, false), vc = get<V>(v, i, false);
    float rate = *lr, c1 = *correct1, c2 = *correct2;
#pragma unroll
    for (int e = 0; e < V; e++) {
      float g = gc.v[e], m = fmaf(beta1, mc.v[e], rest1 * g), v = fmaf(beta2, vc.v[e], rest2 * (g * g));
      float step = fmaf(decay, pc.v[e], m / c1 / (sqrtf(v / c2) + eps));
      pc.v[e] = fmaf(-rate, step, pc.v[e]), mc.v[e] = m, vc.v[e] = v;
    }
    put<V>(p2, i, false, pc);
    put<V>(m2, i, false, mc);
    put<V>(v2, i, false, vc);
  }
};

extern "C" __global__ void __launch_bounds__(256)
    adamw(const float *p, const float *g, const float *m, const float *v, const float *lr, const float *correct1, const float *correct2, float *p2,
          float *m2, float *v2, u64 n, float beta1, float rest1, float beta2, float rest2, float eps, float decay) {
  each(n, AdamW{p, g, m, v, lr, correct1, correct2, p2, m2, v2, beta1, rest1, beta2, rest2, eps, decay});
}
