// Rotary embeddings (Su et al., arXiv 2104.09864): pairs (2i, 2i+1) of x [B,T,H,D]
// are turned by (pos[b]+t) * frequency[i] radians.
//
// A frequency comes as the fraction of a turn per position, in units of 2^-64 of a
// turn. Then an angle is a product of integers, of which whole turns fall away by
// themselves: it is exact at every position, where the product of floats has lost a
// hundredth of a radian at position 10^5.
//
// Floor on an H200 (4.8 TB/s): x is read and written once, 4*B*T*H*D bytes in bf16;
// 16384 tokens with 12 heads of 64 are 50 MB or 10 us. Accesses are 16 bytes and a
// warp's are contiguous, and a sine and cosine serve 4 heads, so that 80% should be
// reached.
#include "rope.cuh"

static constexpr int kHeads = 4;  // that a thread turns by the same angles

// turn_pairs turns eight neighbors by four angles, in 16 byte accesses. A pair is a
// complex number times c + is.
__device__ __forceinline__ float4 turn_pairs(float4 v, const float *s, const float *c) {
  float2 lo = turned(v.x, v.y, s[0], c[0]), hi = turned(v.z, v.w, s[1], c[1]);
  return make_float4(lo.x, lo.y, hi.x, hi.y);
}

// Pairs are P of them as they are read, and written once they are turned.
template <int P> struct Pairs;
template <> struct Pairs<1> {
  float x, y;
  __device__ __forceinline__ void read(const void *from, size_t i, bool is_bf16) { x = load(from, i, is_bf16), y = load(from, i + 1, is_bf16); }
  __device__ __forceinline__ void write(void *out, size_t i, const float *s, const float *c, u32 narrow) const {
    float2 v = turned(x, y, s[0], c[0]);
    store(out, i, narrow & 2, v.x);
    store(out, i + 1, narrow & 2, v.y);
  }
};
template <> struct Pairs<4> {
  uint4 a, b;
  __device__ __forceinline__ void read(const void *from, size_t i, bool is_bf16) {
    if (is_bf16) a = *(const uint4 *)((const bf16 *)from + i);
    else a = ((const uint4 *)((const float *)from + i))[0], b = ((const uint4 *)((const float *)from + i))[1];
  }
  __device__ __forceinline__ void write(void *out, size_t i, const float *s, const float *c, u32 narrow) const;
};
__device__ __forceinline__ void Pairs<4>::write(void *out, size_t i, const float *s, const float *c, u32 narrow) const {
  float4 lo, hi;
  if (narrow & 1) {
    lo = make_float4(bits_to_float(a.x << 16), bits_to_float(a.x & 0xffff0000u), bits_to_float(a.y << 16), bits_to_float(a.y & 0xffff0000u));
    hi = make_float4(bits_to_float(a.z << 16), bits_to_float(a.z & 0xffff0000u), bits_to_float(a.w << 16), bits_to_float(a.w & 0xffff0000u));
  } else {
    lo = make_float4(bits_to_float(a.x), bits_to_float(a.y), bits_to_float(a.z), bits_to_float(a.w));
    hi = make_float4(bits_to_float(b.x), bits_to_float(b.y), bits_to_float(b.z), bits_to_float(b.w));
  }
  lo = turn_pairs(lo, s, c), hi = turn_pairs(hi, s + 2, c + 2);
  if (narrow & 2) {
    *(uint4 *)((bf16 *)out + i) = make_uint4(pack_bf16(lo.x, lo.y), pack_bf16(lo.z, lo.w), pack_bf16(hi.x, hi.y), pack_bf16(hi.z, hi.w));
  } else store4(out, i, false, lo), store4(out, i + 4, false, hi);
}

// A thread turns P pairs that are neighbors, 1 or 4, of kHeads heads. sign is -1 to turn
// back. narrow: bit 0 is x, bit 1 the result, which may lie over x: so that all heads
// are on the way at once they are read before the first is written.
template <int P>
__device__ __forceinline__ void rope(const void *x, const int *pos, const u64 *turns, void *out, u64 threads, int T, int H, int D, float sign, u32 narrow) {
  u64 id = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (id >= threads) return;
  int parts = D / (2 * P), blocks = (H + kHeads - 1) / kHeads;
  int part = (int)(id % parts), head = (int)(id / parts % blocks) * kHeads;
  u64 row = id / parts / blocks, at = (u64)((long long)pos[row / T] + (long long)(row % T));
  Pairs<P> v[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; h++)
    if (head + h < H) v[h].read(x, (row * H + head + h) * D + part * (2 * P), narrow & 1);
  float s[P], c[P];
#pragma unroll
  for (int i = 0; i < P; i++) {
    sincos_turn(at * turns[part * P + i], &s[i], &c[i]);
    s[i] *= sign;
  }
#pragma unroll
  for (int h = 0; h < kHeads; h++)
    if (head + h < H) v[h].write(out, (row * H + head + h) * D + part * (2 * P), s, c, narrow);
}

extern "C" __global__ void __launch_bounds__(128)
    rope_pairs(const void *x, const int *pos, const u64 *turns, void *out, u64 threads, int T, int H, int D, float sign, u32 narrow) {
  rope<1>(x, pos, turns, out, threads, T, H, D, sign, narrow);
}

extern "C" __global__ void __launch_bounds__(128)
    rope_octets(const void *x, const int *pos, const u64 *turns, void *out, u64 threads, int T, int H, int D, float sign, u32 narrow) {
  rope<4>(x, pos, turns, out, threads, T, H, D, sign, narrow);
}
