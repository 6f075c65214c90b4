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
	opRule = "an op is within its bound of the reference and of its expansion, and has the same bits in every run, " +
		"whether its operands are inputs, states or values that die or live on; other values keep their bits"
	opFix = "the backend's kernel of this op (tails, broadcast forms, Alias, Prepared)"
)

// seed of the operands of all samples.
const seed = 20251

func (t *tester) opEntries() []suite.Entry {
	var all []suite.Entry
	for _, op := range graph.Ops() {
		all = append(all, check(op.Name, opRule, opFix, func(ctx context.Context) (string, error) {
			return t.checkOp(ctx, op)
		}))
	}
	return all
}

func (t *tester) checkOp(ctx context.Context, op *graph.Op) (string, error) {
	ss := samplesOf(op)
	if len(ss) == 0 {
		return "", errors.WithHint(errors.Newf("op %s has no case", op.Name), "add a row to the table in framework/backendtest/cases.go")
	}
	most := 0.0
	for _, s := range ss {
		e, err := t.checkSample(ctx, op, s)
		if err != nil {
			return "", errors.Wrapf(err, "%s of %v", op.Name, s)
		}
		most = max(most, e)
	}
	return fmt.Sprintf("%d samples, %s", len(ss), worst(most, t.bound(op.Name))), nil
}

// checkSample returns the largest NMSE seen.
func (t *tester) checkSample(ctx context.Context, op *graph.Op, s sample) (float64, error) {
	in := s.tensors(seed, op.Name)
	direct, err := directGraph(op, s)
	if err != nil {
		return 0, err
	}
	ses, err := t.be.session(ctx, direct, nil)
	if err != nil {
		return 0, err
	}
	defer ses.close()
	got, err := ses.run(ctx, in...)
	if err != nil {
		return 0, err
	}
	again, err := ses.run(ctx, in...)
	if err == nil {
		err = sameBits("second run", again, got)
	}
	if err != nil {
		return 0, err
	}
	most := 0.0
	for i, ref := range t.refs {
		want, err := ref.once(ctx, direct, nil, in...)
		if err != nil {
			return 0, errors.Wrap(err, "reference")
		}
		if most, err = t.within(op, most, fmt.Sprintf("reference %d", i), got, want); err != nil {
			return most, err
		}
	}
	if op.Composite() {
		want, err := t.expanded(ctx, op, s, in)
		if err != nil {
			return most, errors.Wrap(err, "expansion")
		}
		if most, err = t.within(op, most, "the expansion", got, want); err != nil {
			return most, err
		}
	}
	return most, t.checkForms(ctx, op, s, in, got)
}

func (t *tester) within(op *graph.Op, most float64, what string, got, want []*tensor.Tensor) (float64, error) {
	e := differ(got, want)
	if limit := t.bound(op.Name); e > limit {
		return e, errors.Newf("NMSE %.1e against %s, at most %.0e is allowed", e, what, limit)
	}
	return max(most, e), nil
}

// directGraph applies op to inputs.
func directGraph(op *graph.Op, s sample) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		outputs(b, "y", s.apply(b, op, inputs(b, s.in)))
	})
}

func outputs(b *graph.Builder, prefix string, vs []graph.Value) {
	for i, v := range vs {
		b.Output(fmt.Sprintf("%s%d", prefix, i), v)
	}
}

// expanded runs op's expansion on the backend under test.
func (t *tester) expanded(ctx context.Context, op *graph.Op, s sample, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		outputs(b, "y", op.Expand(b, s.attr, inputs(b, s.in)))
	})
	if err != nil {
		return nil, err
	}
	return t.be.once(ctx, g, nil, in...)
}

// checkForms runs the sample with operands of other kinds; bits must not
// change.
func (t *tester) checkForms(ctx context.Context, op *graph.Op, s sample, in, want []*tensor.Tensor) error {
	dying, err := graph.Trace(func(b *graph.Builder) {
		outputs(b, "y", s.apply(b, op, copies(b, inputs(b, s.in))))
	})
	if err != nil {
		return err
	}
	got, err := t.be.once(ctx, dying, nil, in...)
	if err == nil {
		err = sameBits("operands that die at the op", got, want)
	}
	if err != nil {
		return err
	}
	if err := t.checkStates(ctx, op, s, in, want); err != nil {
		return err
	}
	if err := t.checkShared(ctx, op, s, in); err != nil {
		return err
	}
	return t.checkNeighbors(ctx, op, s, in, want)
}

// checkStates gives the operands as states of the store.
func (t *tester) checkStates(ctx context.Context, op *graph.Op, s sample, in, want []*tensor.Tensor) error {
	st := states{}
	g, err := graph.Trace(func(b *graph.Builder) {
		x := make([]graph.Value, len(s.in))
		for i, o := range s.in {
			st[inputName(i)] = in[i]
			if o.t.DType == tensor.F32 {
				x[i] = b.Param(inputName(i), graph.Init{}, o.t.Shape...)
			} else {
				x[i] = b.Buffer(inputName(i), o.t)
			}
		}
		outputs(b, "y", s.apply(b, op, x))
	})
	if err != nil {
		return err
	}
	ses, err := t.be.session(ctx, g, st)
	if err != nil {
		return err
	}
	defer ses.close()
	got, err := ses.run(ctx)
	if err == nil {
		err = sameBits("operands that are states", got, want)
	}
	if err != nil {
		return err
	}
	for name, x := range st {
		now, err := ses.store.Get(ctx, name)
		if err == nil && !t.be.wide {
			err = sameBits("state "+name+" after the run", []*tensor.Tensor{now}, []*tensor.Tensor{x})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkShared gives two operands of equally many elements one memory, which
// dies at the op: the second is the first, or a reshape of it.
func (t *tester) checkShared(ctx context.Context, op *graph.Op, s sample, in []*tensor.Tensor) error {
	for j := range s.in {
		for i := range j {
			a, c := s.in[i].t, s.in[j].t
			if a.DType != tensor.F32 || c.DType != tensor.F32 || a.Shape.Numel() != c.Shape.Numel() {
				continue
			}
			g, err := graph.Trace(func(b *graph.Builder) {
				x := copies(b, inputs(b, s.in))
				x[j] = b.Reshape(x[i], c.Shape...)
				outputs(b, "y", s.apply(b, op, x))
			})
			if err != nil {
				return err
			}
			apart, err := directGraph(op, s)
			if err != nil {
				return err
			}
			args := append([]*tensor.Tensor{}, in...)
			args[j] = &tensor.Tensor{Type: c, Data: in[i].Data}
			got, err := t.be.once(ctx, g, nil, args...)
			if err != nil {
				return err
			}
			want, err := t.be.once(ctx, apart, nil, args...)
			if err != nil {
				return err
			}
			if e := differ(got, want); e != 0 { // not by bits: some give NaN
				return errors.Newf("operands %d and %d in one memory: NMSE %.1e against operands apart", i, j, e)
			}
		}
	}
	return nil
}

// checkNeighbors keeps the operands and some other values alive around the op
// and sees that all of them keep their bits.
func (t *tester) checkNeighbors(ctx context.Context, op *graph.Op, s sample, in, want []*tensor.Tensor) error {
	guards := []operand{f32(normal, 257), f32(normal, 1), f32(normal, 3, 33)}
	fill := make([]*tensor.Tensor, len(guards))
	for i, o := range guards {
		fill[i] = fillTensor(o.t, o.fill, rng.NewKey(seed, fmt.Sprint("guard", i)))
	}
	results := 0
	g, err := graph.Trace(func(b *graph.Builder) {
		x := inputs(b, s.in)
		gs := make([]graph.Value, len(guards))
		for i, o := range guards {
			gs[i] = b.Input(fmt.Sprint("g", i), o.t.DType, o.t.Shape...)
		}
		first := b.Scale(gs[0], 1)
		live := copies(b, x)
		gs = copies(b, gs)
		y := s.apply(b, op, live)
		results = len(y)
		outputs(b, "y", y)
		outputs(b, "x", live)
		outputs(b, "g", append(gs, first))
	})
	if err != nil {
		return err
	}
	got, err := t.be.once(ctx, g, nil, append(append([]*tensor.Tensor{}, in...), fill...)...)
	if err != nil {
		return err
	}
	if err := sameBits("operands that live on", got[:results], want); err != nil {
		return err
	}
	kept := append(append(append([]*tensor.Tensor{}, in...), fill...), fill[0])
	for i, x := range got[results:] {
		if e := nmse(x, kept[i]); e != 0 {
			return errors.Newf("a value that lives on beside the op was changed (value %d, %v)", i, x.Type)
		}
	}
	return nil
}
