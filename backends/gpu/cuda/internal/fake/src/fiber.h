// Fibers with stacks of their own, which end at pages that nobody may touch.
#pragma once

struct Fiber {
  void *sp = nullptr;       // where it goes on (x86-64), or its ucontext
  char *stack = nullptr;
  void (*body)(void *) = nullptr;
  void *arg = nullptr;
};

void fiber_make(Fiber *f, void (*body)(void *), void *arg);
void fiber_enter(Fiber *f);  // runs it until it leaves or ends
void fiber_leave(Fiber *f);  // back to whoever entered it
void fiber_drop(Fiber *f);   // gives its stack back; it must not run
