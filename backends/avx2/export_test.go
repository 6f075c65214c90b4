package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
)

// OpenBlock is the backend with at most so many floats of logits in a block.
func OpenBlock(threads, block int) *host.Backend {
	native := parallel{threads, block, simd.AVX2}.kernels()
	return host.New("avx2", scalar.Kernels[float32]().With(native), host.Config{Threads: threads, Native: native})
}
