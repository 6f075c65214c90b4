#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

State fake;
thread_local Context *current;

static void read_words(Config &c, const std::string &text) {
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find_first_of(",\n", at);
    if (end == std::string::npos) end = text.size();
    std::string word = text.substr(at, end - at);
    at = end + 1;
    size_t eq = word.find('=');
    if (eq == std::string::npos) continue;
    std::string key = word.substr(0, eq), value = word.substr(eq + 1);
    long n = atol(value.c_str());
    if (key == "version") c.version = n;
    else if (key == "devices") c.devices = n;
    else if (key == "capability") c.major = n / 10, c.minor = n % 10;
    else if (key == "memory") c.memory = n;
    else if (key == "oom") c.oom = n;
    else if (key == "lost") c.lost = n;
    else if (key == "lostcode") c.lostcode = n;
    else if (key == "order") c.order = value;
    else fprintf(stderr, "fake CUDA driver: unknown setting %s\n", key.c_str());
  }
}

static std::string beside(const char *file) {
  Dl_info self;
  if (!dladdr((void *)&read_config, &self)) return file;
  std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + file;
}

Config read_config() {
  Config c;
  if (FILE *f = fopen(beside("fake.conf").c_str(), "r")) {
    char text[4096];
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    read_words(c, std::string(text, n));
  }
  if (const char *env = getenv("TERN_FAKE_CUDA")) read_words(c, env);
  return c;
}

// fault makes an error stick: as on a device, the launch itself has succeeded,
// and every later call answers with the error. What happened, in words that no
// real driver has, goes to standard error and to a file.
int fault(Context *c, int code, const std::string &what) {
  c->sticky = code;
  fprintf(stderr, "fake CUDA driver: %s\n", what.c_str());
  if (FILE *f = fopen(beside("fault.txt").c_str(), "w")) {
    fputs(what.c_str(), f);
    fclose(f);
  }
  return OK;
}
