package attention

import (
	_ "embed"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

//go:embed rows.cu
var rowsCode string

//go:embed flash.cu
var flashCode string

//go:embed rope.cu
var ropeCode string

// RopeHeader is rope.cuh, for kernels that turn pairs as part of something else.
// They take the frequencies that Turns returns.
//
//go:embed rope.cuh
var RopeHeader string

//go:embed softmax.cu
var softmaxCode string

var (
	rowsSource    = cu.Source("attention_rows.cu", rowsCode)
	flashSource   = cu.Source("attention_flash.cu", flashCode)
	ropeSource    = WithRope("rope.cu", ropeCode)
	softmaxSource = cu.Source("softmax.cu", softmaxCode)
)

// WithRope is a source that includes rope.cuh.
func WithRope(name, code string) driver.Source {
	src := cu.Source(name, code)
	src.Headers["rope.cuh"] = RopeHeader
	return src
}

// Turns returns the frequencies of heads of d elements as kernels take them.
func Turns(a graph.RoPEAttr, d int) []byte { return turnsOf(a, d) }

// Sources lists the package's CUDA C++.
func Sources() []driver.Source {
	return []driver.Source{rowsSource, flashSource, ropeSource, softmaxSource}
}

// Add registers the package's kernels.
func Add(t engine.Table) {
	t.Add("attention", forward())
	t.Add("attention.vjp", pullback())
	t.Add("rope", rope(0, 1))
	t.Add("rope.vjp", rope(2, -1))
	t.Add("softmax", softmax())
	t.Add("softmax.vjp", softmaxPullback())
}

// work is a launch before it is bound.
type work struct {
	source      driver.Source
	kernel      string
	grid, block int
	shared      int // bytes of dynamic shared memory
	args        []any
}

// bind appends launches to c.
func bind(c *engine.Call, all ...work) error {
	for _, w := range all {
		f, err := c.Device.Function(w.source, w.kernel)
		if err != nil {
			return err
		}
		if w.shared > c.Device.Info().Shared {
			if err := f.SetDynamicShared(w.shared); err != nil {
				return errors.Wrap(err, "attention")
			}
		}
		c.Launch(f, driver.Dim{X: w.grid}, driver.Dim{X: w.block}, w.shared, w.args...)
	}
	return nil
}

// dims are those of attention: queries [B,T,H,D] over keys and values [B,S,KV,D].
type dims struct{ B, T, H, D, S, KV int }

func dimsOf(n *graph.Node) dims {
	q, k := n.In[0].Shape(), n.In[1].Shape()
	return dims{B: q[0], T: q[1], H: q[2], D: q[3], S: k[1], KV: k[2]}
}

// operands are what the kernels of attention and its pullback are given.
type operands struct {
	dims
	k, v       tensor.DType // as they are stored
	narrow     uint32       // as engine.Call.Narrow
	in, out    []driver.Pointer
	scratch    driver.Pointer
	failure    driver.Pointer
	node       int32
	sharedMost int // bytes of shared memory that a block may have
}

func operandsOf(c *engine.Call) operands {
	n := c.Node
	failure, node := c.Failure()
	return operands{
		dims: dimsOf(n), k: n.In[1].Type().DType, v: n.In[2].Type().DType,
		narrow: c.Narrow(), in: c.In, out: c.Out, scratch: c.Scratch, failure: failure, node: node,
		sharedMost: c.Device.Info().SharedOptIn,
	}
}

// Bits of operands.narrow.
const (
	narrowQ = 1 << 0
	narrowG = 1 << 4 // of the pullback
)

const (
	mostD   = 256 // elements of a head
	fewRows = 16  // queries below which tiles of 64 are a waste
)

func supported(n *graph.Node) bool { return n.In[0].Dim(3) <= mostD }

// aligned reports whether rows of D elements can be read 16 bytes at a time,
// whatever their width.
func (o operands) aligned() bool {
	all := driver.Pointer(o.D % 8)
	for _, p := range o.in {
		all |= p % 16
	}
	for _, p := range o.out {
		all |= p % 16
	}
	return all == 0
}

func forward() engine.Kernel {
	return engine.Kernel{
		Supports: supported,
		Narrow: func(*graph.Node) (in, out []bool) {
			return []bool{true, true, true, false}, []bool{true}
		},
		Scratch: func(n *graph.Node) int {
			d := dimsOf(n)
			return d.B * d.T * d.H * d.pieces() * (d.D + 2) * 4
		},
		Bind: func(c *engine.Call) error { return bind(c, operandsOf(c).forward()...) },
	}
}

func (o operands) forward() []work {
	if o.flash(false) {
		return []work{o.flashForward(0)}
	}
	return o.byRows()
}

// statBytes is what the first pass of the pullback leaves of a row, at most.
const statBytes = 16

// pullback takes f32 keys alone: nobody trains on a cache.
func pullback() engine.Kernel {
	return engine.Kernel{
		Supports: func(n *graph.Node) bool { return supported(n) && n.In[1].Type().DType != tensor.F16 },
		Narrow: func(*graph.Node) (in, out []bool) {
			return []bool{true, true, true, false, true}, []bool{true, true, true}
		},
		Scratch: func(n *graph.Node) int {
			d := dimsOf(n)
			return d.B * d.T * d.H * statBytes
		},
		Bind: func(c *engine.Call) error { return bind(c, operandsOf(c).pullback()...) },
	}
}

func (o operands) pullback() []work {
	if o.flash(true) {
		return o.flashPullback()
	}
	return o.pullbackByRows()
}

// scale is what scores are multiplied by.
func (d dims) scale() float64 { return 1 / math.Sqrt(float64(d.D)) }

// sizes are the arguments that all kernels of attention have.
func (d dims) sizes() []any { return []any{d.B, d.T, d.H, d.D, d.S, d.KV} }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
