// Runs a kernel on the processor: the threads of a block are fibers of one
// system thread, so that barriers and warp intrinsics can wait for each other.
// What a device would answer with an error, a hang or wrong numbers is a
// fault with the kernel, the block and the thread in its words: addresses
// outside of memory, barriers that not all reach, intrinsics whose mask lies.
#include <algorithm>
#include <pthread.h>
#include <random>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fake.h"
#include "fiber.h"

enum Wait { READY, BARRIER, WARP, DONE };

struct Thread {
  Fiber fiber;
  tern_now now;
  Wait wait;
  int line;
  // A barrier's or a warp intrinsic's part of this thread.
  int op, predicate, arg, width;
  unsigned mask;
  unsigned long long value, result;
};

struct Running {
  Context *context;
  const Launch *launch;
  std::vector<void *> args;
  std::vector<Thread> threads;
  std::vector<int> order;
  Thread *now = nullptr;
  int alive = 0, waiting = 0;
  int line = 0, vote = 0;  // of the barrier that the first of those that wait came to
  int code = OK;
  std::string what;
  sigjmp_buf home;  // where a fault that a signal reports returns to
};

static Running *run;
// In the static block: a signal handler must not allocate it.
static thread_local bool inside __attribute__((tls_model("initial-exec")));
static tern_runtime table;

static std::string place(const Thread *t) {
  char text[256];
  const tern_now &n = t->now;
  snprintf(text, sizeof text, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u)", run->launch->function->kernel->name, n.block.x,
           n.block.y, n.block.z, n.thread.x, n.thread.y, n.thread.z);
  return text;
}

static std::string at(int line) { return line > 0 ? " in line " + std::to_string(line) : ""; }

static void blame(int code, const std::string &what) {
  run->code = code;
  run->what = place(run->now) + ": " + what;
}

// stop ends the launch from within a fiber.
static void stop(int code, const std::string &what) {
  blame(code, what);
  siglongjmp(run->home, 1);
}

static void release_barrier() {
  int count = 0, all = 1;
  for (Thread &t : run->threads)
    if (t.wait == BARRIER) count += t.predicate != 0, all &= t.predicate != 0;
  for (Thread &t : run->threads) {
    if (t.wait != BARRIER) continue;
    t.result = t.op == TERN_COUNT ? count : t.op == TERN_AND ? all : count > 0;
    t.wait = READY;
  }
  run->waiting = 0;
}

static int barrier(int vote, int predicate, int line) {
  Thread *me = run->now;
  if (run->waiting == 0) run->line = line, run->vote = vote;
  if (run->line != line || run->vote != vote)
    stop(LAUNCH_FAILED, "waits at __syncthreads" + at(line) + ", and another thread of the block at the one" + at(run->line));
  me->wait = BARRIER, me->op = vote, me->predicate = predicate, me->line = line;
  if (++run->waiting == run->alive) release_barrier();
  while (me->wait != READY) fiber_leave(&me->fiber);
  return (int)me->result;
}

static unsigned long long reduce(int op, unsigned long long a, unsigned long long b) {
  int x = (int)a, y = (int)b;
  unsigned u = (unsigned)a, v = (unsigned)b;
  switch (op) {
    case TERN_REDUCE_ADD: return u + v;
    case TERN_REDUCE_MIN: return (unsigned)std::min(x, y);
    case TERN_REDUCE_MAX: return (unsigned)std::max(x, y);
    case TERN_REDUCE_UMIN: return std::min(u, v);
    case TERN_REDUCE_UMAX: return std::max(u, v);
    case TERN_REDUCE_AND: return u & v;
    case TERN_REDUCE_OR: return u | v;
    default: return u ^ v;
  }
}

// source is the lane that a shuffle reads, by the rules of the PTX manual.
static int source(const Thread &t, int lane) {
  int width = t.width, first = lane & ~(width - 1), from = lane;
  switch (t.op) {
    case TERN_SHFL: return first + (t.arg & (width - 1));
    case TERN_SHFL_UP: from = lane - t.arg; return from < first ? lane : from;
    case TERN_SHFL_DOWN: from = lane + t.arg; return from >= first + width ? lane : from;
    default: from = lane ^ t.arg; return from >= first + width ? lane : from;
  }
}

static unsigned long long answer(Thread *warp, unsigned group, Thread &t, int lane) {
  const unsigned long long poison = ~0ull;  // of a lane that gives nothing
  if (t.op == TERN_SYNCWARP) return 0;
  if (t.op <= TERN_SHFL_XOR) {
    int from = source(t, lane);
    return group >> from & 1 ? warp[from].value : poison;
  }
  unsigned long long all = 0;
  bool first = true;
  unsigned ballot = 0;
  for (int i = 0; i < 32; i++) {
    if (!(group >> i & 1)) continue;
    ballot |= (unsigned)(warp[i].value != 0) << i;
    all = first ? warp[i].value : reduce(t.op, all, warp[i].value);
    first = false;
  }
  if (t.op == TERN_BALLOT) return ballot;
  if (t.op == TERN_ALL) return ballot == group;
  if (t.op == TERN_ANY) return ballot != 0;
  return all;
}

// settle completes the intrinsic that lane waits in, if all that its mask names
// have come or ended.
static void settle(Thread *warp, int lanes, int lane) {
  Thread &me = warp[lane];
  for (int i : {lanes - 1, 0})  // who comes last when threads run in order, or in reverse: mostly the answer
    if (me.mask >> i & 1 && (warp[i].wait == READY || warp[i].wait == BARRIER)) return;
  unsigned group = 0;
  for (int i = 0; i < lanes; i++) {
    if (!(me.mask >> i & 1) || warp[i].wait == DONE) continue;
    if (warp[i].wait != WARP) return;
    if (warp[i].op != me.op || warp[i].mask != me.mask) return;  // it may yet leave that one
    group |= 1u << i;
  }
  unsigned long long results[32];
  for (int i = 0; i < lanes; i++)
    if (group >> i & 1) results[i] = answer(warp, group, warp[i], i);
  for (int i = 0; i < lanes; i++)
    if (group >> i & 1) warp[i].result = results[i], warp[i].wait = READY;
}

static Thread *warp_of(Thread *t, int *lanes) {
  int index = t - run->threads.data(), first = index & ~31;
  *lanes = std::min<int>(32, run->threads.size() - first);
  return run->threads.data() + first;
}

static unsigned long long collective(int op, unsigned mask, unsigned long long value, int arg, int width, int line) {
  Thread *me = run->now;
  int lanes;
  Thread *warp = warp_of(me, &lanes);
  int lane = me - warp;
  if (!(mask >> lane & 1)) stop(LAUNCH_FAILED, "is not in the mask of its warp intrinsic" + at(line));
  if (width < 1 || width > 32 || (width & (width - 1))) stop(LAUNCH_FAILED, "shuffles over a width that is no power of two" + at(line));
  me->wait = WARP, me->op = op, me->mask = mask, me->value = value, me->arg = arg, me->width = width, me->line = line;
  settle(warp, lanes, lane);
  while (me->wait != READY) fiber_leave(&me->fiber);
  return me->result;
}

static void body(void *) {
  run->launch->function->kernel->enter(run->args.data());
  Thread *me = run->now;
  me->wait = DONE;
  if (--run->alive && run->waiting == run->alive) release_barrier();
  int lanes;
  Thread *warp = warp_of(me, &lanes);
  for (int i = 0; i < lanes; i++)
    if (warp[i].wait == WARP) settle(warp, lanes, i);
  run->now = me;
}

static void deadlock() {
  std::map<std::pair<int, int>, int> places;  // by kind and line: how many wait there
  for (Thread &t : run->threads)
    if (t.wait != DONE && places[{t.wait, t.line}]++ == 0) run->now = &t;
  std::string text = "the block cannot go on: ";
  for (auto &p : places)
    text += std::to_string(p.second) + " wait " + (p.first.first == BARRIER ? "at __syncthreads" : "in a warp intrinsic") + at(p.first.second) + ", ";
  blame(LAUNCH_TIMEOUT, text + std::to_string(run->threads.size() - run->alive) + " have ended");
}

static bool run_block() {
  for (bool moved = true; run->alive; moved = false) {
    for (int i : run->order) {
      Thread &t = run->threads[i];
      if (t.wait != READY) continue;
      moved = true;
      run->now = &t, table.now = &t.now;
      fiber_enter(&t.fiber);
      if (t.wait == DONE) fiber_drop(&t.fiber);
    }
    if (!moved) return deadlock(), false;
  }
  return true;
}

static void start_block(tern_dim b) {
  const Launch &l = *run->launch;
  const tern_module *m = l.function->module->code;
  memset(m->shared_begin, 0xff, m->shared_end - m->shared_begin);
  int i = 0;
  for (unsigned z = 0; z < l.block.z; z++)
    for (unsigned y = 0; y < l.block.y; y++)
      for (unsigned x = 0; x < l.block.x; x++) {
        Thread &t = run->threads[i++];
        t.now = {{x, y, z}, b, l.block, l.grid};
        t.wait = READY, t.line = 0;
        fiber_make(&t.fiber, body, nullptr);
      }
  run->alive = i, run->waiting = 0;
}

// Dynamic shared memory ends at a page that nobody may touch.
struct Dynamic {
  char *map = nullptr, *base = nullptr;
  size_t mapped = 0, bytes = 0;
  explicit Dynamic(size_t n) : bytes(n) {
    size_t page = sysconf(_SC_PAGESIZE), body = (n + page - 1) / page * page;
    mapped = body + page;
    map = (char *)mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(map, body, PROT_READ | PROT_WRITE);
    base = map + body - (n + 15) / 16 * 16;
  }
  ~Dynamic() { munmap(map, mapped); }
};

static struct sigaction before[NSIG];

static void on_signal(int sig, siginfo_t *info, void *context) {
  if (!inside) {  // not ours: Go's own handler knows
    struct sigaction &old = before[sig];
    if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(sig, info, context);
    else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) old.sa_handler(sig);
    else signal(sig, SIG_DFL);
    return;
  }
  int code = ILLEGAL_ADDRESS;
  std::string what;
  if (sig == SIGILL || sig == SIGTRAP) code = MISALIGNED_ADDRESS, what = "an address that is not aligned for its type, or an index beyond an array";
  else if (sig == SIGFPE) code = LAUNCH_FAILED, what = "divides an integer by zero";
  else what = "reads or writes " + describe(run->context, info->si_addr);
  stop(code, what);
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

static void catch_signals() {
  struct sigaction mine = {};
  mine.sa_sigaction = on_signal;
  mine.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int s : signals) sigaction(s, &mine, &before[s]);
  inside = true;
}

static void restore_signals() {
  inside = false;
  for (int s : signals) sigaction(s, &before[s], nullptr);
}

static std::vector<int> ordered(size_t n, unsigned seed) {
  std::vector<int> v(n);
  for (size_t i = 0; i < n; i++) v[i] = i;
  if (fake.config.order == "reverse") std::reverse(v.begin(), v.end());
  if (fake.config.order == "shuffle") {
    std::mt19937 random(seed);
    std::shuffle(v.begin(), v.end(), random);
  }
  return v;
}

static void run_grid() {
  const Launch &l = *run->launch;
  Dynamic dynamic(l.dynamic);
  table.shared = dynamic.base;
  std::vector<int> blocks = ordered((size_t)l.grid.x * l.grid.y * l.grid.z, 1);
  catch_signals();
  if (sigsetjmp(run->home, 0) == 0) {
    for (int i : blocks) {
      memset(dynamic.base, 0xff, l.dynamic);
      run->order = ordered(run->threads.size(), 2 + i);
      start_block({i % l.grid.x, i / l.grid.x % l.grid.y, i / l.grid.x / l.grid.y});
      if (!run_block()) break;
    }
  }
  restore_signals();
  for (Thread &t : run->threads) fiber_drop(&t.fiber);
}

int execute(Context *c, const Launch &l) {
  if (fake.config.lost && ++fake.launches >= fake.config.lost) return fault(c, fake.config.lostcode, "the device is lost, as was asked for");
  table.barrier = barrier, table.collective = collective;
  table.fail = [](int code, const char *what, int line) { stop(code, what + at(line)); };
  l.function->module->code->bind(&table);
  Running r;
  r.context = c, r.launch = &l;
  for (auto &a : l.args) r.args.push_back((void *)a.data());
  r.threads.resize((size_t)l.block.x * l.block.y * l.block.z);
  run = &r;
  run_grid();
  run = nullptr;
  if (r.code) return fault(c, r.code, r.what);
  std::string guard = overwritten(c);
  if (!guard.empty()) return fault(c, ILLEGAL_ADDRESS, std::string("kernel ") + l.function->kernel->name + " wrote " + guard);
  return OK;
}
