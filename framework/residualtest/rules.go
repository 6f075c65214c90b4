package residualtest

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	gradBound = 1e-7 // relative, against central differences in float64
	gradStep  = 1e-5
)

func (s *tester) entries() []suite.Entry {
	all := []suite.Entry{
		{Name: "spec", Rule: "Spec opens the same residual again", Fix: "Spec and the options it prints", Run: s.spec},
		{Name: "shapes", Rule: "Read and Collapse give [N,C], Write a stream like its operand, for any N, C and sub-layer", Fix: "the reshapes of Expand, Read, Write and Collapse", Run: s.shapes},
		{Name: "identity", Rule: "Collapse(Expand(x)) is x", Fix: "Collapse: a mean over copies, or the stream itself", Run: s.identity},
		{Name: "branch", Rule: "what a sub-layer writes reaches the output, and what it reads follows the input", Fix: "Write that drops y, or Read that drops the stream", Run: s.branch},
		{Name: "gradient", Rule: "the gradient of two sub-layers equals central differences in float64 within 1e-7", Fix: "an op without a gradient, or a StopGrad, in Read or Write", Run: s.gradient},
		{Name: "tokens", Rule: "what becomes of a token depends on no other token", Fix: "a mean or a softmax over the rows of the stream", Run: s.tokens},
		{Name: "parameters", Rule: "parameters lie in the scope of their sub-layer, equally many in each, with finite inits", Fix: "GlobalParam, a name made of l, or a parameter declared in Expand", Run: s.parameters},
		{Name: "text", Rule: "two traces have the same text, and it reads back as the same graph", Fix: "state in the residual, or an attribute that text cannot hold", Run: s.text},
	}
	if s.mixer == nil {
		return all
	}
	all = append(all, suite.Entry{Name: "mixing", Rule: "Write mixes the streams by the matrix that Mixing gives", Fix: "Mixing, or the order of its axes: row i makes stream i", Run: s.mixing})
	if !s.mixer.DoublyStochastic() {
		return all
	}
	return append(all, []suite.Entry{
		{Name: "doubly stochastic", Rule: "Mixing is non-negative with rows and columns that sum to 1, for any parameters", Fix: "the parameterization of Mixing, or the claim", Run: s.stochastic},
		{Name: "mean of streams", Rule: "a sub-layer that writes 0 keeps the mean of the streams", Fix: "Write that scales the stream", Run: s.mean},
		{Name: "gain", Rule: "the product of 64 mixing matrices has absolute row and column sums of at most 1", Fix: "the parameterization of Mixing", Run: s.gain},
	}...)
}

func (s *tester) spec(context.Context) (string, error) {
	r, err := s.parse(s.r.Spec())
	if err != nil {
		return "", errors.Wrapf(err, "opening %q", s.r.Spec())
	}
	if r.Spec() != s.r.Spec() {
		return "", errors.Newf("%q opens as %q", s.r.Spec(), r.Spec())
	}
	other := &tester{r: r}
	a, err := s.stackText(3)
	if err != nil {
		return "", err
	}
	b, err := other.stackText(3)
	if err != nil {
		return "", err
	}
	if a != b {
		return "", errors.Newf("%q opens as a residual that builds another graph", s.r.Spec())
	}
	return s.r.Spec(), nil
}

// stack is sub-layers 0 to n-1 of sin(x W_l) on x.
func (s *tester) stack(b *graph.Builder, x graph.Value, n int) graph.Value {
	stream := s.r.Expand(b, x)
	for l := range n {
		stream = s.sublayer(b, l, stream, func(x graph.Value) graph.Value {
			return b.Sin(b.MatMul(x, b.Param("probe", graph.NormalInit(0.5), x.Dim(1), x.Dim(1)), false, false))
		})
	}
	return s.r.Collapse(b, stream)
}

func (s *tester) stackGraph(n int) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		b.Output("y", s.stack(b, b.Input("x", tensor.F32, 3, 5), n))
	})
}

func (s *tester) stackText(n int) (string, error) {
	g, err := s.stackGraph(n)
	if err != nil {
		return "", err
	}
	return g.String(), nil
}

func (s *tester) shapes(context.Context) (string, error) {
	var detail string
	for _, nc := range [][2]int{{1, 1}, {1, 8}, {3, 5}, {64, 33}} {
		for _, l := range []int{0, 1, 2, 7, 63} {
			_, err := graph.Trace(func(b *graph.Builder) {
				flat := tensor.T(tensor.F32, nc[0], nc[1])
				check := func(what string, v graph.Value, want tensor.Type) {
					if !v.Ok() || !v.Type().Equal(want) {
						graph.Fail("%s of sub-layer %d on x %v gives %v, wants %v", what, l, flat, v, want)
					}
				}
				stream := s.r.Expand(b, b.Input("x", tensor.F32, nc[0], nc[1]))
				typ := stream.Type()
				if s.mixer != nil {
					check("Expand", stream, tensor.T(tensor.F32, nc[0], s.mixer.Width(), nc[1]))
				}
				read := at(b, l, func() graph.Value { return s.r.Read(b, l, stream) })
				check("Read", read, flat)
				check("Write", at(b, l, func() graph.Value { return s.r.Write(b, l, stream, read) }), typ)
				check("Collapse", s.r.Collapse(b, stream), flat)
				detail = fmt.Sprintf("the stream of x %v is %v", flat, typ)
			})
			if err != nil {
				return "", err
			}
		}
	}
	return detail, nil
}

func (s *tester) identity(ctx context.Context) (string, error) {
	x := normal("x", 7, 33)
	out, err := s.once(ctx, 0, []*tensor.Tensor{x}, func(b *graph.Builder) {
		b.Output("y", s.r.Collapse(b, s.r.Expand(b, b.Input("x", tensor.F32, 7, 33))))
	})
	if err != nil {
		return "", err
	}
	return within("Collapse(Expand(x))", out[0].F64(), x.F64(), 1e-6)
}

// within returns the largest difference, relative to the largest value wanted.
func within(what string, got, want []float64, bound float64) (string, error) {
	scale, most := 0.0, 0.0
	for i, w := range want {
		scale = max(scale, math.Abs(w))
		d := math.Abs(got[i] - w)
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		most = max(most, d)
	}
	if most /= max(scale, 1e-30); most > bound {
		return "", errors.Newf("%s is off by %.1e, relative", what, most)
	}
	return fmt.Sprintf("off by %.1e", most), nil
}

// branch differentiates the output by a sub-layer's y, and what it reads by x.
func (s *tester) branch(ctx context.Context) (string, error) {
	for l := range 4 {
		// Off the inits: a gain may well start at 0.
		out, err := s.once(ctx, 0.3, []*tensor.Tensor{normal("x", 3, 5), normal("y", 3, 5)}, func(b *graph.Builder) {
			x, y := b.Input("x", tensor.F32, 3, 5), b.Input("y", tensor.F32, 3, 5)
			stream := s.r.Expand(b, x)
			read := at(b, l, func() graph.Value { return s.r.Read(b, l, stream) })
			z := s.r.Collapse(b, at(b, l, func() graph.Value { return s.r.Write(b, l, stream, y) }))
			b.Output("dy", b.Gradients(b.SumAll(z), []graph.Value{y})[0])
			b.Output("dx", b.Gradients(b.SumAll(read), []graph.Value{x})[0])
			b.Output("dz", b.Gradients(b.SumAll(z), []graph.Value{x})[0])
		})
		if err != nil {
			return "", err
		}
		for i, what := range []string{"output by what is written", "what is read by the input", "output by the input"} {
			for k, d := range out[i].F64() {
				if !(math.Abs(d) > 1e-6) {
					return "", errors.Newf("sub-layer %d: the derivative of the %s is %v (element %d)", l, what, d, k)
				}
			}
		}
	}
	return "", nil
}

// gradient compares the gradient of sum(r * stack) with respect to x and every
// parameter, those moved off their inits. The streams of a Mixer, which are
// alike where they begin, are also moved one by one.
func (s *tester) gradient(ctx context.Context) (string, error) {
	most, err := s.differences(ctx, normal("x", 3, 5), func(b *graph.Builder, x graph.Value) graph.Value {
		return s.stack(b, x, 2)
	})
	if err != nil {
		return "", err
	}
	if s.mixer != nil {
		e, err := s.differences(ctx, normal("s", 3, s.mixer.Width(), 5), func(b *graph.Builder, stream graph.Value) graph.Value {
			return s.sublayer(b, 1, stream, b.Sin)
		})
		if err != nil {
			return "", errors.Wrap(err, "one sub-layer on streams that differ")
		}
		most = max(most, e)
	}
	return fmt.Sprintf("worst relative error %.1e", most), nil
}

// differences compares the gradient of sum(r * f(x)) with differences.
func (s *tester) differences(ctx context.Context, x *tensor.Tensor, f func(b *graph.Builder, x graph.Value) graph.Value) (float64, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		x, r := b.Input("x", tensor.F32, x.Shape...), b.Input("r", tensor.F32, x.Shape...)
		loss := b.SumAll(b.Mul(f(b, x), r))
		b.Output("loss", loss)
		for i, d := range b.Gradients(loss, append(b.Params(), x)) {
			b.Output(fmt.Sprint("d", i), d)
		}
	})
	if err != nil {
		return 0, err
	}
	ses, err := s.session(ctx, g, 0.3)
	if err != nil {
		return 0, err
	}
	defer ses.close()
	in := []*tensor.Tensor{x, normal("r", x.Shape...)}
	grads, err := ses.run(ctx, in...)
	if err != nil {
		return 0, err
	}
	most := 0.0
	for i, n := range g.Params() {
		w, err := ses.store.Get(ctx, n.Name())
		if err != nil {
			return 0, err
		}
		e, err := ses.slopes(ctx, in, w.F64(), grads[i+1].F64(), func() error { return ses.store.Put(ctx, n.Name(), w) })
		if err != nil {
			return 0, errors.Wrapf(err, "parameter %s", n.Name())
		}
		most = max(most, e)
	}
	e, err := ses.slopes(ctx, in, x.F64(), grads[len(grads)-1].F64(), func() error { return nil })
	return max(most, e), errors.Wrap(err, "the input")
}

// slopes moves each element of w, puts it, and compares.
func (s *session) slopes(ctx context.Context, in []*tensor.Tensor, w, grad []float64, put func() error) (float64, error) {
	most, scale := 0.0, 0.0
	for _, g := range grad {
		scale = max(scale, math.Abs(g))
	}
	for k := range w {
		old := w[k]
		var loss [2]float64
		for side, h := range []float64{gradStep, -gradStep} {
			w[k] = old + h
			if err := put(); err != nil {
				return 0, err
			}
			out, err := s.run(ctx, in...)
			if err != nil {
				return 0, err
			}
			loss[side] = out[0].F64()[0]
		}
		w[k] = old
		slope := (loss[0] - loss[1]) / (2 * gradStep)
		// A difference of two losses resolves about 1e-10.
		e := math.Abs(slope-grad[k]) / max(math.Abs(slope), math.Abs(grad[k]), scale/10, 1e-2)
		if !(e < gradBound) {
			return e, errors.Newf("element %d: gradient %.12g, slope %.12g", k, grad[k], slope)
		}
		most = max(most, e)
	}
	return most, put()
}

// stackDepth is the number of sub-layers whose parameters are counted.
const stackDepth = 6

func (s *tester) parameters(context.Context) (string, error) {
	count := 0
	for _, width := range []int{5, 8, 768} {
		g, err := s.declared(width)
		if err != nil {
			return "", err
		}
		if count, err = perSubLayer(g); err != nil {
			return "", err
		}
		if s.count == nil {
			continue
		}
		if want := s.count(width); count != want {
			return "", errors.Newf("%d parameters a sub-layer at width %d, want %d", count, width, want)
		}
	}
	return fmt.Sprintf("%d parameters a sub-layer at width 768", count), nil
}

// declared is a graph with the parameters of a stack of a width, if Expand and
// Collapse declare none and Mixing none of its own.
func (s *tester) declared(width int) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		stream := s.r.Expand(b, b.Input("x", tensor.F32, 3, width))
		if n := len(b.Params()); n > 0 {
			graph.Fail("Expand declares %d parameters", n)
		}
		for l := range stackDepth {
			old := stream
			stream = s.sublayer(b, l, stream, func(x graph.Value) graph.Value { return x })
			before := len(b.Params())
			if s.mixer != nil {
				at(b, l, func() graph.Value { return s.mixer.Mixing(b, l, old) })
			}
			if len(b.Params()) != before {
				graph.Fail("Mixing of sub-layer %d declares parameters that Read and Write do not", l)
			}
		}
		before := len(b.Params())
		b.Output("y", s.r.Collapse(b, stream))
		if len(b.Params()) != before {
			graph.Fail("Collapse declares parameters")
		}
	})
}

// perSubLayer counts the parameters of each sub-layer, which must be alike.
func perSubLayer(g *graph.Graph) (int, error) {
	var count [stackDepth]int
	for _, n := range g.States {
		if !n.IsParam() {
			return 0, errors.Newf("buffer %q: a residual keeps no state", n.Name())
		}
		owner := -1
		for l := range stackDepth {
			if strings.HasPrefix(n.Name(), scope(l)+".") {
				owner = l
			}
		}
		if owner < 0 {
			return 0, errors.Newf("parameter %q is in the scope of no sub-layer", n.Name())
		}
		count[owner] += n.Out[0].Shape.Numel()
		for _, v := range drawn(n, 0).F64() {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return 0, errors.Newf("parameter %q starts at %v", n.Name(), v)
			}
		}
	}
	for l, c := range count {
		if c != count[0] {
			return 0, errors.Newf("sub-layer %d has %d parameters, sub-layer 0 has %d", l, c, count[0])
		}
	}
	return count[0], nil
}

// tokens computes a stack on several tokens at once, and on each alone, as
// decoding does.
func (s *tester) tokens(ctx context.Context) (string, error) {
	const N, C, depth = 4, 6, 3
	run := func(x *tensor.Tensor) ([]float64, error) {
		out, err := s.once(ctx, 0.5, []*tensor.Tensor{x}, func(b *graph.Builder) {
			b.Output("y", s.stack(b, b.Input("x", tensor.F32, x.Shape...), depth))
		})
		if err != nil {
			return nil, err
		}
		return out[0].F64(), nil
	}
	x := normal("x", N, C)
	all, err := run(x)
	if err != nil {
		return "", err
	}
	for n := range N {
		one := tensor.New(tensor.T(tensor.F64, 1, C))
		copy(one.F64(), x.F64()[n*C:])
		alone, err := run(one)
		if err != nil {
			return "", err
		}
		if _, err := within(fmt.Sprintf("token %d alone", n), alone, all[n*C:(n+1)*C], 1e-9); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d tokens", N), nil
}

func (s *tester) text(context.Context) (string, error) {
	a, err := s.stackText(4)
	if err != nil {
		return "", err
	}
	again, err := s.stackText(4)
	if err != nil {
		return "", err
	}
	if a != again {
		return "", errors.New("two traces have different texts")
	}
	g, err := graph.Read(strings.NewReader(a))
	if err != nil {
		return "", errors.Wrap(err, "the text does not read")
	}
	if g.String() != a {
		return "", errors.New("the text reads as another graph")
	}
	return fmt.Sprintf("%d nodes in 4 sub-layers", len(g.Nodes)), nil
}
