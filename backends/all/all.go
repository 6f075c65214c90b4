// Package all registers every backend that lives in the main program.
package all

import (
	_ "github.com/ternlm/tern/backends/avx2"   // vector kernels
	_ "github.com/ternlm/tern/backends/scalar" // the reference
)
