// A fake NVRTC: it compiles CUDA C++ for this machine's processor with the C++
// compiler, against the headers in the folder shim beside it.
//
// The source is preprocessed first, so that kernels which macros make are seen;
// then their names are read from it, dynamic shared memory gets an address, and
// a table of the kernels is put behind it.
#include <dlfcn.h>
#include <fcntl.h>
#include <regex>
#include <set>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "image.h"

#define API extern "C" __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6, INTERNAL = 11 };

static const int archs[] = {75, 80, 86, 89, 90, 100};

struct Program {
  std::string source, name, log, ptx, cubin;
  std::vector<std::pair<std::string, std::string>> headers;
};

extern char **environ;

static std::string here() {
  Dl_info self;
  dladdr((void *)&here, &self);
  std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

static std::string read_file(const std::string &path) {
  std::string s;
  if (FILE *f = fopen(path.c_str(), "r")) {
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) s.append(part, n);
    fclose(f);
  }
  return s;
}

static void write_file(const std::string &path, const std::string &text) {
  for (size_t i = path.find('/', 1); i != std::string::npos; i = path.find('/', i + 1)) mkdir(path.substr(0, i).c_str(), 0700);
  if (FILE *f = fopen(path.c_str(), "w")) {
    fwrite(text.data(), 1, text.size(), f);
    fclose(f);
  }
}

// compile runs the C++ compiler; what it says goes to a file in dir.
static bool compile(const std::string &dir, std::vector<std::string> args) {
  args.insert(args.begin(), TERN_CXX);
  std::vector<char *> argv;
  for (auto &a : args) argv.push_back((char *)a.c_str());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 2, (dir + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  pid_t pid;
  int status = -1, bad = posix_spawnp(&pid, TERN_CXX, &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  while (!bad && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return !bad && status == 0;
}

// options are NVRTC's; what only a device's code could show is accepted.
static bool options(int n, const char *const *given, int *arch, std::vector<std::string> *out) {
  static const std::set<std::string> ignored = {"--use_fast_math", "-use_fast_math", "-default-device", "--device-as-default-execution-space",
                                                "-lineinfo", "--generate-line-info", "--extra-device-vectorization"};
  for (int i = 0; i < n; i++) {
    std::string o = given[i];
    std::smatch m;
    if (std::regex_match(o, m, std::regex("(?:--gpu-architecture|-arch)=(?:sm|compute)_(\\d+)a?"))) *arch = atoi(m[1].str().c_str());
    else if (o.rfind("-D", 0) == 0 || o.rfind("-I", 0) == 0) out->push_back(o);
    else if (std::regex_match(o, m, std::regex("--define-macro=(.*)"))) out->push_back("-D" + m[1].str());
    else if (std::regex_match(o, m, std::regex("--include-path=(.*)"))) out->push_back("-I" + m[1].str());
    else if (std::regex_match(o, std::regex("--?std=c\\+\\+(11|14|17|20)|--?fmad=(true|false)|--maxrregcount=\\d+")) || ignored.count(o)) continue;
    else return false;
  }
  for (int a : archs)
    if (a == *arch) return true;
  return false;
}

// matching is the index after the parenthesis that closes the one at open.
static size_t matching(const std::string &s, size_t open) {
  int depth = 0;
  for (size_t i = open; i < s.size(); i++) {
    if (s[i] == '(') depth++;
    if (s[i] == ')' && --depth == 0) return i + 1;
  }
  return s.size();
}

// table writes the entries of the kernels that text defines, and removes the
// words that are not C++ from it.
static std::string table(std::string *text) {
  std::string entries, out;
  std::set<std::string> seen;
  int count = 0;
  size_t from = 0;
  for (size_t at; (at = text->find("__global__", from)) != std::string::npos;) {
    out += text->substr(from, at - from);
    size_t i = at + strlen("__global__");
    std::string bounds = "0", head;
    while (i < text->size() && (*text)[i] != '(') {
      head += (*text)[i++];
      size_t word = head.rfind("__launch_bounds__");
      if (word == std::string::npos || word + strlen("__launch_bounds__") != head.size()) continue;
      size_t open = text->find('(', i), end = matching(*text, open);
      std::string inner = text->substr(open + 1, end - open - 2);
      int depth = 0;
      for (size_t k = 0; k < inner.size(); k++) {
        depth += inner[k] == '(' ? 1 : inner[k] == ')' ? -1 : 0;
        if (inner[k] == ',' && !depth) inner.resize(k);
      }
      bounds = inner;
      head.resize(word);
      i = end;
    }
    std::smatch m;
    if (std::regex_search(head, m, std::regex("(\\w+)\\s*$")) && seen.insert(m[1]).second) {
      entries += "  tern_entry<&" + m[1].str() + ">::kernel(\"" + m[1].str() + "\", (int)(" + bounds + ")),\n";
      count++;
    }
    out += head;
    from = i;
  }
  *text = out + text->substr(from);
  return "\nstatic const tern_kernel tern_kernels[] = {\n" + entries + "  {nullptr, nullptr, nullptr, 0, 0}};\n" +
         "static void tern_bind(const tern_runtime *rt) { tern_rt = rt; }\n"
         "extern \"C\" char __start_tern_shared[], __stop_tern_shared[];\n"
         "static char tern_any __attribute__((section(\"tern_shared\"), used));\n"
         "static const tern_module tern_table = {tern_bind, __start_tern_shared, __stop_tern_shared, tern_kernels, " +
         std::to_string(count) + "};\n" +
         "extern \"C\" __attribute__((visibility(\"default\"))) const tern_module *tern_module_table() { return &tern_table; }\n";
}

// shared gives __shared__ variables a place: one that all threads of a block
// see, as they are fibers of one thread.
static void shared(std::string *text) {
  static const std::regex dynamic("extern\\s+__shared__\\s+((?:__attribute__\\s*\\(\\(\\s*aligned\\s*\\([^)]*\\)\\s*\\)\\)\\s*)?)"
                                  "([\\w\\s:<>]*?[\\w>])\\s*((?:__attribute__\\s*\\(\\(\\s*aligned\\s*\\([^)]*\\)\\s*\\)\\)\\s*)?)"
                                  "\\b(\\w+)\\s*\\[\\s*\\]\\s*;");
  *text = std::regex_replace(*text, dynamic, "$2 *const $4 = ($2 *)tern_rt->shared;");
  static const std::regex fixed("(static\\s+)?__shared__");
  *text = std::regex_replace(*text, fixed, "static __attribute__((section(\"tern_shared\")))");
}

static bool build(Program *p, const std::string &dir, int arch, std::vector<std::string> extra) {
  std::string shim = here() + "shim", file = dir + "/" + (p->name.empty() ? "default_program" : p->name);
  write_file(file, p->source);
  for (auto &h : p->headers) write_file(dir + "/include/" + h.first, h.second);
  std::vector<std::string> args = {"-std=gnu++17", "-x", "c++", "-E", "-w", "-I" + dir + "/include", "-I" + shim,
                                   "-D__CUDA_ARCH__=" + std::to_string(arch) + "0", "-include", shim + "/tern_cuda.h", file, "-o", dir + "/all.cc"};
  args.insert(args.end(), extra.begin(), extra.end());
  if (!compile(dir, args)) return false;
  std::string text = read_file(dir + "/all.cc");
  std::string tail = table(&text);
  shared(&text);
  write_file(dir + "/all.cc", text + tail);
  // Traps stand for what a device would answer with an error: addresses that
  // are not aligned, and indices beyond arrays whose size is known.
  return compile(dir, {"-std=gnu++17", "-x", "c++", "-O1", "-w", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-U_FORTIFY_SOURCE",
                       "-fno-strict-aliasing", "-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error",
                       dir + "/all.cc", "-o", dir + "/out.so"});
}

static void finish(Program *p, const std::string &dir, int arch) {
  std::string code = read_file(dir + "/out.so");
  tern_image h = {{'t', 'e', 'r', 'n', 'f', 'a', 'k', 'e'}, (uint32_t)arch, 0, code.size()};
  p->cubin = std::string((char *)&h, sizeof h) + code;
  p->ptx = tern_ptx + std::to_string(arch) + "\n//";
  for (unsigned char c : code) {
    char hex[3];
    snprintf(hex, sizeof hex, "%02x", c);
    p->ptx += hex;
  }
  p->ptx += '\0';
}

API int nvrtcVersion(int *major, int *minor) { return *major = 12, *minor = 8, SUCCESS; }

API int nvrtcGetNumSupportedArchs(int *n) { return *n = sizeof archs / sizeof *archs, SUCCESS; }

API int nvrtcGetSupportedArchs(int *out) { return memcpy(out, archs, sizeof archs), SUCCESS; }

API int nvrtcCreateProgram(Program **out, const char *source, const char *name, int n, const char *const *headers, const char *const *names) {
  if (!source || n < 0 || (n && (!headers || !names))) return INVALID_INPUT;
  Program *p = new Program;
  p->source = source, p->name = name ? name : "";
  for (int i = 0; i < n; i++) p->headers.push_back({names[i], headers[i]});
  *out = p;
  return SUCCESS;
}

API int nvrtcDestroyProgram(Program **p) {
  if (!p || !*p) return INVALID_PROGRAM;
  delete *p;
  *p = nullptr;
  return SUCCESS;
}

API int nvrtcCompileProgram(Program *p, int n, const char *const *given) {
  int arch = 75;
  std::vector<std::string> extra;
  if (!p) return INVALID_PROGRAM;
  if (!options(n, given, &arch, &extra)) return INVALID_OPTION;
  char dir[] = "/tmp/tern-fake-nvrtc-XXXXXX";
  if (!mkdtemp(dir)) return INTERNAL;
  bool ok = build(p, dir, arch, extra);
  p->log = read_file(std::string(dir) + "/log");
  // A log speaks of the program by its name, as NVRTC's does.
  for (size_t at; (at = p->log.find(std::string(dir) + "/")) != std::string::npos;) p->log.erase(at, strlen(dir) + 1);
  if (ok) finish(p, dir, arch);
  std::string remove = std::string("rm -rf ") + dir;
  if (system(remove.c_str())) return INTERNAL;
  return ok ? SUCCESS : COMPILATION;
}

static int size_of(const std::string &s, size_t *n) { return s.empty() ? INVALID_PROGRAM : (*n = s.size(), SUCCESS); }

static int copy_of(const std::string &s, char *out) { return s.empty() ? INVALID_PROGRAM : (memcpy(out, s.data(), s.size()), SUCCESS); }

API int nvrtcGetPTXSize(Program *p, size_t *n) { return size_of(p->ptx, n); }
API int nvrtcGetPTX(Program *p, char *out) { return copy_of(p->ptx, out); }
API int nvrtcGetCUBINSize(Program *p, size_t *n) { return size_of(p->cubin, n); }
API int nvrtcGetCUBIN(Program *p, char *out) { return copy_of(p->cubin, out); }
API int nvrtcGetProgramLogSize(Program *p, size_t *n) { return *n = p->log.size() + 1, SUCCESS; }
API int nvrtcGetProgramLog(Program *p, char *out) { return memcpy(out, p->log.c_str(), p->log.size() + 1), SUCCESS; }

API const char *nvrtcGetErrorString(int code) {
  switch (code) {
    case SUCCESS: return "NVRTC_SUCCESS";
    case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case COMPILATION: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR_INTERNAL_ERROR";
  }
}
