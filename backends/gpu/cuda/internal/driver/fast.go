package driver

import "sync"

// mostArgs is how many arguments a call of fast has at most: those of
// cublasLtMatmul.
const mostArgs = 16

// frames are arguments of calls under way. They must be on the heap, and a step
// must not leave any there.
var frames = sync.Pool{New: func() any { return new([mostArgs]uintptr) }}

// fast calls a C function without allocating. What its arguments point to must
// be on the heap or not Go's, and the caller must keep it alive.
func fast(fn uintptr, args ...uintptr) uintptr {
	f := frames.Get().(*[mostArgs]uintptr)
	r := callSlice(fn, f[:copy(f[:], args)])
	frames.Put(f)
	return r
}
