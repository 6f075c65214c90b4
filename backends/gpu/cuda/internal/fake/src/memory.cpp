// Memory of the fake device. An allocation lies between pages that nobody may
// touch, as close to the upper one as the alignment of 256 bytes allows; the
// bytes left on both sides hold a pattern that is looked at after each kernel.
// Fresh memory is full of bytes 0xff: NaN in every floating-point type.
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fake.h"

static const size_t align = 256;
static const size_t page = sysconf(_SC_PAGESIZE), edge = 16 * page;

static char guard(size_t i) { return i % 2 ? 0xff : 0xfe; }

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

int allocate(Context *c, size_t n, bool host, char **out) {
  if (n == 0 || n > (size_t)1 << 46) return n ? OUT_OF_MEMORY : INVALID_VALUE;
  if (!host) {
    size_t limit = fake.config.memory;
    if (fake.config.oom && fake.config.oom < limit) limit = fake.config.oom;
    if (n > limit || c->used > limit - n) return OUT_OF_MEMORY;
  }
  size_t body = up(up(n, align), page), mapped = body + 2 * edge;
  char *map = (char *)mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return OUT_OF_MEMORY;
  if (mprotect(map + edge, body, PROT_READ | PROT_WRITE)) {
    munmap(map, mapped);
    return OUT_OF_MEMORY;
  }
  char *base = map + edge + body - up(n, align);
  for (char *p = map + edge; p < base; p++) *p = guard(p - map);
  memset(base, 0xff, n);
  for (char *p = base + n; p < map + edge + body; p++) *p = guard(p - map);
  c->blocks[base] = {base, map, n, mapped, host};
  if (!host) c->used += n;
  *out = base;
  return OK;
}

int release(Context *c, char *p, bool host) {
  auto it = c->blocks.find(p);
  if (it == c->blocks.end() || it->second.host != host) return INVALID_VALUE;
  if (!host) c->used -= it->second.bytes;
  munmap(it->second.map, it->second.mapped);
  c->blocks.erase(it);
  return OK;
}

void release_all(Context *c) {
  for (auto &b : c->blocks) munmap(b.second.map, b.second.mapped);
  c->blocks.clear();
  c->used = 0;
}

Block *find(Context *c, const void *p, size_t n) {
  auto it = c->blocks.upper_bound((char *)p);
  if (it == c->blocks.begin()) return nullptr;
  Block &b = (--it)->second;
  size_t at = (char *)p - b.base;
  return at <= b.bytes && n <= b.bytes - at ? &b : nullptr;
}

// intact compares n bytes, at most a page, with the pattern from offset i on.
static bool intact(const char *p, size_t i, size_t n) {
  static const std::vector<char> pattern = [] {
    std::vector<char> v(page + align + 2);
    for (size_t i = 0; i < v.size(); i++) v[i] = guard(i);
    return v;
  }();
  return memcmp(p, pattern.data() + i % 2, n) == 0;
}

std::string overwritten(Context *c) {
  for (auto &it : c->blocks) {
    Block &b = it.second;
    char *after = b.base + b.bytes, *first = b.map + edge;
    if (intact(first, edge, b.base - first) && intact(after, after - b.map, b.map + b.mapped - edge - after)) continue;
    char *end = b.map + b.mapped - edge;
    for (char *p = b.map + edge; p < end; p++) {
      if (p == b.base) p += b.bytes;
      if (p < end && *p != guard(p - b.map)) return describe(c, p);
    }
  }
  return "";
}

std::string describe(Context *c, void *address) {
  char *p = (char *)address;
  for (auto &it : c->blocks) {
    Block &b = it.second;
    if (p < b.map || p >= b.map + b.mapped) continue;
    std::string of = " of an allocation of " + std::to_string(b.bytes) + " bytes";
    if (p < b.base) return std::to_string(b.base - p) + " bytes before the start" + of;
    if (p >= b.base + b.bytes) return std::to_string(p - b.base - b.bytes) + " bytes after the end" + of;
    return "inside" + of;
  }
  char text[64];
  snprintf(text, sizeof text, "%p, which is no memory of the device", address);
  return text;
}
