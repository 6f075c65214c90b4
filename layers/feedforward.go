package layers

import "github.com/ternlm/tern/framework/graph"

// Activation is the function of a gated unit's gate.
type Activation string

// The activations.
const (
	SiLU  Activation = "silu"  // x sigmoid(x): SwiGLU (arXiv 2002.05202)
	ReLU2 Activation = "relu2" // max(x, 0)^2 (arXiv 2109.08668), as in BitNet b1.58 2B4T (arXiv 2504.12285)
)

// Activations lists the activations.
var Activations = []Activation{SiLU, ReLU2}

// FeedForward is the gated unit down(f(gate x) * up x).
type FeedForward struct {
	Hidden     int
	Activation Activation // f; SiLU, which the zero value stands for, or ReLU2
	SubNorm    bool       // RMSNorm before the down projection
	Eps        float64
	Linear     Linear
}

// Apply maps x [N,C] to [N,C]. The weights are gate, up and down.
func (f FeedForward) Apply(b *graph.Builder, x graph.Value) graph.Value {
	h := f.gate(b, f.Linear.Apply(b, "gate", x, f.Hidden), f.Linear.Apply(b, "up", x, f.Hidden))
	if f.SubNorm {
		h = Norm(b, "sub_norm", h, f.Eps)
	}
	return f.Linear.Apply(b, "down", h, x.Dim(1))
}

func (f FeedForward) gate(b *graph.Builder, gate, up graph.Value) graph.Value {
	switch f.Activation {
	case ReLU2:
		r := b.Max(gate, b.Like(gate, 0))
		return b.Mul(b.Mul(r, r), up)
	case SiLU, "":
		return b.SwiGLU(gate, up)
	}
	graph.Fail("feed-forward with activation %q", f.Activation)
	return graph.Value{}
}
