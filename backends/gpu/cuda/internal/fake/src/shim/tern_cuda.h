// CUDA C++ for a processor: what NVRTC gives a kernel without an include. The
// fake NVRTC puts it before every source. Not here, and so an error when a
// kernel is compiled: inline PTX, textures, cooperative groups, tensor core
// intrinsics, __activemask, and what waits for another block.
#pragma once
#include <cstdint>
#include <string.h>
#undef _GLIBCXX_USE_STD_SPEC_FUNCS  // slow to compile, and of no use here
#include <math.h>
#include <type_traits>
#include <utility>

#include "runtime.h"

#define TERN_FAKE_CUDA 1
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1

static tern_runtime tern_unbound;
static const tern_runtime *tern_rt = &tern_unbound;

#define threadIdx (tern_rt->now->thread)
#define blockIdx (tern_rt->now->block)
#define blockDim (tern_rt->now->block_dim)
#define gridDim (tern_rt->now->grid_dim)
#define warpSize 32

// __global__, __shared__ and __launch_bounds__ stay words until the fake NVRTC
// has read them.
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __builtin_align__(n) __attribute__((aligned(n)))

#define __syncthreads() ((void)tern_rt->barrier(TERN_PLAIN, 0, __LINE__))
#define __syncthreads_count(p) (tern_rt->barrier(TERN_COUNT, (p) != 0, __LINE__))
#define __syncthreads_and(p) (tern_rt->barrier(TERN_AND, (p) != 0, __LINE__))
#define __syncthreads_or(p) (tern_rt->barrier(TERN_OR, (p) != 0, __LINE__))
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)
#define __trap() tern_rt->fail(719, "calls __trap", __LINE__)
#undef assert
#define assert(c) ((c) ? (void)0 : tern_rt->fail(710, "fails assert(" #c ")", __LINE__))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#include "tern_vector.h"
#include "tern_warp.h"
#include "tern_math.h"

// How the driver calls a kernel: by the addresses of its arguments.
template <auto F> struct tern_entry;
template <class... P, void (*F)(P...)> struct tern_entry<F> {
  static constexpr size_t sizes[sizeof...(P) + 1] = {sizeof(P)...};
  template <size_t... I> static void call(void **a, std::index_sequence<I...>) { F(*(std::remove_cv_t<P> *)a[I]...); }
  static void enter(void **a) { call(a, std::make_index_sequence<sizeof...(P)>()); }
  static constexpr tern_kernel kernel(const char *name, int max_threads) {
    return {name, enter, sizes, (int)sizeof...(P), max_threads};
  }
};

// NVRTC does not have these without headers, so a kernel must not use them. One
// that defines them itself may.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef M_PI
#undef M_SQRT2
#undef INT_MAX
#define int8_t tern_int8_t_is_not_there
#define int16_t tern_int16_t_is_not_there
#define int32_t tern_int32_t_is_not_there
#define int64_t tern_int64_t_is_not_there
#define uint8_t tern_uint8_t_is_not_there
#define uint16_t tern_uint16_t_is_not_there
#define uint32_t tern_uint32_t_is_not_there
#define uint64_t tern_uint64_t_is_not_there
