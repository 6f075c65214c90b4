// libcuda's devices, contexts and memory. Signatures are those of cuda.h
// (CUDA 12); only what the binding calls is here.
#include <string.h>
#include <time.h>

#include "fake.h"

#define LOCK std::lock_guard<std::mutex> lock(fake.mutex)
#define CONTEXT(c)                            \
  LOCK;                                       \
  Context *c;                                 \
  if (int e = usable(&c)) return e
#define OUTSIDE(c)                            \
  CONTEXT(c);                                 \
  if (int e = outside(c)) return e

int usable(Context **out) {
  if (!fake.ready) return NOT_INITIALIZED;
  if (!current || !current->users) return INVALID_CONTEXT;
  *out = current;
  return current->sticky;
}

API int cuInit(unsigned flags) {
  LOCK;
  if (flags) return INVALID_VALUE;
  fake.config = read_config();
  if (fake.config.devices < 1) return NO_DEVICE;
  while ((int)fake.contexts.size() < fake.config.devices) {
    fake.contexts.emplace_back(new Context);
    fake.contexts.back()->device = fake.contexts.size() - 1;
  }
  fake.ready = true;
  return OK;
}

API int cuDriverGetVersion(int *version) {
  *version = read_config().version;
  return OK;
}

static int device(int d) { return !fake.ready ? NOT_INITIALIZED : d < 0 || d >= fake.config.devices ? INVALID_DEVICE : OK; }

API int cuDeviceGetCount(int *n) {
  LOCK;
  if (!fake.ready) return NOT_INITIALIZED;
  *n = fake.config.devices;
  return OK;
}

API int cuDeviceGet(int *d, int ordinal) {
  LOCK;
  if (int e = device(ordinal)) return e;
  *d = ordinal;
  return OK;
}

API int cuDeviceGetName(char *name, int len, int d) {
  LOCK;
  if (int e = device(d)) return e;
  snprintf(name, len, "Fake CUDA device %d", d);
  return OK;
}

API int cuDeviceGetUuid_v2(unsigned char *uuid, int d) {
  LOCK;
  if (int e = device(d)) return e;
  memcpy(uuid, "tern-fake-gpu\0\0", 15);
  uuid[15] = d;
  return OK;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int d) {
  LOCK;
  if (int e = device(d)) return e;
  *bytes = fake.config.memory;
  return OK;
}

API int cuDeviceGetAttribute(int *value, int attribute, int d) {
  LOCK;
  if (int e = device(d)) return e;
  switch (attribute) {
    case 1: *value = 1024; break;         // threads of a block
    case 8: *value = 48 << 10; break;     // shared memory of a block
    case 10: *value = 32; break;          // warp
    case 13: *value = 1000000; break;     // clock, kHz
    case 16: *value = 4; break;           // multiprocessors
    case 18: *value = 0; break;           // integrated
    case 36: *value = 1000000; break;     // memory clock, kHz
    case 37: *value = 256; break;         // bus, bits
    case 38: *value = 4 << 20; break;     // L2
    case 75: *value = fake.config.major; break;
    case 76: *value = fake.config.minor; break;
    case 97: *value = 227 << 10; break;   // shared memory of a block that asks
    case 115: *value = 1; break;          // memory pools
    default: return INVALID_VALUE;
  }
  return OK;
}

API int cuDevicePrimaryCtxRetain(Context **c, int d) {
  LOCK;
  if (int e = device(d)) return e;
  *c = fake.contexts[d].get();
  (*c)->users++;
  return OK;
}

API int cuDevicePrimaryCtxRelease_v2(int d) {
  LOCK;
  if (int e = device(d)) return e;
  Context *c = fake.contexts[d].get();
  if (!c->users) return INVALID_CONTEXT;
  if (--c->users) return OK;
  release_all(c);
  for (Stream *s : c->streams) delete s;
  for (Event *v : c->events) delete v;
  c->streams.clear(), c->events.clear(), c->functions.clear(), c->modules.clear();
  c->sticky = OK;
  return OK;
}

API int cuCtxSetCurrent(Context *c) {
  current = c;
  return OK;
}

API int cuCtxSynchronize() {
  OUTSIDE(c);
  return OK;
}

API int cuMemGetInfo_v2(size_t *free, size_t *total) {
  CONTEXT(c);
  *total = fake.config.memory, *free = fake.config.memory - c->used;
  return OK;
}

API int cuMemAlloc_v2(char **p, size_t n) {
  OUTSIDE(c);
  return allocate(c, n, false, p);
}

API int cuMemFree_v2(char *p) {
  OUTSIDE(c);
  return release(c, p, false);
}

API int cuMemHostAlloc(char **p, size_t n, unsigned) {
  OUTSIDE(c);
  return allocate(c, n, true, p);
}

API int cuMemFreeHost(char *p) {
  OUTSIDE(c);
  return release(c, p, true);
}

// The pools of devices: an allocation of a pool is one as any other here.
API int cuDeviceGetDefaultMemPool(void **pool, int d) {
  LOCK;
  if (int e = device(d)) return e;
  *pool = fake.contexts[d].get();
  return OK;
}

API int cuMemPoolSetAttribute(void *, int, void *) { return OK; }

API int cuMemPoolTrimTo(void *, size_t) { return OK; }

static int stream_of(Context *c, Stream *s) { return s && !c->streams.count(s) ? INVALID_HANDLE : s && s->capture ? CAPTURE_UNSUPPORTED : OK; }

API int cuMemAllocAsync(char **p, size_t n, Stream *s) {
  OUTSIDE(c);
  if (int e = stream_of(c, s)) return e;
  return allocate(c, n, false, p);
}

API int cuMemFreeAsync(char *p, Stream *s) {
  OUTSIDE(c);
  if (int e = stream_of(c, s)) return e;
  return release(c, p, false);
}

// A copy's device side must lie within one allocation.
static bool on_device(Context *c, const char *p, size_t n) {
  Block *b = find(c, p, n);
  return b && !b->host;
}

static bool pinned(Context *c, const char *p, size_t n) {
  Block *b = find(c, p, n);
  return b && b->host;
}

API int cuMemcpyHtoD_v2(char *to, const char *from, size_t n) {
  OUTSIDE(c);
  if (!on_device(c, to, n)) return INVALID_VALUE;
  memcpy(to, from, n);
  return OK;
}

API int cuMemcpyDtoH_v2(char *to, const char *from, size_t n) {
  OUTSIDE(c);
  if (!on_device(c, from, n)) return INVALID_VALUE;
  memcpy(to, from, n);
  return OK;
}

// copies through a stream: what is captured must be pinned, for it is read and
// written when the graph runs.
static int copy(char *to, bool to_device, const char *from, bool from_device, size_t n, Stream *s) {
  CONTEXT(c);
  if ((to_device && !on_device(c, to, n)) || (from_device && !on_device(c, from, n))) return INVALID_VALUE;
  if (s && s->capture && ((!to_device && !pinned(c, to, n)) || (!from_device && !pinned(c, from, n)))) {
    s->capture->broken = true;
    return CAPTURE_UNSUPPORTED;
  }
  return enqueue(c, s, {"copy", [=] {
    if ((to_device && !on_device(c, to, n)) || (from_device && !on_device(c, from, n))) return fault(c, ILLEGAL_ADDRESS, "a copy of memory that was freed");
    memmove(to, from, n);
    return (int)OK;
  }});
}

API int cuMemcpyHtoDAsync_v2(char *to, const char *from, size_t n, Stream *s) { return copy(to, true, from, false, n, s); }
API int cuMemcpyDtoHAsync_v2(char *to, const char *from, size_t n, Stream *s) { return copy(to, false, from, true, n, s); }
API int cuMemcpyDtoDAsync_v2(char *to, const char *from, size_t n, Stream *s) { return copy(to, true, from, true, n, s); }

API int cuMemsetD8Async(char *to, unsigned char value, size_t n, Stream *s) {
  CONTEXT(c);
  if (!on_device(c, to, n)) return INVALID_VALUE;
  return enqueue(c, s, {"memset", [=] {
    if (!on_device(c, to, n)) return fault(c, ILLEGAL_ADDRESS, "a memset of memory that was freed");
    memset(to, value, n);
    return (int)OK;
  }});
}

API int cuMemsetD32Async(char *to, unsigned value, size_t n, Stream *s) {
  CONTEXT(c);
  if ((size_t)to % 4 || n > (size_t)1 << 46 || !on_device(c, to, 4 * n)) return INVALID_VALUE;
  return enqueue(c, s, {"memset", [=] {
    if (!on_device(c, to, 4 * n)) return fault(c, ILLEGAL_ADDRESS, "a memset of memory that was freed");
    for (size_t i = 0; i < n; i++) ((unsigned *)to)[i] = value;
    return (int)OK;
  }});
}

#define ERROR(code, name, text) \
  case code:                    \
    *out = words ? text : name; \
    return OK;

static int say(int code, const char **out, bool words) {
  switch (code) {
    ERROR(0, "CUDA_SUCCESS", "no error")
    ERROR(INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument")
    ERROR(OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")
    ERROR(NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error")
    ERROR(46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable")
    ERROR(NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected")
    ERROR(INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal")
    ERROR(INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid")
    ERROR(INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context")
    ERROR(NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device")
    ERROR(214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered")
    ERROR(INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed")
    ERROR(INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle")
    ERROR(NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found")
    ERROR(NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready")
    ERROR(ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered")
    ERROR(LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated")
    ERROR(ASSERT, "CUDA_ERROR_ASSERT", "device-side assert triggered")
    ERROR(MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address")
    ERROR(LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure")
    ERROR(CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing")
    ERROR(CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture")
    ERROR(CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "the capture was not initiated in this stream")
    ERROR(CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "capture ended in another thread than it began in")
    ERROR(999, "CUDA_ERROR_UNKNOWN", "unknown error")
  }
  *out = nullptr;
  return INVALID_VALUE;
}

API int cuGetErrorName(int code, const char **out) { return say(code, out, false); }
API int cuGetErrorString(int code, const char **out) { return say(code, out, true); }
