// Queries and keys are turned by their positions, and keys and values written into
// their caches, by one kernel instead of four. The bits are those of rope and
// updateat.
//
// Floor: queries, keys and values once in and once out. 256 sequences with 12 heads
// of 64, all three in f32: 4.7 MB, 1 us: the launch is what is seen.
#include "rope.cuh"

__device__ __forceinline__ void store_as(void *p, size_t i, int kind, float v) {
  if (kind == 2) ((f16 *)p)[i] = to_f16(v);
  else store(p, i, kind == 1, v);
}

// get and put move P pairs; four by accesses of 16 bytes where they are f32.
template <int P> __device__ __forceinline__ void get(float *v, const void *p, size_t i, bool is_bf16) {
  if constexpr (P == 4) {
    float4 lo = load4(p, i, is_bf16), hi = load4(p, i + 4, is_bf16);
    v[0] = lo.x, v[1] = lo.y, v[2] = lo.z, v[3] = lo.w, v[4] = hi.x, v[5] = hi.y, v[6] = hi.z, v[7] = hi.w;
  } else v[0] = load(p, i, is_bf16), v[1] = load(p, i + 1, is_bf16);
}
template <int P> __device__ __forceinline__ void put(const float *v, void *p, size_t i, int kind) {
  if constexpr (P == 4) {
    if (kind < 2) {
      store4(p, i, kind == 1, make_float4(v[0], v[1], v[2], v[3]));
      store4(p, i + 4, kind == 1, make_float4(v[4], v[5], v[6], v[7]));
      return;
    }
    u32 w[4];
#pragma unroll
    for (int j = 0; j < 4; j++) w[j] = (u32)to_f16(v[2 * j]).bits | (u32)to_f16(v[2 * j + 1]).bits << 16;
    *(uint4 *)((f16 *)p + i) = make_uint4(w[0], w[1], w[2], w[3]);
  } else store_as(p, i, kind, v[0]), store_as(p, i + 1, kind, v[1]);
}

// A thread has P pairs of a head: of a query, which goes to out and may lie there, a
// key or a value. limit is how many tokens of a sequence a cache holds. narrow has a bit
// for each operand and result of the node.
template <int P>
__device__ __forceinline__ void append(const void *q, const void *k, const void *v, void *out, void *keys, void *values, const int *pos, const u64 *turns,
                                       u64 count, int T, int H, int KV, int D, int limit, u32 narrow, int key_kind, int value_kind, int *failure, int node) {
  u64 id = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (id >= count) return;
  int parts = D / (2 * P), part = (int)(id % parts), head = (int)(id / parts % (H + 2 * KV));
  u64 row = id / parts / (H + 2 * KV), b = row / T;
  int p = pos[b], token = (int)(row % T), at = part * 2 * P;
  bool query = head < H, value = head >= H + KV;
  int other = value ? head - H - KV : head - H;
  float x[2 * P];
  get<P>(x, query ? q : value ? v : k, query ? (row * H + head) * D + at : (row * KV + other) * D + at, narrow >> (query ? 3 : value ? 5 : 4) & 1);
  if (!value) {
#pragma unroll
    for (int i = 0; i < P; i++) {
      float s, c;
      sincos_turn((u64)((long long)p + token) * turns[part * P + i], &s, &c);
      float2 z = turned(x[2 * i], x[2 * i + 1], s, c);
      x[2 * i] = z.x, x[2 * i + 1] = z.y;
    }
  }
  if (query) return put<P>(x, out, (row * H + head) * D + at, narrow >> 6 & 1);
  if (p < 0 || p > limit - T) {
    if (part == 0 && other == 0 && token == 0) fail(failure, node, p);
    return;
  }
  put<P>(x, value ? values : keys, ((b * limit + p + token) * KV + other) * D + at, value ? value_kind : key_kind);
}

#define APPEND(name, P)                                                                                                                                     \
  extern "C" __global__ void __launch_bounds__(256)                                                                                                         \
      joined_cache_##name(const void *q, const void *k, const void *v, void *out, void *keys, void *values, const int *pos, const u64 *turns, u64 count, int T, \
                          int H, int KV, int D, int limit, u32 narrow, int key_kind, int value_kind, int *failure, int node) {                              \
    append<P>(q, k, v, out, keys, values, pos, turns, count, T, H, KV, D, limit, narrow, key_kind, value_kind, failure, node);                              \
  }

APPEND(pairs, 1)
APPEND(octets, 4)
