// The interpreter of chains. It runs any program (program.go) from a table in
// memory: every thread reads the same instruction, and does it for its four lanes.
// Registers are indexed, and so lie in local memory: a chain takes several times
// what a kernel made for it takes. It is for where there is no compiler.
//
// The table is made by tape.go. Its first words:
//
//	0 loops   1 reductions   2 group   3 instructions   4 maps   5 pointers (offsets in words)
//	8 ...     where rows[0], loops[0], rows[1], ... begin, as numbers of instructions
//	          then for each reduction: maximum?, loop, register
#include "fuse.cuh"

enum {
  END, INDEX, INSIDE, LOAD, STORE, REDUCE, CONST, IOTA, AND, WHERE, NEG, EXP, LOG, SQRT, RSQRT, SIN, COS, ABS,
  SIGMOID, ROUND, F16, BF16, FROM_INT, FROM_BOOL, ADD, SUB, MUL, DIV, MAX, MIN, LESS, EQUAL
};
#define VALUES 32
#define INDICES 16
#define REDUCTIONS 8
#define NONE 0xffffffffu

struct Instr {
  u32 op, dst, a, b, c, arg, map, layout;
};

template <class I> struct Machine {
  float v[VALUES][QUAD];
  I x[INDICES][QUAD];
  Reduction r[REDUCTIONS];
  const u32 *table;
  bool vectors;  // whether contiguous lanes are so in this kernel
};

__device__ __forceinline__ const void *pointer(const u32 *table, u32 i) {
  return ((void *const *)(table + table[5]))[i];
}

template <class I> __device__ __noinline__ I mapped(const u64 *map, I i) {
  I sum = (I)map[1];
  u64 terms = map[0];
  for (map += 2; terms; terms--, map += 3) {
    I q = i / (I)map[0];
    if (map[1]) q %= (I)map[1];
    sum += q * (I)map[2];
  }
  return sum;
}

template <class I> __device__ __noinline__ bool inside(const u64 *b, I i) {
  I q = i / (I)b[0];
  if (b[1]) q %= (I)b[1];
  return q - (I)b[2] < (I)b[3] - (I)b[2];
}

__device__ __forceinline__ float fetch(const void *p, size_t i, u32 layout) {
  switch (layout) {
    case 0: return get((const float *)p, i);
    case 1: return get((const bf16 *)p, i);
    case 2: return get((const f16 *)p, i);
    case 3: return get((const int *)p, i);
    case 4: return get((const u8 *)p, i);
    default: return get((const s8 *)p, i);
  }
}

__device__ __forceinline__ void keep(void *p, size_t i, u32 layout, float v) {
  switch (layout) {
    case 0: return put((float *)p, i, v);
    case 1: return put((bf16 *)p, i, v);
    case 2: return put((f16 *)p, i, v);
    case 3: return put((int *)p, i, v);
    case 4: return put((u8 *)p, i, v);
    default: return put((s8 *)p, i, v);
  }
}

template <class I> __device__ __forceinline__ void load(Machine<I> &m, const Instr &in, int readable) {
  const void *p = pointer(m.table, in.arg);
  float *v = m.v[in.dst];
  u32 layout = in.layout & 15;
  if (m.vectors && in.layout & 16) {
    bool wanted = in.b == NONE || m.v[in.b][0] != 0.0f;
    EACH v[l] = 0.0f;
    if (wanted && layout == 0) get4((const float *)p, m.x[in.a][0], v);
    if (wanted && layout == 1) get4((const bf16 *)p, m.x[in.a][0], v);
    return;
  }
#pragma unroll 1
  for (int l = 0; l < QUAD; l++)
    v[l] = l < readable && (in.b == NONE || m.v[in.b][l] != 0.0f) ? fetch(p, m.x[in.a][l], layout) : 0.0f;
}

template <class I> __device__ __forceinline__ void write(Machine<I> &m, const Instr &in, int writable) {
  void *p = (void *)pointer(m.table, in.arg);
  u32 layout = in.layout & 15;
  if (m.vectors && in.layout & 16) {
    if (layout == 0) put4((float *)p, m.x[in.a][0], m.v[in.b]);
    else put4((bf16 *)p, m.x[in.a][0], m.v[in.b]);
    return;
  }
#pragma unroll 1
  for (int l = 0; l < writable; l++) keep(p, m.x[in.a][l], layout, m.v[in.b][l]);
}

// compute does an operation on values alone. What takes many instructions is there
// once, not for each lane.
#define LANES(expression) \
  EACH d[l] = expression; \
  break
#define ONE_BY_ONE(expression)                                           \
  _Pragma("unroll 1") for (int l = 0; l < QUAD; l++) d[l] = expression; \
  break
__device__ __forceinline__ void compute(u32 op, float *d, const float *a, const float *b, const float *c) {
  switch (op) {
    case AND: LANES(a[l] != 0.0f && b[l] != 0.0f ? 1.0f : 0.0f);
    case WHERE: LANES(a[l] != 0.0f ? b[l] : c[l]);
    case NEG: LANES(-a[l]);
    case EXP: ONE_BY_ONE(expf(a[l]));
    case LOG: ONE_BY_ONE(logf(a[l]));
    case SQRT: ONE_BY_ONE(sqrtf(a[l]));
    case RSQRT: ONE_BY_ONE(rsqrtf(a[l]));
    case SIN: ONE_BY_ONE(sinf(a[l]));
    case COS: ONE_BY_ONE(cosf(a[l]));
    case ABS: LANES(fabsf(a[l]));
    case SIGMOID: ONE_BY_ONE(logistic(a[l]));
    case ROUND: LANES(rintf(a[l]));
    case F16: LANES(through_f16(a[l]));
    case BF16: LANES(through_bf16(a[l]));
    case FROM_INT: LANES(from_int(a[l]));
    case FROM_BOOL: LANES(a[l]);
    case ADD: LANES(__fadd_rn(a[l], b[l]));
    case SUB: LANES(__fsub_rn(a[l], b[l]));
    case MUL: LANES(__fmul_rn(a[l], b[l]));
    case DIV: ONE_BY_ONE(quotient(a[l], b[l]));
    case MAX: LANES(larger(a[l], b[l]));
    case MIN: LANES(smaller(a[l], b[l]));
    case LESS: LANES(less(a[l], b[l]) ? 1.0f : 0.0f);
    default: LANES(equal(a[l], b[l]) ? 1.0f : 0.0f);
  }
}

// run does the instructions from pc on. Of the lanes, readable may read memory, and
// writable may write it.
template <class I> __device__ __noinline__ void run(Machine<I> &m, u32 pc, int readable, int writable, bool stores) {
  const Instr *code = (const Instr *)(m.table + m.table[3]) + pc;
  const u64 *maps = (const u64 *)(m.table + m.table[4]);
  for (;; code++) {
    Instr in = *code;
    switch (in.op) {
      case END: return;
      case INDEX:
#pragma unroll 1
        for (int l = 0; l < QUAD; l++) m.x[in.dst][l] = mapped<I>(maps + in.map, m.x[in.a][l]);
        break;
      case INSIDE:
#pragma unroll 1
        for (int l = 0; l < QUAD; l++) m.v[in.dst][l] = inside<I>(maps + in.map, m.x[in.a][l]) ? 1.0f : 0.0f;
        break;
      case LOAD: load(m, in, readable); break;
      case STORE:
        if (stores) write(m, in, writable);
        break;
      case REDUCE: {
        bool max = m.table[in.map];
        EACH if (l < readable) take(m.r[in.arg], l, m.v[in.a][l], max);
        break;
      }
      case CONST: EACH m.v[in.dst][l] = bits_to_float(in.arg); break;
      case IOTA: EACH m.v[in.dst][l] = (float)m.x[in.a][l]; break;
      default: {
        u32 b = in.b == NONE ? in.a : in.b, c = in.c == NONE ? in.a : in.c;
        compute(in.op, m.v[in.dst], m.v[in.a], m.v[b], m.v[c]);
      }
    }
  }
}

// sizes of a program; parts is 1 where rows are not cut.
template <class I> struct Sizes {
  I rows, n, inner, span, parts;
};

// loop runs a loop over the elements of a row, or of four, of a part.
template <class I> __device__ __noinline__ void loop(Machine<I> &m, Sizes<I> z, u32 pc, I row, int t, int group, int live) {
  I lo = blockIdx.y * z.span, hi = z.n - lo < z.span ? z.n : lo + z.span;
  const u32 *reductions = m.table + 8 + 2 * m.table[0] + 1;
  u32 count = m.table[1], s = 0;
  I step = group ? (I)QUAD * group : 1;
  for (I j = lo + (group ? QUAD * t : 0); j < hi; j += step, s++) {
    int readable = live;
    if (group) {
      readable = hi - j < QUAD ? (int)(hi - j) : QUAD;
      EACH m.x[1][l] = row * z.n + j + l;
    } else {
      EACH m.x[1][l] = ((row + l) / z.inner * z.n + j) * z.inner + (row + l) % z.inner;
    }
    run(m, pc, readable, readable, true);
    if ((s & 31) == 31)
      for (u32 k = 0; k < count; k++) settle(m.r[k], reductions[3 * k]);
  }
  for (u32 k = 0; k < count; k++) settle(m.r[k], reductions[3 * k]);
}

// A row for each group of threads, or four for each thread; of parts of rows only
// the sums are stored.
template <class I> __device__ void tape(const u32 *table, float *partials, Sizes<I> z) {
  __shared__ float shared[BLOCK / 32];
  int group = table[2], t = group ? threadIdx.x % group : 0, live = QUAD;
  I row = group ? (I)blockIdx.x * (BLOCK / group) + threadIdx.x / group : QUAD * ((I)blockIdx.x * BLOCK + threadIdx.x);
  if (row >= z.rows) return;
  Machine<I> m;
  m.table = table, m.vectors = true;
  EACH m.x[0][l] = group ? row : row + l;
  if (!group && z.rows - row < QUAD) live = (int)(z.rows - row);
  int writable = group ? t == 0 : live;
  const u32 *blocks = table + 8, *reductions = blocks + 2 * table[0] + 1;
  run(m, blocks[0], live, writable, z.parts == 1);
  for (u32 k = 0; k < table[0]; k++) {
    for (u32 i = 0; i < table[1]; i++) start(m.r[i], reductions[3 * i]);
    loop(m, z, blocks[2 * k + 1], row, t, group, live);
    for (u32 i = 0; i < table[1]; i++) {
      bool max = reductions[3 * i];
      if (reductions[3 * i + 1] != k) continue;
      float all = group ? across(lanes(m.r[i], max), max, group, shared) : 0.0f;
      EACH m.v[reductions[3 * i + 2]][l] = group ? all : m.r[i].whole[l];
      if (z.parts == 1) continue;
      for (int l = 0; l < writable; l++) partials[((size_t)i * z.rows + row + l) * z.parts + blockIdx.y] = m.v[reductions[3 * i + 2]][l];
    }
    if (z.parts > 1) return;
    run(m, blocks[2 * k + 2], live, writable, true);
  }
}

// A row for each warp, of the sums of its parts.
template <class I> __device__ void finish(const u32 *table, const float *partials, Sizes<I> z) {
  I row = (I)blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
  if (row >= z.rows) return;
  Machine<I> m;
  m.table = table, m.vectors = false;
  EACH m.x[0][l] = row;
  int writable = threadIdx.x % 32 == 0;
  const u32 *blocks = table + 8, *reductions = blocks + 2 * table[0] + 1;
  run(m, blocks[0], QUAD, writable, true);
  for (u32 i = 0; i < table[1]; i++) {
    float v = finished(partials + ((size_t)i * z.rows + row) * z.parts, z.parts, reductions[3 * i]);
    EACH m.v[reductions[3 * i + 2]][l] = v;
  }
  run(m, blocks[2], QUAD, writable, true);
}

#define TAPE(name, I)                                                                                                               \
  extern "C" __global__ void __launch_bounds__(BLOCK) name(const u32 *table, float *partials, I rows, I n, I inner, I span, I parts) { \
    tape<I>(table, partials, Sizes<I>{rows, n, inner, span, parts});                                                               \
  }                                                                                                                                \
  extern "C" __global__ void __launch_bounds__(BLOCK) name##_finish(const u32 *table, float *partials, I rows, I n, I inner, I span, I parts) { \
    finish<I>(table, partials, Sizes<I>{rows, n, inner, span, parts});                                                             \
  }
TAPE(fuse_tape, u32)
TAPE(fuse_tape_wide, u64)
