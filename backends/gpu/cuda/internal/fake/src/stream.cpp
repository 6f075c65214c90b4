// Streams, events, captures and graphs. A stream is empty whenever a call
// returns: what is put in runs at once, or goes into the graph being captured.
#include <pthread.h>
#include <time.h>

#include "fake.h"

#define LOCK std::lock_guard<std::mutex> lock(fake.mutex)
#define CONTEXT(c)                            \
  LOCK;                                       \
  Context *c;                                 \
  if (int e = usable(&c)) return e

static int known(Context *c, Stream *s) { return s && !c->streams.count(s) ? INVALID_HANDLE : OK; }

int outside(Context *c) {
  for (Stream *s : c->streams)
    if (s->capture && s->capture->thread == (unsigned long)pthread_self()) {
      s->capture->broken = true;
      return CAPTURE_UNSUPPORTED;
    }
  return OK;
}

int enqueue(Context *c, Stream *s, Op op) {
  if (int e = known(c, s)) return e;
  if (!s || !s->capture) return op.run();
  if (s->capture->broken) return CAPTURE_INVALIDATED;
  s->capture->graph->ops.push_back(op);
  return OK;
}

// For the fake cuBLASLt: an operation that reads and writes device memory.
API int ternFakeEnqueue(Stream *s, const std::function<int()> *run) {
  CONTEXT(c);
  std::function<int()> work = *run;
  return enqueue(c, s, {"cublasLtMatmul", [c, work] {
    int code = work();
    return code ? fault(c, code, "a matmul of memory that is not the device's") : OK;
  }});
}

// For the fake cuBLASLt, which calls it within ternFakeEnqueue.
API bool ternFakeHas(const void *p, size_t n) {
  Block *b = current ? find(current, p, n) : nullptr;
  return b && !b->host;
}

API int cuStreamCreate(Stream **s, unsigned) {
  CONTEXT(c);
  *s = new Stream{c, nullptr};
  c->streams.insert(*s);
  return OK;
}

API int cuStreamDestroy_v2(Stream *s) {
  LOCK;
  if (!current || !s || known(current, s)) return INVALID_HANDLE;
  current->streams.erase(s);
  if (s->capture) delete s->capture->graph;
  delete s;
  return current->sticky;
}

// idle breaks the capture of a stream that is waited for or asked, whichever
// thread does.
static int idle(Context *c, Stream *s) {
  if (int e = known(c, s)) return e;
  if (!s || !s->capture) return OK;
  s->capture->broken = true;
  return CAPTURE_UNSUPPORTED;
}

API int cuStreamSynchronize(Stream *s) {
  CONTEXT(c);
  if (int e = idle(c, s)) return e;
  return outside(c);
}

API int cuStreamQuery(Stream *s) {
  CONTEXT(c);
  return idle(c, s);
}

API int cuStreamWaitEvent(Stream *s, Event *v, unsigned) {
  CONTEXT(c);
  if (!c->events.count(v)) return INVALID_HANDLE;
  if (int e = known(c, s)) return e;
  return s && s->capture ? outside(c) : OK;
}

API int cuEventCreate(Event **v, unsigned) {
  CONTEXT(c);
  *v = new Event;
  c->events.insert(*v);
  return OK;
}

API int cuEventDestroy_v2(Event *v) {
  LOCK;
  if (!current || !current->events.erase(v)) return INVALID_HANDLE;
  delete v;
  return current->sticky;
}

static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

API int cuEventRecord(Event *v, Stream *s) {
  CONTEXT(c);
  if (!c->events.count(v)) return INVALID_HANDLE;
  return enqueue(c, s, {"event", [=] {
    v->at = now();
    return (int)OK;
  }});
}

API int cuEventSynchronize(Event *v) {
  CONTEXT(c);
  return c->events.count(v) ? outside(c) : INVALID_HANDLE;
}

API int cuEventQuery(Event *v) {
  CONTEXT(c);
  return c->events.count(v) ? OK : INVALID_HANDLE;
}

API int cuEventElapsedTime(float *ms, Event *a, Event *b) {
  CONTEXT(c);
  if (!c->events.count(a) || !c->events.count(b) || a->at < 0 || b->at < 0) return INVALID_HANDLE;
  *ms = (float)(b->at - a->at);
  return OK;
}

API int cuStreamBeginCapture_v2(Stream *s, int mode) {
  CONTEXT(c);
  if (!s) return CAPTURE_UNSUPPORTED;
  if (int e = known(c, s)) return e;
  if (s->capture || mode < 0 || mode > 2) return INVALID_VALUE;
  s->capture.reset(new Capture{new Graph, (unsigned long)pthread_self()});
  return OK;
}

API int cuStreamEndCapture(Stream *s, Graph **out) {
  CONTEXT(c);
  *out = nullptr;
  if (!s || known(c, s)) return INVALID_HANDLE;
  if (!s->capture) return CAPTURE_UNMATCHED;
  if (s->capture->thread != (unsigned long)pthread_self()) return CAPTURE_WRONG_THREAD;
  std::unique_ptr<Capture> k = std::move(s->capture);
  if (k->broken) {
    delete k->graph;
    return CAPTURE_INVALIDATED;
  }
  fake.graphs.insert(*out = k->graph);
  return OK;
}

API int cuStreamIsCapturing(Stream *s, int *status) {
  CONTEXT(c);
  if (int e = known(c, s)) return e;
  *status = !s || !s->capture ? 0 : s->capture->broken ? 2 : 1;
  return OK;
}

API int cuGraphInstantiateWithFlags(Graph **exec, Graph *g, unsigned long long) {
  CONTEXT(c);
  if (!fake.graphs.count(g)) return INVALID_VALUE;
  fake.execs.insert(*exec = new Graph(*g));
  return OK;
}

API int cuGraphLaunch(Graph *exec, Stream *s) {
  CONTEXT(c);
  if (!fake.execs.count(exec)) return INVALID_VALUE;
  if (s && s->capture) return outside(c);
  for (Op &op : exec->ops) {
    if (int e = enqueue(c, s, op)) return e;
    if (c->sticky) break;  // and the next call says so
  }
  return OK;
}

static int destroy(std::set<Graph *> &all, Graph *g) {
  LOCK;
  if (!all.erase(g)) return INVALID_VALUE;
  delete g;
  return OK;
}

API int cuGraphExecDestroy(Graph *g) { return destroy(fake.execs, g); }
API int cuGraphDestroy(Graph *g) { return destroy(fake.graphs, g); }

API int cuGraphGetNodes(Graph *g, void **, size_t *n) {
  LOCK;
  if (!fake.graphs.count(g)) return INVALID_VALUE;
  *n = g->ops.size();
  return OK;
}
