// Modules, functions and launches.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fake.h"
#include "image.h"

#define LOCK std::lock_guard<std::mutex> lock(fake.mutex)
#define CONTEXT(c)                            \
  LOCK;                                       \
  Context *c;                                 \
  if (int e = usable(&c)) return e

Module::~Module() {
  if (handle) dlclose(handle);
  if (fd >= 0) close(fd);
}

// decode reads an image, or PTX, which every device from its architecture on
// can run.
static int decode(const char *image, std::vector<char> *code, int *arch, bool *ptx) {
  size_t head = sizeof tern_ptx - 1;
  if (strncmp(image, tern_ptx, head)) {
    tern_image h;
    if (strncmp(image, "ternfake", 8)) return INVALID_IMAGE;
    memcpy(&h, image, sizeof h);
    *arch = h.arch, *ptx = false;
    code->assign(image + sizeof h, image + sizeof h + h.bytes);
    return OK;
  }
  *arch = atoi(image + head), *ptx = true;
  const char *hex = strchr(image + head, '\n');
  if (!hex || hex[1] != '/') return INVALID_PTX;
  for (hex += 3; *hex && hex[1]; hex += 2) {
    char two[3] = {hex[0], hex[1], 0};
    code->push_back((char)strtol(two, nullptr, 16));
  }
  return OK;
}

static int load(Context *c, const std::vector<char> &code, Module **out) {
  std::unique_ptr<Module> m(new Module{nullptr, memfd_create("module", MFD_CLOEXEC), nullptr});
  if (m->fd < 0 || write(m->fd, code.data(), code.size()) != (ssize_t)code.size()) return OUT_OF_MEMORY;
  std::string path = "/proc/self/fd/" + std::to_string(m->fd);
  m->handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!m->handle) {
    fprintf(stderr, "fake CUDA driver: %s\n", dlerror());
    return INVALID_IMAGE;
  }
  auto get = (const tern_module *(*)())dlsym(m->handle, "tern_module_table");
  if (!get) return INVALID_IMAGE;
  m->code = get();
  *out = m.get();
  c->modules[m.get()] = std::move(m);
  return OK;
}

API int cuModuleLoadData(Module **out, const void *image) {
  CONTEXT(c);
  std::vector<char> code;
  int arch;
  bool ptx;
  if (int e = decode((const char *)image, &code, &arch, &ptx)) return e;
  int mine = fake.config.major * 10 + fake.config.minor;
  if (arch > mine || (!ptx && arch / 10 != mine / 10)) return ptx ? INVALID_PTX : NO_BINARY_FOR_GPU;
  return load(c, code, out);
}

API int cuModuleUnload(Module *m) {
  LOCK;
  if (!current || !current->modules.count(m)) return INVALID_HANDLE;
  for (auto it = current->functions.begin(); it != current->functions.end();)
    it = it->second->module == m ? current->functions.erase(it) : std::next(it);
  current->modules.erase(m);
  return current->sticky;
}

API int cuModuleGetFunction(Function **out, Module *m, const char *name) {
  CONTEXT(c);
  if (!c->modules.count(m)) return INVALID_HANDLE;
  for (auto &it : c->functions)  // one handle for a kernel, whoever asks
    if (it.second->module == m && !strcmp(it.second->kernel->name, name)) {
      *out = it.first;
      return OK;
    }
  for (int i = 0; i < m->code->count; i++) {
    if (strcmp(m->code->kernels[i].name, name)) continue;
    std::unique_ptr<Function> f(new Function{m, &m->code->kernels[i]});
    *out = f.get();
    c->functions[f.get()] = std::move(f);
    return OK;
  }
  return NOT_FOUND;
}

API int cuFuncGetAttribute(int *value, int attribute, Function *f) {
  CONTEXT(c);
  if (!c->functions.count(f)) return INVALID_HANDLE;
  switch (attribute) {
    case 0: *value = f->kernel->max_threads ? f->kernel->max_threads : 1024; break;
    case 1: *value = f->module->code->shared_end - f->module->code->shared_begin; break;  // of all kernels of the module
    case 3: *value = 0; break;   // local memory
    case 4: *value = 32; break;  // registers
    case 8: *value = f->max_dynamic; break;
    default: return INVALID_VALUE;
  }
  return OK;
}

API int cuFuncSetAttribute(Function *f, int attribute, int value) {
  CONTEXT(c);
  if (!c->functions.count(f)) return INVALID_HANDLE;
  if (attribute != 8 || value < 0 || value > 227 << 10) return INVALID_VALUE;
  f->max_dynamic = value;
  return OK;
}

static bool sound(const Function *f, tern_dim g, tern_dim b, unsigned shared) {
  size_t threads = (size_t)b.x * b.y * b.z, most = f->kernel->max_threads ? f->kernel->max_threads : 1024;
  return g.x && g.y && g.z && g.x <= 0x7fffffffu && g.y <= 65535 && g.z <= 65535 && threads && threads <= most && b.x <= 1024 &&
         b.y <= 1024 && b.z <= 64 && shared <= (unsigned)f->max_dynamic;
}

API int cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                       Stream *s, void **params, void **extra) {
  CONTEXT(c);
  if (!c->functions.count(f)) return INVALID_HANDLE;
  Launch l{f, {gx, gy, gz}, {bx, by, bz}, shared, {}};
  if (extra || !sound(f, l.grid, l.block, shared) || (f->kernel->params && !params)) return INVALID_VALUE;
  for (int i = 0; i < f->kernel->params; i++) {
    if (!params[i]) return INVALID_VALUE;
    l.args.emplace_back((char *)params[i], (char *)params[i] + f->kernel->sizes[i]);
  }
  return enqueue(c, s, {f->kernel->name, [c, f, l] {
    if (!c->functions.count((Function *)f)) return fault(c, LAUNCH_FAILED, "a launch of a function whose module was unloaded");
    return execute(c, l);
  }});
}
