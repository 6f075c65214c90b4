package layers

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Norm is RMSNorm over the last axis of x [N,C] with the gain name.weight [C].
func Norm(b *graph.Builder, name string, x graph.Value, eps float64) (y graph.Value) {
	b.In(name, func() { y = b.RMSNorm(x, b.Param("weight", graph.ConstInit(1), x.Dim(-1)), eps) })
	return y
}

// Embedding is a table of vocab rows of dim elements.
type Embedding struct {
	Vocab, Dim int
	// Stored is the type of a table that is read from a file, F16 or F32; the zero
	// value means a parameter.
	Stored tensor.DType
}

// Table declares the parameter name.weight [Vocab,Dim].
func (e Embedding) Table(b *graph.Builder, name string) (t graph.Value) {
	b.In(name, func() {
		if e.Stored != tensor.Invalid {
			t = b.Buffer("weight", tensor.T(e.Stored, e.Vocab, e.Dim))
		} else {
			t = b.Param("weight", graph.NormalInit(InitStd), e.Vocab, e.Dim)
		}
	})
	return t
}

// Lookup returns the rows of table for tokens i32 [B,T], as [B*T,Dim].
func (e Embedding) Lookup(b *graph.Builder, table, tokens graph.Value) graph.Value {
	return b.Reshape(b.Gather(table, tokens), tokens.Shape().Numel(), e.Dim)
}
