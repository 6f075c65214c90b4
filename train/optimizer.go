package train

import (
	"math"
	"strings"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// group is how one parameter is optimized.
type group struct {
	muon  bool
	lr    float64
	decay float64
}

// groupOf gives the group of a parameter.
func (r Recipe) groupOf(p model.Parameter) group {
	head := strings.HasPrefix(p.Name, "lm_head.")
	switch {
	case p.Category != model.Ternary && p.Category != model.Linear:
		return group{lr: r.OtherLR}
	case head:
		return group{lr: r.HeadLR, decay: r.MatrixDecay}
	}
	return group{muon: r.Optimizer == "muon", lr: r.MatrixLR, decay: r.MatrixDecay}
}

// Names of the optimizer's state beside a parameter.
const (
	firstMoment  = "adam.m."
	secondMoment = "adam.v."
	momentum     = "muon.m."
)

// Apply traces one optimizer step over the accumulated gradients: inputs
// factor (of the learning rates), c1 = 1-beta1^t and c2 = 1-beta2^t, all f32
// []; output norm f32 [], the global gradient norm before clipping. It updates
// parameters, moments and packed weights, and with accumulation clears the
// gradients.
func Apply(m *model.Model, r Recipe) (*graph.Graph, error) {
	params, err := m.Parameters()
	if err != nil {
		return nil, err
	}
	return graph.Trace(func(b *graph.Builder) {
		o := applier{b: b, m: m, r: r}
		for _, name := range []string{"factor", "c1", "c2"} {
			o.scalars = append(o.scalars, b.Input(name, tensor.F32))
		}
		values := make([]graph.Value, len(params))
		grads := make([]graph.Value, len(params))
		for i, p := range params {
			values[i] = b.GlobalParam(p.Name, p.Init, p.Shape...)
			grads[i] = b.GlobalBuffer(model.GradPrefix+p.Name, tensor.T(tensor.F32, p.Shape...))
		}
		clip := o.clip(grads)
		// A quantizer with parameters of its own packs by their new values too.
		_, late := m.Quantizer().(framework.Surrogate)
		for i, p := range params {
			next := o.step(p, values[i], grads[i], clip)
			if late {
				b.Bind(values[i], next)
			} else {
				o.pack(p, next)
			}
			values[i] = next
		}
		for i, p := range params {
			if late {
				o.pack(p, values[i])
			}
		}
	})
}

type applier struct {
	b       *graph.Builder
	m       *model.Model
	r       Recipe
	scalars []graph.Value // factor, c1, c2
}

// clip outputs the global norm and returns min(1, Clip/norm), or nothing when
// gradients are not clipped.
func (o *applier) clip(grads []graph.Value) graph.Value {
	b := o.b
	var sum graph.Value
	for i, g := range grads {
		if s := b.SumAll(b.Mul(g, g)); i == 0 {
			sum = s
		} else {
			sum = b.Add(sum, s)
		}
	}
	norm := b.Sqrt(sum)
	b.Output("norm", norm)
	if o.r.Clip == 0 {
		return graph.Value{}
	}
	return b.Min(b.Div(b.Like(norm, o.r.Clip), norm), b.Like(norm, 1))
}

// pack quantizes the new value of p, if that is a weight that has codes.
func (o *applier) pack(p model.Parameter, next graph.Value) {
	if p.Category == model.Ternary {
		o.m.PackWeight(o.b, p.Name, next)
	}
}

// step updates p and returns its new value.
func (o *applier) step(p model.Parameter, value, grad, clip graph.Value) graph.Value {
	b, g := o.b, o.r.groupOf(p)
	if o.r.Accum > 1 {
		b.Update(grad, b.Full(grad, 0))
	}
	clipped := grad
	if clip.Ok() {
		clipped = b.Mul(grad, clip)
	}
	lr := b.Scale(o.scalars[0], g.lr)
	var next graph.Value
	if g.muon {
		next = o.muon(p, value, clipped, lr, g.decay)
	} else {
		m := b.GlobalBuffer(firstMoment+p.Name, grad.Type())
		v := b.GlobalBuffer(secondMoment+p.Name, grad.Type())
		a := graph.AdamAttr{Beta1: o.r.Beta1, Beta2: o.r.Beta2, Eps: o.r.Eps, Decay: g.decay}
		var m2, v2 graph.Value
		next, m2, v2 = b.AdamW(value, clipped, m, v, lr, o.scalars[1], o.scalars[2], a)
		b.Update(m, m2)
		b.Update(v, v2)
	}
	b.Update(value, next)
	return next
}

// muon is one step of Muon (Jordan et al., 2024): the Nesterov momentum of the
// gradient, orthogonalized, scaled by sqrt(max(1, rows/columns)).
func (o *applier) muon(p model.Parameter, value, grad, lr graph.Value, decay float64) graph.Value {
	b := o.b
	buf := b.GlobalBuffer(momentum+p.Name, grad.Type())
	m := b.Add(b.Scale(buf, o.r.Momentum), grad)
	b.Update(buf, m)
	step := orthogonalize(b, b.Add(b.Scale(m, o.r.Momentum), grad))
	rows, cols := float64(p.Shape[0]), float64(p.Shape[1])
	step = b.Scale(step, math.Sqrt(max(1, rows/cols)))
	if decay > 0 {
		step = b.Add(step, b.Scale(value, decay))
	}
	return b.Sub(value, b.Mul(step, lr))
}

// orthogonalize brings the singular values of x [m,n] near 1 by five steps of
// the quintic Newton-Schulz iteration with Muon's coefficients.
func orthogonalize(b *graph.Builder, x graph.Value) graph.Value {
	const c0, c1, c2 = 3.4445, -4.7750, 2.0315
	tall := x.Dim(0) > x.Dim(1)
	norm := b.Sqrt(b.SumAll(b.Mul(x, x)))
	x = b.Div(x, b.Add(norm, b.Like(norm, 1e-7)))
	// The Gram matrix is that of the shorter side.
	for range 5 {
		gram := b.MatMul(x, x, tall, !tall)
		poly := b.Add(b.Scale(gram, c1), b.Scale(b.MatMul(gram, gram, false, false), c2))
		if tall {
			x = b.Add(b.Scale(x, c0), b.MatMul(x, poly, false, false))
		} else {
			x = b.Add(b.Scale(x, c0), b.MatMul(poly, x, false, false))
		}
	}
	return x
}
