package driver

import (
	"runtime"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// Matrix is how a matrix lies in memory.
type Matrix struct {
	Type       DataType
	Rows, Cols int
	Stride     int  // elements from a row to the next (row major), or a column; 0 for none between
	ColMajor   bool // cuBLASLt's own order
	Batch      int  // how many, 0 for one
	BatchStep  int  // elements from one to the next
}

// bytes is the size of an element.
func (t DataType) bytes() int {
	switch t {
	case I8:
		return 1
	case F16, BF16:
		return 2
	}
	return 4
}

// stride is Stride, or what it stands for.
func (x Matrix) stride() int {
	switch {
	case x.Stride != 0:
		return x.Stride
	case x.ColMajor:
		return x.Rows
	}
	return x.Cols
}

// Bytes is how much memory the matrices take, the space between them included.
func (x Matrix) Bytes() int {
	lines, across := x.Rows, x.Cols
	if x.ColMajor {
		lines, across = x.Cols, x.Rows
	}
	return ((max(x.Batch, 1)-1)*x.BatchStep + (lines-1)*x.stride() + across) * x.Type.bytes()
}

// MatmulSpec is D = Alpha op(A) op(B) + Beta C, over a batch of them. C has the
// form of D.
type MatmulSpec struct {
	A, B, D        Matrix
	TransA, TransB bool
	Compute        Compute
	Alpha, Beta    float64
	Workspace      int // the most bytes of working memory
	// Align is how many bytes the addresses of A, of B, and of C and D are multiples
	// of; 0 for 256, which memory of Alloc is. cuBLASLt takes an algorithm that loads
	// as much at a time, and Run must be given such addresses.
	Align [3]int
}

// Matmul is a product that cuBLASLt has chosen an algorithm for. It is made once;
// Run allocates nothing.
type Matmul struct {
	b             *CuBLAS
	desc          uintptr
	layouts       [3]uintptr // of A, B, and C and D
	best          heuristicResult
	alpha, beta   float32
	ialpha, ibeta int32
	whole         bool // the scales are integers
}

// Attributes (cublasLt.h).
const (
	layoutOrder     = 1
	layoutBatch     = 5
	layoutBatchStep = 6
	descTransA      = 3
	descTransB      = 4
	prefWorkspace   = 1
	prefAlignA      = 5 // then those of B, C and D
	orderRow        = 1
	opTranspose     = 1
)

// Plan asks cuBLASLt for an algorithm. ErrNotSupported is that it has none for
// these types, forms and orders. Destroy gives the plan back.
func (b *CuBLAS) Plan(s MatmulSpec) (*Matmul, error) {
	m := &Matmul{
		b: b, alpha: float32(s.Alpha), beta: float32(s.Beta), ialpha: int32(s.Alpha), ibeta: int32(s.Beta),
		whole: s.Compute == ComputeI32,
	}
	err := b.c.Do(func() error {
		if err := m.describe(s); err != nil {
			return err
		}
		return m.choose(s)
	})
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "product of %dx%d and %dx%d", s.A.Rows, s.A.Cols, s.B.Rows, s.B.Cols), m.Destroy())
	}
	return m, nil
}

func (m *Matmul) describe(s MatmulSpec) error {
	b := m.b
	scale := F32
	if m.whole {
		scale = I32
	}
	if err := b.check("cublasLtMatmulDescCreate", call(b.fn.DescCreate, uintptr(unsafe.Pointer(&m.desc)), uintptr(s.Compute), uintptr(scale))); err != nil {
		return err
	}
	for attribute, on := range map[int]bool{descTransA: s.TransA, descTransB: s.TransB} {
		op := int32(0)
		if on {
			op = opTranspose
		}
		r := call(b.fn.DescSetAttribute, m.desc, uintptr(attribute), uintptr(unsafe.Pointer(&op)), 4)
		if err := b.check("cublasLtMatmulDescSetAttribute", r); err != nil {
			return err
		}
	}
	for i, x := range []Matrix{s.A, s.B, s.D} {
		if err := m.layout(&m.layouts[i], x); err != nil {
			return err
		}
	}
	return nil
}

func (m *Matmul) layout(to *uintptr, x Matrix) error {
	order := int32(orderRow)
	if x.ColMajor {
		order = 0
	}
	fn := &m.b.fn
	r := call(fn.LayoutCreate, uintptr(unsafe.Pointer(to)), uintptr(x.Type), uintptr(x.Rows), uintptr(x.Cols), uintptr(x.stride()))
	if err := m.b.check("cublasLtMatrixLayoutCreate", r); err != nil {
		return err
	}
	batch, step := int32(max(x.Batch, 1)), int64(x.BatchStep)
	for _, r := range []uintptr{
		call(fn.LayoutSetAttribute, *to, layoutOrder, uintptr(unsafe.Pointer(&order)), 4),
		call(fn.LayoutSetAttribute, *to, layoutBatch, uintptr(unsafe.Pointer(&batch)), 4),
		call(fn.LayoutSetAttribute, *to, layoutBatchStep, uintptr(unsafe.Pointer(&step)), 8),
	} {
		if err := m.b.check("cublasLtMatrixLayoutSetAttribute", r); err != nil {
			return err
		}
	}
	return nil
}

func (m *Matmul) choose(s MatmulSpec) (err error) {
	b := m.b
	var pref uintptr
	if err := b.check("cublasLtMatmulPreferenceCreate", call(b.fn.PreferenceCreate, uintptr(unsafe.Pointer(&pref)))); err != nil {
		return err
	}
	defer func() {
		err = errors.CombineErrors(err, b.check("cublasLtMatmulPreferenceDestroy", call(b.fn.PreferenceDestroy, pref)))
	}()
	if err := b.prefer(pref, s); err != nil {
		return err
	}
	var found int32
	r := call(b.fn.GetHeuristic, b.handle, m.desc, m.layouts[0], m.layouts[1], m.layouts[2], m.layouts[2], pref, 1,
		uintptr(unsafe.Pointer(&m.best)), uintptr(unsafe.Pointer(&found)))
	if err := b.check("cublasLtMatmulAlgoGetHeuristic", r); err != nil {
		return err
	}
	if found == 0 {
		return errors.Wrap(ErrNotSupported, "cuBLASLt has no algorithm")
	}
	return b.check("cublasLtMatmulAlgoGetHeuristic", uintptr(m.best.state))
}

// prefer sets what an algorithm may take and rely on.
func (b *CuBLAS) prefer(pref uintptr, s MatmulSpec) error {
	most := uint64(max(s.Workspace, 0))
	r := call(b.fn.PreferenceSetAttribute, pref, prefWorkspace, uintptr(unsafe.Pointer(&most)), 8)
	if err := b.check("cublasLtMatmulPreferenceSetAttribute", r); err != nil {
		return err
	}
	for i, bytes := range []int{s.Align[0], s.Align[1], s.Align[2], s.Align[2]} {
		if bytes == 0 {
			continue
		}
		align := uint32(bytes)
		r := call(b.fn.PreferenceSetAttribute, pref, uintptr(prefAlignA+i), uintptr(unsafe.Pointer(&align)), 4)
		if err := b.check("cublasLtMatmulPreferenceSetAttribute", r); err != nil {
			return err
		}
	}
	return nil
}

// Workspace is how many bytes of working memory the algorithm takes, at most
// what was asked for.
func (m *Matmul) Workspace() int { return int(m.best.workspace) }

// Run gives the product to the stream. c may be 0 where Beta is, and work where
// Workspace is.
func (m *Matmul) Run(s *Stream, a, b, c, d, work Pointer) error {
	alpha, beta := unsafe.Pointer(&m.alpha), unsafe.Pointer(&m.beta)
	if m.whole {
		alpha, beta = unsafe.Pointer(&m.ialpha), unsafe.Pointer(&m.ibeta)
	}
	if c == 0 {
		c = d
	}
	if err := s.c.enter(); err != nil {
		return err
	}
	r := fast(m.b.fn.Matmul, m.b.handle, m.desc, uintptr(alpha), uintptr(a), m.layouts[0], uintptr(b), m.layouts[1],
		uintptr(beta), uintptr(c), m.layouts[2], uintptr(d), m.layouts[2], uintptr(unsafe.Pointer(&m.best.algo)),
		uintptr(work), uintptr(m.best.workspace), s.handle)
	s.c.leave()
	runtime.KeepAlive(m)
	if int32(r) == 0 {
		return nil
	}
	return m.explain(s, m.b.check("cublasLtMatmul", r))
}

// explain finds the driver's error beneath one of execution: cuBLASLt does not
// say that the device is lost.
func (m *Matmul) explain(s *Stream, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Code == statusExecution {
		if under := s.Query(); errors.Is(under, ErrDeviceLost) {
			return errors.Wrapf(under, "%v", err)
		}
	}
	return err
}

// Destroy gives the plan back.
func (m *Matmul) Destroy() error {
	var err error
	for i, l := range m.layouts {
		if l != 0 {
			err = errors.CombineErrors(err, m.b.check("cublasLtMatrixLayoutDestroy", call(m.b.fn.LayoutDestroy, l)))
		}
		m.layouts[i] = 0
	}
	if m.desc != 0 {
		err = errors.CombineErrors(err, m.b.check("cublasLtMatmulDescDestroy", call(m.b.fn.DescDestroy, m.desc)))
	}
	m.desc = 0
	return err
}
