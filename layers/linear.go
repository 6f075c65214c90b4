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
	// Stored, where it is not nil and Packed is set, says by the weight's full
	// name, such as blk.0.attn.wq, how that one is stored; the others are as Quant
	// has it.
	Stored map[string]Stored
}

// Apply returns x W^T, f32 [N,M], for x [N,K] and the weight called name.
func (l Linear) Apply(b *graph.Builder, name string, x graph.Value, out int) (y graph.Value) {
	b.In(name, func() {
		if s, ok := l.stored(b); ok {
			y = s.apply(b, x, out)
			return
		}
		switch w := l.weight(b, out, x.Dim(1)); {
		case !w.codes.Ok():
			y = b.MatMul(x, w.latent, false, true)
		case l.Packed:
			y = b.CodeBookMatMul(x, w.codes, w.scales, w.attr)
		default:
			y = b.BitLinear(x, w.latent, w.codes, w.scales, w.attr)
		}
	})
	return y
}

// CrossEntropy returns the cross-entropy of what Apply returns with targets
// i32 [N]: f32 [N] in nats. The product need not stand in memory.
func (l Linear) CrossEntropy(b *graph.Builder, name string, x graph.Value, out int, targets graph.Value) (nll graph.Value) {
	b.In(name, func() {
		if s, ok := l.stored(b); ok {
			nll = b.CrossEntropy(s.apply(b, x, out), targets)
			return
		}
		switch w := l.weight(b, out, x.Dim(1)); {
		case !w.codes.Ok():
			nll = b.LinearCrossEntropy(x, w.latent, targets)
		case l.Packed:
			nll = b.CodeBookCrossEntropy(x, w.codes, w.scales, targets, w.attr)
		default:
			nll = b.BitLinearCrossEntropy(x, w.latent, w.codes, w.scales, targets, w.attr)
		}
	})
	return nll
}

// stored returns how the weight of the current scope is stored, if that is not
// the quantizer's choice.
func (l Linear) stored(b *graph.Builder) (s Stored, ok bool) {
	if l.Packed {
		s, ok = l.Stored[b.Scope()]
	}
	return s, ok
}

// weight is what a linear multiplies by. There are no codes without a
// quantizer, and no latent weight where the packed form is all there is.
type weight struct {
	latent, codes, scales graph.Value
	attr                  graph.LinearAttr
}

// weight declares the weight [m,k] under the current scope.
func (l Linear) weight(b *graph.Builder, m, k int) (w weight) {
	quantized := l.Quant.Format().Quantized()
	if quantized {
		w.attr = l.Quant.Format().Linear()
		w.codes, w.scales = l.buffers(b, m, k)
	}
	if !quantized || !l.Packed {
		w.latent = b.Param("weight", graph.NormalInit(InitStd), m, k)
	}
	if s, ok := l.Quant.(framework.Surrogate); ok && quantized && !l.Packed {
		if w.latent = s.Surrogate(b, w.latent); !w.latent.Type().Equal(tensor.T(tensor.F32, m, k)) {
			graph.Fail("%s: surrogate of a weight [%d,%d] is %v", l.Quant.Spec(), m, k, w.latent.Type())
		}
	}
	return w
}

// buffers declares the packed form of a weight [m,k] under the current scope.
func (l Linear) buffers(b *graph.Builder, m, k int) (codes, scales graph.Value) {
	f := l.Quant.Format()
	if _, _, err := f.Scales(m, k); err != nil {
		graph.Fail("%s: weight [%d,%d]: %v", l.Quant.Spec(), m, k, err)
	}
	return buffers(b, f, m, k)
}

// buffers declares the codes and scales of a weight [m,k] of format f.
func buffers(b *graph.Builder, f framework.Format, m, k int) (codes, scales graph.Value) {
	rows, cols, err := f.Scales(m, k)
	if err != nil {
		graph.Fail("weight [%d,%d]: %v", m, k, err)
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
