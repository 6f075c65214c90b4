// What a compiled kernel module and the fake driver know of each other. The
// driver hands a module its table; a module exports its kernels.
#pragma once
#include <stddef.h>

struct tern_dim {
  unsigned x, y, z;
};

// tern_now says which thread of which block runs.
struct tern_now {
  tern_dim thread, block, block_dim, grid_dim;
};

enum tern_vote { TERN_PLAIN, TERN_COUNT, TERN_AND, TERN_OR };

enum tern_collective {
  TERN_SYNCWARP, TERN_SHFL, TERN_SHFL_UP, TERN_SHFL_DOWN, TERN_SHFL_XOR,
  TERN_BALLOT, TERN_ALL, TERN_ANY, TERN_REDUCE_ADD, TERN_REDUCE_MIN, TERN_REDUCE_MAX,
  TERN_REDUCE_UMIN, TERN_REDUCE_UMAX, TERN_REDUCE_AND, TERN_REDUCE_OR, TERN_REDUCE_XOR
};

struct tern_runtime {
  tern_now *now;  // of the running thread
  char *shared;   // dynamic shared memory of the running block
  int (*barrier)(int vote, int predicate, int line);
  unsigned long long (*collective)(int op, unsigned mask, unsigned long long value, int arg, int width, int line);
  void (*fail)(int code, const char *what, int line);
};

struct tern_kernel {
  const char *name;
  void (*enter)(void **args);
  const size_t *sizes;  // of the parameters
  int params;
  int max_threads;  // of __launch_bounds__, 0 for none
};

struct tern_module {
  void (*bind)(const tern_runtime *);
  char *shared_begin, *shared_end;  // the __shared__ variables of all its kernels
  const tern_kernel *kernels;
  int count;
};
