// The state of the fake driver: one device or more, memory with guard pages,
// streams that run what they are given at once, and graphs that repeat it.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "runtime.h"

#define API extern "C" __attribute__((visibility("default")))

enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
  INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209, INVALID_PTX = 218, INVALID_HANDLE = 400,
  NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, LAUNCH_TIMEOUT = 702, ASSERT = 710,
  MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
  CAPTURE_UNMATCHED = 903, CAPTURE_WRONG_THREAD = 908
};

// Config is read from the file fake.conf beside the library and from the
// variable TERN_FAKE_CUDA, "key=value,key=value", when cuInit is called.
struct Config {
  int version = 12080;          // of the driver
  int devices = 1;
  int major = 9, minor = 0;     // compute capability
  size_t memory = 1 << 30;      // of a device
  size_t oom = 0;               // allocations fail beyond that many bytes; 0 never
  long lost = 0;                // the device is lost at that launch; 0 never
  int lostcode = LAUNCH_FAILED; // what is said then
  std::string order;            // in which threads and blocks run: "", "reverse", "shuffle"
};
Config read_config();

struct Capture;

struct Block {  // an allocation, of a device or pinned
  char *base, *map;
  size_t bytes, mapped;
  bool host;
};

struct Op {
  std::string what;
  std::function<int()> run;
};

struct Graph {
  std::vector<Op> ops;
};

struct Capture {
  Graph *graph;
  unsigned long thread;
  bool broken = false;
};

struct Context;

struct Stream {
  Context *context;
  std::unique_ptr<Capture> capture;
};

struct Event {
  double at = -1;
};

struct Module {
  void *handle;
  int fd;
  const tern_module *code;
  ~Module();
};

struct Function {
  Module *module;
  const tern_kernel *kernel;
  int max_dynamic = 48 << 10;
};

struct Context {
  int device, users = 0, sticky = OK;
  size_t used = 0;
  std::map<char *, Block> blocks;
  std::set<Stream *> streams;
  std::set<Event *> events;
  std::map<Module *, std::unique_ptr<Module>> modules;
  std::map<Function *, std::unique_ptr<Function>> functions;
};

struct Launch {
  const Function *function;
  tern_dim grid, block;
  unsigned dynamic;
  std::vector<std::vector<char>> args;
};

struct State {
  std::mutex mutex;
  bool ready = false;
  Config config;
  std::vector<std::unique_ptr<Context>> contexts;
  std::set<Graph *> graphs, execs;
  long launches = 0;
};
extern State fake;
extern thread_local Context *current;

// usable returns the current context, or why a call cannot be served.
int usable(Context **out);
// outside returns an error, and spoils the capture, where this thread captures:
// what waits or allocates must not be captured.
int outside(Context *c);
int enqueue(Context *c, Stream *s, Op op);
Block *find(Context *c, const void *p, size_t n);
int allocate(Context *c, size_t n, bool host, char **out);
int release(Context *c, char *p, bool host);
void release_all(Context *c);
std::string overwritten(Context *c);          // which guard zone was written, or ""
std::string describe(Context *c, void *p);    // where an address lies
int execute(Context *c, const Launch &l);     // runs a kernel; a fault sticks to the context
int fault(Context *c, int code, const std::string &what);
