#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

static const size_t stack_bytes = 128 << 10;
static std::vector<char *> spare;  // under the driver's lock, as all of this

static char *new_stack() {
  if (!spare.empty()) {
    char *s = spare.back();
    spare.pop_back();
    return s;
  }
  char *s = (char *)mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (s == MAP_FAILED) abort();
  mprotect(s, sysconf(_SC_PAGESIZE), PROT_NONE);
  return s;
}

void fiber_drop(Fiber *f) {
  if (f->stack) spare.push_back(f->stack);
  f->stack = nullptr;
}

#ifdef __x86_64__

// tern_switch saves what the ABI says survives a call, and goes on at to.
extern "C" void tern_switch(void **save, void *to);
asm(R"(
.text
.type tern_switch, @function
tern_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tern_switch, .-tern_switch
)");

static void *caller;
static Fiber *entered;

static void start() {
  Fiber *f = entered;
  f->body(f->arg);
  fiber_leave(f);
  abort();  // nobody enters a fiber that has ended
}

void fiber_make(Fiber *f, void (*body)(void *), void *arg) { f->sp = nullptr, f->body = body, f->arg = arg; }

void fiber_enter(Fiber *f) {
  if (!f->sp) {
    if (!f->stack) f->stack = new_stack();
    void **top = (void **)(f->stack + stack_bytes);
    *--top = nullptr;  // keeps the stack aligned as after a call
    *--top = (void *)start;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->sp = top;
  }
  entered = f;
  tern_switch(&caller, f->sp);
}

void fiber_leave(Fiber *f) { tern_switch(&f->sp, caller); }

#else
#include <ucontext.h>

static ucontext_t caller;
static Fiber *entered;

static void start() {
  Fiber *f = entered;
  f->body(f->arg);
  fiber_leave(f);
  abort();
}

void fiber_make(Fiber *f, void (*body)(void *), void *arg) { f->sp = nullptr, f->body = body, f->arg = arg; }

void fiber_enter(Fiber *f) {
  if (!f->sp) {
    if (!f->stack) f->stack = new_stack();
    char *low = f->stack + sysconf(_SC_PAGESIZE);
    ucontext_t *u = (ucontext_t *)low;  // lives at the low end of the stack
    getcontext(u);
    u->uc_stack.ss_sp = low + 4096;
    u->uc_stack.ss_size = f->stack + stack_bytes - low - 4096;
    u->uc_link = nullptr;
    makecontext(u, start, 0);
    f->sp = u;
  }
  entered = f;
  swapcontext(&caller, (ucontext_t *)f->sp);
}

void fiber_leave(Fiber *f) { swapcontext((ucontext_t *)f->sp, &caller); }
#endif
