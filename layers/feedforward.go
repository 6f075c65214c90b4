package layers

import "github.com/ternlm/tern/framework/graph"

// FeedForward is the gated unit down(silu(gate x) * up x).
type FeedForward struct {
	Hidden  int
	SubNorm bool // RMSNorm before the down projection
	Eps     float64
	Linear  Linear
}

// Apply maps x [N,C] to [N,C]. The weights are gate, up and down.
func (f FeedForward) Apply(b *graph.Builder, x graph.Value) graph.Value {
	h := b.SwiGLU(f.Linear.Apply(b, "gate", x, f.Hidden), f.Linear.Apply(b, "up", x, f.Hidden))
	if f.SubNorm {
		h = Norm(b, "sub_norm", h, f.Eps)
	}
	return f.Linear.Apply(b, "down", h, x.Dim(1))
}
