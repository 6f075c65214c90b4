package backendtest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	specialRule = "NaN, infinities and signed zeros give what IEEE 754 arithmetic gives, in every lane"
	rowRule     = "a NaN in a row makes that row's result NaN and leaves the bits of other rows alone"
	specialFix  = "the kernel's handling of NaN and infinity (masks, clamps, polynomial ranges)"
)

// specials are the values that elementwise ops are tried on, padded so that
// each falls into vector bodies and tails. Subnormal numbers are left out:
// a device may flush them.
func specials() []float32 {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	zero := float32(0)
	return []float32{nan, inf, -inf, 0, -zero, 1, -1, 1000, -1000, math.MaxFloat32, -math.MaxFloat32, 0x1p-126, 3.5, -0.25}
}

func (t *tester) specialEntries() []suite.Entry {
	var all []suite.Entry
	for _, name := range []string{"neg", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "abs", "sigmoid", "scale", "add", "sub", "mul", "div"} {
		all = append(all, check(name, specialRule, specialFix, func(ctx context.Context) (string, error) {
			return "", t.checkSpecial(ctx, graph.Lookup(name))
		}))
	}
	for _, name := range []string{
		"sum", "rmsnorm", "normlinear", "softmax", "swiglu", "crossentropy", "matmul", "attention",
		"streamread", "streamwrite", "streamread by row", "streamwrite by row",
	} {
		all = append(all, check(name, rowRule, specialFix, func(ctx context.Context) (string, error) {
			return "", t.checkPoison(ctx, name)
		}))
	}
	return all
}

// checkSpecial compares the class of each result (NaN, an infinity, finite)
// with float32 arithmetic.
func (t *tester) checkSpecial(ctx context.Context, op *graph.Op) error {
	ref, err := newTarget(ctx, &eval.Backend{Single: true})
	if err != nil {
		return err
	}
	sp := specials()
	var x, y []float32
	for _, a := range sp { // every pair, at every place modulo the vector width
		for _, b := range sp {
			x, y = append(x, a), append(y, b)
		}
	}
	in := []*tensor.Tensor{tensor.FromF32(x, len(x)), tensor.FromF32(y, len(y))}[:op.Arity]
	var attr any
	if op.Name == "scale" {
		attr = graph.ConstAttr{Value: -2}
	}
	g, err := graph.Trace(func(b *graph.Builder) {
		var args []graph.Value
		for i := range in {
			args = append(args, b.Input(inputName(i), tensor.F32, len(x)))
		}
		outputs(b, "y", b.Apply(op, attr, args...))
	})
	if err != nil {
		return err
	}
	got, err := t.be.once(ctx, g, nil, in...)
	if err != nil {
		return err
	}
	want, err := ref.once(ctx, g, nil, in...)
	if err != nil {
		return err
	}
	for i, w := range want[0].Floats() {
		if v := got[0].Floats()[i]; class(v) != class(w) && !t.be.overflow(v, w) {
			return errors.Newf("%s of %v, %v gives %v, wants %v (element %d)", op.Name, x[i], y[i], v, w, i)
		}
	}
	return nil
}

// overflow allows a float64 backend to be finite where float32 is not.
func (t *target) overflow(got, want float64) bool {
	return t.wide && math.IsInf(want, 0) && math.Abs(got) > math.MaxFloat32
}

func class(x float64) string {
	switch {
	case math.IsNaN(x):
		return "NaN"
	case math.IsInf(x, 1):
		return "+Inf"
	case math.IsInf(x, -1):
		return "-Inf"
	}
	return "finite"
}

// poisonSample gives the sample of that name, an op and a form of it, whose
// operand 0 and result consist of so many rows.
func poisonSample(name string) (s sample, rows int) {
	switch name {
	case "sum":
		return sample{attr: graph.AxisAttr{Axis: 1}, in: []operand{f32(normal, 9, 33)}}, 9
	case "matmul":
		return sample{attr: graph.MatMulAttr{TransY: true}, in: []operand{f32(normal, 9, 33), f32(normal, 17, 33)}}, 9
	case "rmsnorm":
		return sample{attr: graph.NormAttr{Eps: 1e-6}, in: []operand{f32(normal, 9, 33), f32(normal, 33)}}, 9
	case "normlinear":
		return sample{attr: graph.NormAttr{Eps: 1e-6}, in: []operand{f32(normal, 9, 33), f32(normal, 33), f32(normal, 17, 33)}}, 9
	case "softmax":
		return sample{in: []operand{f32(normal, 9, 33)}}, 9
	case "swiglu":
		return sample{in: []operand{f32(normal, 9, 33), f32(normal, 9, 33)}}, 9
	case "crossentropy":
		return sample{in: []operand{f32(normal, 9, 33), i32(below(33), 9)}}, 9
	case "attention":
		return sample{in: []operand{f32(normal, 1, 9, 1, 16), f32(normal, 1, 9, 1, 16), f32(normal, 1, 9, 1, 16), i32(below(1), 1)}}, 9
	case "streamread":
		return sample{in: []operand{f32(normal, 9, 2, 33), f32(normal, 2)}}, 9
	case "streamwrite":
		return sample{in: []operand{f32(normal, 9, 2, 33), f32(normal, 9, 33), f32(normal, 2, 2), f32(normal, 2)}}, 9
	case "streamread by row":
		return sample{in: []operand{f32(normal, 9, 4, 33), f32(normal, 9, 4)}}, 9
	case "streamwrite by row":
		return sample{in: []operand{f32(normal, 9, 4, 33), f32(normal, 9, 33), f32(normal, 9, 4, 4), f32(normal, 9, 4)}}, 9
	}
	panic("backendtest: no rows in " + name)
}

func (t *tester) checkPoison(ctx context.Context, name string) error {
	s, rows := poisonSample(name)
	of, _, _ := strings.Cut(name, " ")
	op := graph.Lookup(of)
	g, err := directGraph(op, s)
	if err != nil {
		return err
	}
	in := s.tensors(seed, op.Name)
	clean, err := t.be.once(ctx, g, nil, in...)
	if err != nil {
		return err
	}
	for _, bad := range []int{0, 4, rows - 1} {
		dirty := slices.Clone(in)
		dirty[0] = in[0].Clone()
		width := len(dirty[0].F32()) / rows
		dirty[0].F32()[bad*width+width/2] = float32(math.NaN())
		got, err := t.be.once(ctx, g, nil, dirty...)
		if err != nil {
			return err
		}
		if err := poisoned(got[0].Floats(), clean[0].Floats(), rows, bad); err != nil {
			return err
		}
	}
	return nil
}

func poisoned(got, clean []float64, rows, bad int) error {
	width, nans := len(got)/rows, 0
	for i, x := range got {
		switch r := i / width; {
		case r == bad && math.IsNaN(x):
			nans++
		case r != bad && math.Float64bits(x) != math.Float64bits(clean[i]):
			return errors.Newf("NaN in row %d changes row %d: %v, was %v", bad, r, x, clean[i])
		}
	}
	if nans == 0 {
		return errors.Newf("NaN in row %d is lost: %s", bad, fmt.Sprint(got[bad*width:bad*width+min(width, 4)]))
	}
	return nil
}
