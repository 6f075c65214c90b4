// Warp intrinsics and atomic operations.
#pragma once

template <class T> static inline T tern_shuffle(int op, int line, unsigned mask, T value, int arg, int width = 32) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  unsigned long long bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = tern_rt->collective(op, mask, bits, arg, width, line);
  memcpy((void *)&value, &bits, sizeof value);
  return value;
}

#define __shfl_sync(...) tern_shuffle(TERN_SHFL, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) tern_shuffle(TERN_SHFL_UP, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) tern_shuffle(TERN_SHFL_DOWN, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) tern_shuffle(TERN_SHFL_XOR, __LINE__, __VA_ARGS__)

static inline void tern_syncwarp(int line, unsigned mask = 0xffffffffu) { tern_rt->collective(TERN_SYNCWARP, mask, 0, 0, 32, line); }
#define __syncwarp(...) tern_syncwarp(__LINE__, ##__VA_ARGS__)

#define TERN_VOTE(op, mask, p) tern_rt->collective(op, mask, (p) != 0, 0, 32, __LINE__)
#define __ballot_sync(mask, p) ((unsigned)TERN_VOTE(TERN_BALLOT, mask, p))
#define __all_sync(mask, p) ((int)TERN_VOTE(TERN_ALL, mask, p))
#define __any_sync(mask, p) ((int)TERN_VOTE(TERN_ANY, mask, p))

#define TERN_REDUCE(signed_op, unsigned_op, mask, v) tern_reduce(signed_op, unsigned_op, mask, v, __LINE__)
static inline int tern_reduce(int op, int, unsigned mask, int v, int line) { return (int)tern_rt->collective(op, mask, (unsigned)v, 0, 32, line); }
static inline unsigned tern_reduce(int, int op, unsigned mask, unsigned v, int line) { return (unsigned)tern_rt->collective(op, mask, v, 0, 32, line); }
#define __reduce_add_sync(mask, v) TERN_REDUCE(TERN_REDUCE_ADD, TERN_REDUCE_ADD, mask, v)
#define __reduce_min_sync(mask, v) TERN_REDUCE(TERN_REDUCE_MIN, TERN_REDUCE_UMIN, mask, v)
#define __reduce_max_sync(mask, v) TERN_REDUCE(TERN_REDUCE_MAX, TERN_REDUCE_UMAX, mask, v)
#define __reduce_and_sync(mask, v) TERN_REDUCE(TERN_REDUCE_AND, TERN_REDUCE_AND, mask, v)
#define __reduce_or_sync(mask, v) TERN_REDUCE(TERN_REDUCE_OR, TERN_REDUCE_OR, mask, v)
#define __reduce_xor_sync(mask, v) TERN_REDUCE(TERN_REDUCE_XOR, TERN_REDUCE_XOR, mask, v)

// One thread runs at a time, so an operation is atomic as it is. The second
// operand's type does not take part in finding T, as with CUDA's overloads.
template <class T> struct tern_same { typedef T type; };
#define TERN_ATOMIC(name, expression)                                              \
  template <class T> static inline T name(T *p, typename tern_same<T>::type v) { \
    T old = *p;                                                                    \
    *p = expression;                                                               \
    return old;                                                                    \
  }
TERN_ATOMIC(atomicAdd, old + v)
TERN_ATOMIC(atomicSub, old - v)
TERN_ATOMIC(atomicExch, v)
TERN_ATOMIC(atomicMin, v < old ? v : old)
TERN_ATOMIC(atomicMax, v > old ? v : old)
TERN_ATOMIC(atomicAnd, old & v)
TERN_ATOMIC(atomicOr, old | v)
TERN_ATOMIC(atomicXor, old ^ v)
#undef TERN_ATOMIC
template <class T> static inline T atomicCAS(T *p, typename tern_same<T>::type compare, typename tern_same<T>::type v) {
  T old = *p;
  if (old == compare) *p = v;
  return old;
}
