package backendtest

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	randomGraphs = 100
	randomGroup  = 10
	randomBound  = 1e-7
	randomRule   = "a random graph and its gradients agree with the reference, and with itself when composites are expanded; " +
		"its bits do not change when every value is kept alive"
	randomFix = "what only shows when ops meet: placement, aliasing, dead operands, views, merged nodes"
)

func (t *tester) randomEntries() []suite.Entry {
	var all []suite.Entry
	for lo := 0; lo < randomGraphs; lo += randomGroup {
		all = append(all, check(fmt.Sprintf("graphs %d-%d", lo, lo+randomGroup-1), randomRule, randomFix, func(ctx context.Context) (string, error) {
			most := 0.0
			for i := lo; i < lo+randomGroup; i++ {
				e, err := t.checkRandom(ctx, uint64(i))
				if err != nil {
					return "", errors.Wrapf(err, "graph %d", i)
				}
				most = max(most, e)
			}
			return worst(most, randomBound), nil
		}))
	}
	return all
}

func (t *tester) checkRandom(ctx context.Context, id uint64) (float64, error) {
	g, err := graph.Trace(func(b *graph.Builder) { randomGraph(b, id, false) })
	if err != nil {
		return 0, err
	}
	st, in := initStates(g), randomInputs(g, id)
	got, err := t.be.once(ctx, g, st, in...)
	if err != nil {
		return 0, errors.Wrapf(err, "run")
	}
	most := 0.0
	for _, ref := range t.refs {
		wants, err := ref.once(ctx, g, st, in...)
		if err != nil {
			return 0, errors.Wrap(err, "reference")
		}
		if most = max(most, differ(got, wants)); most > randomBound {
			return most, errors.Newf("NMSE %.1e against the reference\n%v", most, g)
		}
	}
	kept, err := graph.Trace(func(b *graph.Builder) { randomGraph(b, id, true) })
	if err != nil {
		return 0, err
	}
	alive, err := t.be.once(ctx, kept, st, in...)
	if err == nil {
		err = sameBits("every value kept alive", alive[:len(got)], got)
	}
	if err != nil {
		return most, errors.Wrapf(err, "%v", g)
	}
	flat, err := expandAll(g)
	if err != nil {
		return 0, err
	}
	plain, err := t.be.once(ctx, flat, st, in...)
	if err != nil {
		return 0, errors.Wrap(err, "expanded")
	}
	if e := differ(got, plain); e > randomBound {
		return e, errors.Newf("NMSE %.1e against the expanded graph\n%v", e, g)
	}
	return most, nil
}

// expandAll replaces every composite by its expansion, nested ones too.
func expandAll(g *graph.Graph) (*graph.Graph, error) {
	for {
		again := false
		next, err := graph.Trace(func(b *graph.Builder) {
			env := map[graph.Value]graph.Value{}
			for _, n := range g.Nodes {
				in := make([]graph.Value, len(n.In))
				for i, v := range n.In {
					in[i] = env[v]
				}
				if n.Op.Composite() {
					again = true
					for i, v := range n.Op.Expand(b, n.Attr, in) {
						env[graph.Value{N: n, I: i}] = v
					}
					continue
				}
				m := b.Copy(n, in)
				env[graph.Value{N: n}] = graph.Value{N: m}
			}
			for _, o := range g.Outputs {
				b.Output(o.Name, env[o.Value])
			}
		})
		if err != nil || !again {
			return next, err
		}
		g = next
	}
}

func randomInputs(g *graph.Graph, id uint64) []*tensor.Tensor {
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, n := range g.Inputs {
		fill := normal
		switch {
		case n.Out[0].DType == tensor.I32:
			fill = below(5)
		case n.Out[0].DType.Codes():
			fill = below(3)
		}
		in[i] = fillTensor(n.Out[0], fill, rng.NewKey(id, n.Name()))
	}
	return in
}

// maker grows a random graph. Values are f32 matrices [N,C].
type maker struct {
	b    *graph.Builder
	key  rng.Key
	draw uint64
	pool []graph.Value
	made int // names of leaves
}

func (m *maker) intn(n int) int {
	m.draw++
	return int(m.key.Uint32(m.draw) % uint32(n))
}

func (m *maker) pick() graph.Value {
	// Late values are likelier: deep graphs rather than wide ones.
	n := len(m.pool)
	return m.pool[max(m.intn(n), m.intn(n))]
}

func (m *maker) name(kind string) string {
	m.made++
	return fmt.Sprintf("%s%d", kind, m.made)
}

func (m *maker) param(dims ...int) graph.Value {
	return m.b.Param(m.name("p"), graph.NormalInit(0.5), dims...)
}

// like returns a value of x's shape: an old one if there is any.
func (m *maker) like(x graph.Value) graph.Value {
	for range 4 {
		if y := m.pick(); y.Shape().Equal(x.Shape()) {
			return y
		}
	}
	return m.param(x.Shape()...)
}

// randomGraph outputs a loss, the last values and the gradients of the
// parameters; with all it outputs every f32 value of the graph as well.
func randomGraph(b *graph.Builder, id uint64, all bool) {
	m := &maker{b: b, key: rng.NewKey(id, "graph")}
	sizes := []int{1, 3, 8, 9, 16}
	for range 3 {
		m.pool = append(m.pool, b.Input(m.name("x"), tensor.F32, sizes[m.intn(5)], sizes[m.intn(5)]))
	}
	m.pool = append(m.pool, m.param(sizes[m.intn(5)], sizes[m.intn(5)]))
	for range 20 + m.intn(20) {
		m.pool = append(m.pool, m.grow())
	}
	var loss graph.Value
	for _, v := range m.pool[len(m.pool)-6:] {
		// Bounded, so that no value drowns the others.
		part := b.Mean(b.Reshape(b.Sin(v), v.Shape().Numel()), 0)
		if loss.Ok() {
			part = b.Add(loss, part)
		}
		loss = part
	}
	loss = b.Reshape(loss)
	grads := b.Gradients(loss, b.Params())
	b.Output("loss", loss)
	outputs(b, "last", m.pool[len(m.pool)-2:])
	outputs(b, "grad", grads)
	if !all {
		return
	}
	seen := map[*graph.Node]bool{}
	var visit func(v graph.Value)
	visit = func(v graph.Value) {
		if seen[v.N] {
			return
		}
		seen[v.N] = true
		for _, x := range v.N.In {
			visit(x)
		}
		if v.Type().DType == tensor.F32 && v.N.Op.Name != "through" && v.N.Op.Name != "cut" {
			b.Output(fmt.Sprintf("all%d.%d", v.N.ID, v.I), v)
		}
	}
	for _, v := range append(grads, m.pool...) {
		visit(v)
	}
}

// grow appends one step, of one to six nodes.
func (m *maker) grow() graph.Value {
	b, x := m.b, m.pick()
	N, C := x.Dim(0), x.Dim(1)
	switch m.intn(24) {
	case 0:
		return b.Add(x, m.like(x))
	case 1:
		return b.Sub(m.like(x), x)
	case 2:
		return b.Mul(x, b.Sigmoid(m.like(x)))
	case 3:
		return b.Div(x, b.Add(b.Like(x, 1.5), b.Cos(m.like(x))))
	case 4:
		return b.Max(x, m.param(1, C))
	case 5:
		return b.Min(b.Abs(x), m.param(N, 1))
	case 6:
		return b.Where(b.Less(m.like(x), b.Like(x, 0.3)), x, b.Sin(x))
	case 7:
		return b.Add(b.Exp(b.Neg(b.Abs(x))), b.Mean(x, 1))
	case 8:
		return b.Mul(b.Rsqrt(b.Add(b.Mul(x, x), b.Like(x, 1))), b.AMax(x, 0))
	case 9:
		return b.Log(b.Add(b.Sqrt(b.Add(b.Mul(x, x), b.Like(x, 0.5))), b.Like(x, 1)))
	case 10, 11:
		return m.tame(b.MatMul(x, m.param(9, C), false, true))
	case 12:
		return m.tame(b.MatMul(x, m.like(x), true, false))
	case 13:
		return b.Transpose(x, 1, 0)
	case 14:
		return b.Reshape(x, C, N)
	case 15:
		return b.Concat(1, b.Slice(x, 1, C/2, C), b.Pad(m.like(x), 1, 1, 0))
	}
	return m.growComposite(x, N, C)
}

func (m *maker) growComposite(x graph.Value, N, C int) graph.Value {
	b := m.b
	switch m.intn(8) {
	case 0, 1:
		return m.tame(x)
	case 2:
		return b.SwiGLU(x, m.like(x))
	case 3:
		return b.Softmax(x)
	case 4: // rows picked, some of them twice
		rows := b.Gather(b.Pad(x, 0, 0, max(0, 5-N)), b.Input(m.name("ids"), tensor.I32, 3))
		return b.Concat(0, rows, x)
	case 5: // two streams
		s := b.Concat(1, b.Reshape(x, N, 1, C), b.Reshape(m.like(x), N, 1, C))
		s = b.StreamWrite(s, m.like(x), b.Softmax(m.coefficients(x, 2, 2)), m.coefficients(x, 2))
		return b.StreamRead(s, m.coefficients(x, 2))
	case 6: // self-attention over the rows, 2 heads of 4
		q := m.tame(b.MatMul(x, m.param(8, C), false, true))
		pos := b.Const(0, tensor.T(tensor.I32, 1))
		h := b.RoPE(b.Reshape(q, 1, N, 2, 4), pos, 50)
		return b.Reshape(b.Attention(h, b.Slice(h, 2, 0, 1), b.Reshape(b.Slice(q, 1, 0, 4), 1, N, 1, 4), pos), N, 8)
	}
	// A quantized linear layer, activations in f32: no rounding that could go
	// either way.
	w, codes := m.param(7, C), b.Input(m.name("codes"), tensor.U2, 7, C)
	scales := b.Add(b.Abs(m.param(7, 1)), b.Const(0.1, tensor.T(tensor.F32, 1, 1)))
	return m.tame(b.BitLinear(x, w, codes, b.StopGrad(scales), graph.LinearAttr{Levels: ternaryLevels}))
}

// coefficients are those of streams: the same for all rows of x, or following
// the row.
func (m *maker) coefficients(x graph.Value, dims ...int) graph.Value {
	if m.intn(2) == 0 {
		return m.param(dims...)
	}
	c := m.tame(m.b.MatMul(x, m.param(tensor.Shape(dims).Numel(), x.Dim(1)), false, true))
	return m.b.Reshape(c, append([]int{x.Dim(0)}, dims...)...)
}

// tame brings rows to unit size.
func (m *maker) tame(x graph.Value) graph.Value {
	return m.b.RMSNorm(x, m.param(x.Dim(1)), 0.01)
}
