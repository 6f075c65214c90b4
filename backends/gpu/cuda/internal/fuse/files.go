package fuse

import "github.com/ternlm/tern/backends/gpu/cuda/internal/driver"

// Files lists the sources that come with the program: that of the interpreter.
func Files() []driver.Source { return []driver.Source{tapeSource()} }
