package backendtest

import (
	"context"
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	// gradBound is the largest relative error of a gradient against central
	// differences in float64.
	gradBound = 1e-6
	gradStep  = 1e-5
	gradRule  = "the gradient equals central finite differences in float64 within 1e-6, or the stated surrogate where the value is not smooth"
	gradFix   = "the op's VJP in framework/graph/vjp.go, or its Expand in nn.go"
)

// noGradient lists the ops that carry none, with the reason.
var noGradient = map[string]string{
	"input": "leaf", "param": "leaf", "buffer": "leaf", "const": "leaf", "iota": "leaf",
	"less": "boolean", "equal": "boolean", "encode": "codes", "decode": "codes",
	"updateat": "inference only", "adamw": "never differentiated",
}

// CheckGradients checks the derivative of every op in float64 on the backend
// that open64 opens; the interpreter when it is nil. It tests the graph itself.
func CheckGradients(ctx context.Context, open64 func() framework.Backend) Report {
	if open64 == nil {
		open64 = func() framework.Backend { return eval.New() }
	}
	return suite.Check(ctx, gradEntries(open64), nil)
}

func gradEntries(open64 func() framework.Backend) []suite.Entry {
	with := func(run func(ctx context.Context, t *target) (float64, error)) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			be := open64()
			defer func() { _ = be.Close() }()
			t, err := newTarget(ctx, be)
			if err != nil {
				return "", err
			}
			if !t.wide {
				return "", errors.New("the reference for gradients does not compute in float64")
			}
			e, err := run(ctx, t)
			return fmt.Sprintf("worst relative error %.1e", e), err
		}
	}
	var all []suite.Entry
	for _, op := range graph.Ops() {
		if op.Primal() != nil {
			continue
		}
		if why := noGradient[op.Name]; why != "" {
			all = append(all, check(op.Name, "the op sends no gradient: "+why, gradFix, with(func(ctx context.Context, t *target) (float64, error) {
				return 0, checkNoGradient(op)
			})))
			continue
		}
		all = append(all, check(op.Name, gradRule, gradFix, with(func(ctx context.Context, t *target) (float64, error) {
			return t.checkGradient(ctx, op)
		})))
	}
	for _, s := range surrogates() {
		all = append(all, check(s.name, s.rule, gradFix, with(s.run)))
	}
	return append(all, check("network", gradRule, gradFix, with(checkNetwork)))
}

// checkGradient checks the samples of op that suit finite differences; an op
// without one must have a surrogate.
func (t *target) checkGradient(ctx context.Context, op *graph.Op) (float64, error) {
	most, n := 0.0, 0
	for _, s := range samplesOf(op) {
		if !s.fd {
			continue
		}
		n++
		e, err := t.finiteDifferences(ctx, op, s)
		if err != nil {
			return e, errors.Wrapf(err, "%v", s)
		}
		most = max(most, e)
	}
	if n == 0 && !surrogateOps[op.Name] {
		return 0, errors.New("no sample for finite differences and no surrogate: mark one in framework/backendtest/cases.go")
	}
	return most, nil
}

func checkNoGradient(op *graph.Op) error {
	if op.Composite() != (op.Name == "adamw") {
		return errors.New("a composite has a derived gradient")
	}
	if op.Composite() {
		if op.Pullback() != nil {
			return errors.New("has a pullback")
		}
		return nil
	}
	ss := samplesOf(op)
	if len(ss) == 0 {
		return errors.New("op has no case")
	}
	_, err := graph.Trace(func(b *graph.Builder) {
		x := inputs(b, ss[0].in)
		y := ss[0].apply(b, op, x)
		if len(y[0].N.In) == 0 {
			return
		}
		for i, d := range op.VJP(b, y[0].N, y) {
			if d.Ok() {
				graph.Fail("operand %d receives a gradient", i)
			}
		}
	})
	return err
}

// gradGraph outputs the scalar sum of r*y over the results y, and its
// gradients with respect to the f32 operands.
func gradGraph(op *graph.Op, s sample) (g *graph.Graph, err error) {
	return graph.Trace(func(b *graph.Builder) {
		x := inputs(b, s.in)
		var loss graph.Value
		for i, y := range s.apply(b, op, x) {
			if d := y.Type().DType; d == tensor.F16 || d == tensor.BF16 {
				y = b.Cast(y, tensor.F32)
			}
			r := b.Input(fmt.Sprintf("r%d", i), tensor.F32, y.Shape()...)
			part := b.SumAll(b.Mul(y, r))
			if loss.Ok() {
				part = b.Add(loss, part)
			}
			loss = part
		}
		var wrt []graph.Value
		for _, v := range x {
			if v.Type().DType == tensor.F32 {
				wrt = append(wrt, v)
			}
		}
		b.Output("loss", loss)
		outputs(b, "d", b.Gradients(loss, wrt))
	})
}

// finiteDifferences returns the worst relative error of any element of any
// gradient.
func (t *target) finiteDifferences(ctx context.Context, op *graph.Op, s sample) (float64, error) {
	g, err := gradGraph(op, s)
	if err != nil {
		return 0, err
	}
	in := s.tensors(seed, op.Name)
	for _, n := range g.Inputs[len(in):] {
		in = append(in, fillTensor(n.Out[0], normal, rng.NewKey(seed, op.Name+n.Name())))
	}
	widen(in)
	ses, err := t.session(ctx, g, nil)
	if err != nil {
		return 0, err
	}
	defer ses.close()
	got, err := ses.run(ctx, in...)
	if err != nil {
		return 0, err
	}
	most, k := 0.0, 0
	for i, o := range s.in {
		if o.t.DType != tensor.F32 {
			continue
		}
		k++
		e, err := ses.compareSlopes(ctx, in, i, got[k].Floats())
		if err != nil {
			return e, errors.Wrapf(err, "operand %d", i)
		}
		most = max(most, e)
	}
	return most, nil
}

// widen turns f32 tensors into f64 ones.
func widen(in []*tensor.Tensor) {
	for i, x := range in {
		if x.DType == tensor.F32 {
			in[i] = tensor.FromF64(x.Floats(), x.Shape...)
		}
	}
}

// compareSlopes moves each element of input i both ways and compares the slope
// of output 0 with grad.
func (s *session) compareSlopes(ctx context.Context, in []*tensor.Tensor, i int, grad []float64) (float64, error) {
	scale := 0.0
	for _, g := range grad {
		scale = max(scale, math.Abs(g))
	}
	most := 0.0
	x := in[i].F64()
	for k := range x {
		old := x[k]
		var at [2]float64
		for side, h := range []float64{gradStep, -gradStep} {
			x[k] = old + h
			out, err := s.run(ctx, in...)
			if err != nil {
				return 0, err
			}
			at[side] = out[0].F64()[0]
		}
		x[k] = old
		slope := (at[0] - at[1]) / (2 * gradStep)
		// Against the larger of this element and a hundredth of the largest:
		// the difference of two losses cannot resolve less.
		e := math.Abs(slope-grad[k]) / max(math.Abs(slope), math.Abs(grad[k]), scale/100, 1e-3)
		if !(e < gradBound) {
			return e, errors.Newf("element %d: gradient %.12g, slope %.12g, relative error %.1e", k, grad[k], slope, e)
		}
		most = max(most, e)
	}
	return most, nil
}
