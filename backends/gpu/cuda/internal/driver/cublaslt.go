package driver

import (
	"fmt"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// DataType is a cudaDataType (library_types.h).
type DataType int

// Data types of matrices.
const (
	F32  DataType = 0
	F16  DataType = 2
	I8   DataType = 3
	I32  DataType = 10
	BF16 DataType = 14
)

// Compute is a cublasComputeType_t: in what a product is summed.
type Compute int

// Compute types.
const (
	ComputeF32  Compute = 68
	ComputeI32  Compute = 72
	ComputeTF32 Compute = 77 // f32 operands, rounded to 10 bits of fraction
)

// CuBLAS is cuBLASLt with a handle for one context.
type CuBLAS struct {
	fn      cublasFunctions
	c       *Context
	handle  uintptr
	version int
}

// OpenCuBLAS loads cuBLASLt and makes a handle. ErrNoCuBLAS says what was tried.
func (c *Context) OpenCuBLAS(s Search) (*CuBLAS, error) {
	lib, path, err := libcublas.open(s)
	if err != nil {
		return nil, err
	}
	b := &CuBLAS{c: c}
	if missing := resolve(lib, &b.fn); missing != "" {
		return nil, errors.WithHint(errors.Wrapf(ErrNoCuBLAS, "%s has no function %s", path, missing), libcublas.hint)
	}
	b.version = int(call(b.fn.GetVersion))
	return b, c.Do(func() error {
		return b.check("cublasLtCreate", call(b.fn.Create, uintptr(unsafe.Pointer(&b.handle))))
	})
}

// Version is cuBLASLt's: 120804 is 12.8.4.
func (b *CuBLAS) Version() int { return b.version }

// Destroy gives the handle back.
func (b *CuBLAS) Destroy() error {
	return b.c.Do(func() error { return b.check("cublasLtDestroy", call(b.fn.Destroy, b.handle)) })
}

// Status codes of cublasStatus_t.
const (
	statusAllocFailed  = 3
	statusExecution    = 13
	statusNotSupported = 15
)

func (b *CuBLAS) check(name string, r uintptr) error {
	code := int(int32(r))
	if code == 0 {
		return nil
	}
	e := &Error{Call: name, Code: code, Name: callString(b.fn.GetStatusName, uintptr(code))}
	switch code {
	case statusAllocFailed:
		e.kind = ErrOutOfMemory
	case statusNotSupported:
		e.kind = ErrNotSupported
	}
	if e.Name == "" {
		e.Name = fmt.Sprintf("cuBLAS error %d", code)
	}
	return hinted(e)
}

// heuristicResult is cublasLtMatmulHeuristicResult_t, 96 bytes.
type heuristicResult struct {
	algo      [8]uint64 // cublasLtMatmulAlgo_t
	workspace uint64
	state     int32
	waves     float32
	_         [4]int32
}
