// The image of a fake module: a header and a shared library. The same in hex
// behind a comment is the fake's PTX.
#pragma once
#include <stdint.h>

struct tern_image {
  char magic[8];  // "ternfake"
  uint32_t arch;  // 90
  uint32_t reserved;
  uint64_t bytes;  // of the library that follows
};

static const char tern_ptx[] = "// tern fake ptx\n.version 8.0\n.target sm_";
