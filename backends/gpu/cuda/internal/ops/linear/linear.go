package linear

import (
	_ "embed"
	"fmt"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

var (
	//go:embed codes.cuh
	codesHeader string
	//go:embed few.cuh
	fewHeader string
	//go:embed codes.cu
	codesCode string
	//go:embed int8.cu
	int8Code string
	//go:embed product.cu
	productCode string
	//go:embed loss.cu
	lossCode string
	//go:embed norm.cu
	normCode string

	codesSource   = withCodes("linear_codes.cu", codesCode)
	int8Sources   = int8ByWidth()
	productSource = cu.Source("linear_product.cu", productCode)
	lossSource    = cu.Source("linear_loss.cu", lossCode)
	normSource    = cu.Source("linear_norm.cu", normCode)
)

// withCodes is a source that includes codes.cuh.
func withCodes(name, code string) driver.Source {
	src := cu.Source(name, code)
	src.Headers["codes.cuh"] = codesHeader
	return src
}

// int8ByWidth is int8.cu for each width of codes.
func int8ByWidth() map[int]driver.Source { return ByWidth("linear_int8", int8Code) }

// Sources lists what the kernels are compiled from.
func Sources() []driver.Source {
	all := []driver.Source{codesSource, productSource, lossSource, normSource}
	for _, bits := range []int{1, 2, 4, 8} {
		all = append(all, int8Sources[bits])
	}
	return all
}

// Add adds the kernels of products to t.
func Add(t engine.Table) {
	t.Add("matmul", matMul())
	t.Add("encode", encode())
	t.Add("decode", decode())
	for _, op := range []string{"bitlinear", "codebookmatmul"} {
		addLayer(t, op, onCodes())
		addLayer(t, op+".vjp", onCodesVJP())
	}
	for _, op := range []string{"linearcrossentropy", "bitlinearcrossentropy", "codebookcrossentropy"} {
		addLayer(t, op, headLoss(lossOnly))
		addLayer(t, op+".vjp", headLoss(gradientOnly))
		if graph.Lookup(op).Joint() != nil {
			addLayer(t, op+".joint", headLoss(lossAndGradient))
		}
	}
	t[quantized.Rows] = []engine.Kernel{quantizeRows()}
	t.Add("normlinear", normLinear())
	t.Add("normlinear.vjp", normLinearVJP())
}

// addLayer adds a kernel of an op, and of the one that reads quantized rows instead.
func addLayer(t engine.Table, op string, k engine.Kernel) {
	t.Add(op, k)
	if reader := quantized.Of(graph.Lookup(op)); reader != nil {
		t[reader] = []engine.Kernel{k}
	}
}

// binding appends work to a call. The first error stops it, so that what is bound
// reads as the list of steps that it is.
type binding struct {
	*engine.Call
	dense tensor.DType // of operands of products: bf16 or f32
	err   error
}

func bind(c *engine.Call) *binding {
	b := &binding{Call: c, dense: tensor.F32}
	if c.Device.Precision == engine.BF16 {
		b.dense = tensor.BF16
	}
	return b
}

// launch runs a kernel on a row of blocks. Blocks are counted along x alone: it is
// the one axis of a grid that holds more than 65535.
func (b *binding) launch(src driver.Source, name string, blocks, threads, shared int, args ...any) {
	if b.err != nil || blocks == 0 {
		return
	}
	f, err := b.Device.Function(src, name)
	if err != nil {
		b.err = err
		return
	}
	b.Launch(f, driver.Dim{X: blocks}, driver.Dim{X: threads}, shared, args...)
}

// flag is a bool as a kernel takes it.
func flag(on bool) int32 {
	if on {
		return 1
	}
	return 0
}

func narrow(d tensor.DType) int32 { return flag(d == tensor.BF16) }

func ceil(n, by int) int { return (n + by - 1) / by }

func roundUp(n, to int) int { return ceil(n, to) * to }

// room is the memory of pieces of so many bytes, each aligned as values are.
func room(sizes []int) int {
	n := 0
	for _, s := range sizes {
		n += roundUp(s, 256)
	}
	return n
}

// split cuts memory into such pieces.
func split(at driver.Pointer, sizes []int) []driver.Pointer {
	all := make([]driver.Pointer, len(sizes))
	for i, s := range sizes {
		all[i] = at
		at += driver.Pointer(roundUp(s, 256))
	}
	return all
}

// denseBytes is the most that an element of a dense operand takes: 2 where a value
// of the node shows that the precision is bf16.
func denseBytes(n *graph.Node) int {
	for _, v := range n.In {
		if v.Type().DType == tensor.BF16 {
			return 2
		}
	}
	for _, t := range n.Out {
		if t.DType == tensor.BF16 {
			return 2
		}
	}
	return 4
}

// typeCode is how product.cu and linear_convert number types.
func typeCode(d tensor.DType) int32 {
	switch d {
	case tensor.F32:
		return 0
	case tensor.BF16:
		return 1
	case tensor.F16:
		return 2
	}
	panic(fmt.Sprintf("linear: a matrix of %v", d))
}
