package layers

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// InitStd is the standard deviation of the first weights of linears and the
// embedding.
const InitStd = 0.02

// Linear multiplies by weights that a quantizer may turn into codes. The
// parameter is weight f32 [M,K]; its packed form is the buffers codes [M,K]
// and scales, in the layout of the quantizer's format.
type Linear struct {
	Quant  framework.Quantizer
	Packed bool // compute from the packed form alone: there is no latent weight
}

// Apply returns x W^T, f32 [N,M], for x [N,K] and the weight called name.
func (l Linear) Apply(b *graph.Builder, name string, x graph.Value, out int) (y graph.Value) {
	b.In(name, func() {
		f := l.Quant.Format()
		k := x.Dim(1)
		switch {
		case !f.Quantized():
			y = b.MatMul(x, b.Param("weight", graph.NormalInit(InitStd), out, k), false, true)
		case l.Packed:
			codes, scales := l.buffers(b, out, k)
			y = b.CodeBookMatMul(x, codes, scales, f.Linear())
		default:
			codes, scales := l.buffers(b, out, k)
			w := b.Param("weight", graph.NormalInit(InitStd), out, k)
			y = b.BitLinear(x, w, codes, scales, f.Linear())
		}
	})
	return y
}

// buffers declares the packed form of a weight [m,k] under the current scope.
func (l Linear) buffers(b *graph.Builder, m, k int) (codes, scales graph.Value) {
	f := l.Quant.Format()
	rows, cols, err := f.Scales(m, k)
	if err != nil {
		graph.Fail("%s: weight [%d,%d]: %v", l.Quant.Spec(), m, k, err)
	}
	return b.Buffer("codes", tensor.T(f.Code(), m, k)), b.Buffer("scales", tensor.T(tensor.F32, rows, cols))
}

// Pack quantizes the value w of the weight declared under the current scope
// and updates its packed form.
func (l Linear) Pack(b *graph.Builder, w graph.Value) {
	codes, scales := l.buffers(b, w.Dim(0), w.Dim(1))
	c, s := l.Quant.Pack(b, w)
	b.Update(codes, c)
	b.Update(scales, s)
}
