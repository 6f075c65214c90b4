package backendtest

import (
	"context"
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	trainSteps = 5
	trainBound = 1e-5
	trainFix   = "the pullback of a composite, adamw, or updates in place"
)

func (t *tester) trainEntries() []suite.Entry {
	return []suite.Entry{
		check("losses", "five AdamW steps of a small transformer give the reference's losses within 1e-5", trainFix, t.checkLosses),
		check("again", "the same training gives the same bits", trainFix, func(ctx context.Context) (string, error) {
			a, err := t.be.train(ctx, trainSteps)
			if err != nil {
				return "", err
			}
			b, err := t.be.train(ctx, trainSteps)
			if err != nil {
				return "", err
			}
			return "", sameBits("second training", b, a)
		}),
	}
}

// trainGraph is a whole step: loss, gradients, AdamW on every parameter.
func trainGraph() (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		loss := network(b, netConfig{batch: 2, tokens: 7, width: 12, heads: 2, kv: 1, vocab: 11, layers: 2})
		lr, c1, c2 := b.Input("lr", tensor.F32), b.Input("c1", tensor.F32), b.Input("c2", tensor.F32)
		params := b.Params()
		for i, g := range b.Gradients(loss, params) {
			p := params[i]
			m := b.GlobalBuffer(p.N.Name()+".m", p.Type())
			v := b.GlobalBuffer(p.N.Name()+".v", p.Type())
			p2, m2, v2 := b.AdamW(p, g, m, v, lr, c1, c2, graph.AdamAttr{Beta1: 0.9, Beta2: 0.95, Eps: 1e-6, Decay: 0.01})
			b.Update(p, p2)
			b.Update(m, m2)
			b.Update(v, v2)
		}
		b.Output("loss", loss)
	})
}

// train returns the losses of the steps, then the final states.
func (t *target) train(ctx context.Context, steps int) ([]*tensor.Tensor, error) {
	g, err := trainGraph()
	if err != nil {
		return nil, err
	}
	s, err := t.session(ctx, g, initStates(g))
	if err != nil {
		return nil, err
	}
	defer s.close()
	in := networkInputs(g)
	var all []*tensor.Tensor
	for step := range steps {
		k := len(in) - 3
		for i, v := range []float64{0.01, 1 - math.Pow(0.9, float64(step+1)), 1 - math.Pow(0.95, float64(step+1))} {
			in[k+i] = tensor.FromF32([]float32{float32(v)})
		}
		out, err := s.run(ctx, in...)
		if err != nil {
			return nil, err
		}
		all = append(all, out...)
	}
	for _, name := range s.store.Names() {
		x, err := s.store.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

func (t *tester) checkLosses(ctx context.Context) (string, error) {
	got, err := t.be.train(ctx, trainSteps)
	if err != nil {
		return "", err
	}
	most := 0.0
	for _, ref := range t.refs {
		want, err := ref.train(ctx, trainSteps)
		if err != nil {
			return "", errors.Wrap(err, "reference")
		}
		for i := range trainSteps {
			g, w := got[i].Floats()[0], want[i].Floats()[0]
			e := math.Abs(g-w) / math.Abs(w)
			if !(e <= trainBound) {
				return "", errors.Newf("loss of step %d is %.8g, the reference has %.8g", i, g, w)
			}
			most = max(most, e)
		}
		if first, last := want[0].Floats()[0], want[trainSteps-1].Floats()[0]; last > 0.9*first {
			return "", errors.Newf("the reference does not learn: loss %g, then %g", first, last)
		}
	}
	return fmt.Sprintf("worst relative error %.1e", most), nil
}

func (t *tester) workerEntries() []suite.Entry {
	if t.o.OpenThreads == nil {
		return nil
	}
	rule, fix := "the bits do not depend on the number of workers", "a loop that is cut over a reduction, or a cut that depends on the workers"
	var all []suite.Entry
	for _, op := range graph.Ops() {
		var big []sample
		for _, s := range samplesOf(op) {
			if s.big {
				big = append(big, s)
			}
		}
		if len(big) == 0 {
			continue
		}
		all = append(all, check(op.Name, rule, fix, func(ctx context.Context) (string, error) {
			return "", t.overWorkers(ctx, func(tt *target) (all []*tensor.Tensor, err error) {
				for _, s := range big {
					g, err := directGraph(op, s)
					if err != nil {
						return nil, err
					}
					out, err := tt.once(ctx, g, nil, s.tensors(seed, op.Name)...)
					if err != nil {
						return nil, err
					}
					all = append(all, out...)
				}
				return all, nil
			})
		}))
	}
	return append(all, check("training", rule, fix, func(ctx context.Context) (string, error) {
		return "", t.overWorkers(ctx, func(tt *target) ([]*tensor.Tensor, error) { return tt.train(ctx, 2) })
	}))
}

// overWorkers compares the results of run with 1, 2 and 3 workers.
func (t *tester) overWorkers(ctx context.Context, run func(tt *target) ([]*tensor.Tensor, error)) error {
	var first []*tensor.Tensor
	for n := 1; n <= 3; n++ {
		be, err := t.o.OpenThreads(n)
		if err != nil {
			return err
		}
		tt, err := newTarget(ctx, be)
		if err != nil {
			return errors.CombineErrors(err, be.Close())
		}
		got, err := run(tt)
		if err = errors.CombineErrors(err, be.Close()); err != nil {
			return err
		}
		if first == nil {
			first = got
		}
		if err := sameBits(fmt.Sprintf("%d workers against 1", n), got, first); err != nil {
			return err
		}
	}
	return nil
}
