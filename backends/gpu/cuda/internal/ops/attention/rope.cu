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
#include "tern.cuh"

static constexpr int kHeads = 4;  // that a thread turns by the same angles

// sincos_turn is sine and cosine of an angle in units of 2^-64 of a turn.
__device__ __forceinline__ void sincos_turn(u64 angle, float *s, float *c) {
  float half = (float)(int)(angle >> 32) * 4.656612873077392578125e-10f;  // 2^-31: half turns, -1 to 1
#ifdef TERN_FAKE_CUDA
  *s = (float)sin(3.14159265358979323846 * half), *c = (float)cos(3.14159265358979323846 * half);
#else
  sincospif(half, s, c);
#endif
}

// turn_pairs turns eight neighbors by four angles, in 16 byte accesses. A pair is a
// complex number times c + is.
__device__ __forceinline__ float4 turn_pairs(float4 v, const float *s, const float *c) {
  return make_float4(v.x * c[0] - v.y * s[0], v.x * s[0] + v.y * c[0], v.z * c[1] - v.w * s[1], v.z * s[1] + v.w * c[1]);
}
__device__ __forceinline__ void turn8(const void *x, void *out, size_t i, const float s[4], const float c[4], u32 narrow) {
  float4 lo, hi;
  if (narrow & 1) {
    uint4 v = *(const uint4 *)((const bf16 *)x + i);
    lo = make_float4(bits_to_float(v.x << 16), bits_to_float(v.x & 0xffff0000u), bits_to_float(v.y << 16), bits_to_float(v.y & 0xffff0000u));
    hi = make_float4(bits_to_float(v.z << 16), bits_to_float(v.z & 0xffff0000u), bits_to_float(v.w << 16), bits_to_float(v.w & 0xffff0000u));
  } else lo = load4(x, i, false), hi = load4(x, i + 4, false);
  lo = turn_pairs(lo, s, c), hi = turn_pairs(hi, s + 2, c + 2);
  if (narrow & 2) {
    *(uint4 *)((bf16 *)out + i) = make_uint4(pack_bf16(lo.x, lo.y), pack_bf16(lo.z, lo.w), pack_bf16(hi.x, hi.y), pack_bf16(hi.z, hi.w));
  } else store4(out, i, false, lo), store4(out, i + 4, false, hi);
}

// A thread turns P pairs that are neighbors, 1 or 4, of kHeads heads. sign is -1 to turn
// back. narrow: bit 0 is x, bit 1 the result, which may lie over x.
template <int P>
__device__ __forceinline__ void rope(const void *x, const int *pos, const u64 *turns, void *out, u64 threads, int T, int H, int D, float sign, u32 narrow) {
  u64 id = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (id >= threads) return;
  int parts = D / (2 * P), blocks = (H + kHeads - 1) / kHeads;
  int part = (int)(id % parts), head = (int)(id / parts % blocks) * kHeads;
  u64 row = id / parts / blocks, at = (u64)((long long)pos[row / T] + (long long)(row % T));
  float s[P], c[P];
#pragma unroll
  for (int i = 0; i < P; i++) {
    sincos_turn(at * turns[part * P + i], &s[i], &c[i]);
    s[i] *= sign;
  }
#pragma unroll
  for (int h = head; h < head + kHeads; h++) {
    if (h >= H) break;
    size_t i = (row * H + h) * D + part * (2 * P);
    if constexpr (P == 4) turn8(x, out, i, s, c, narrow);
    else {
      float x0 = load(x, i, narrow & 1), x1 = load(x, i + 1, narrow & 1);
      store(out, i, narrow & 2, x0 * c[0] - x1 * s[0]);
      store(out, i + 1, narrow & 2, x0 * s[0] + x1 * c[0]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(128)
    rope_pairs(const void *x, const int *pos, const u64 *turns, void *out, u64 threads, int T, int H, int D, float sign, u32 narrow) {
  rope<1>(x, pos, turns, out, threads, T, H, D, sign, narrow);
}

extern "C" __global__ void __launch_bounds__(128)
    rope_octets(const void *x, const int *pos, const u64 *turns, void *out, u64 threads, int T, int H, int D, float sign, u32 narrow) {
  rope<4>(x, pos, turns, out, threads, T, H, D, sign, narrow);
}
