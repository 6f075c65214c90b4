package backendtest

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

const preparedFix = "a layout of weights that is kept between runs and not made again when they change"

func sampleKey(name string) rng.Key { return rng.NewKey(seed, name) }

// weightCase is a graph "x -> y" that multiplies by states.
type weightCase struct {
	name string
	use  func(b *graph.Builder)
	// change updates the states.
	change func(b *graph.Builder)
	states func(version string) states
}

const prepK, prepM = 96, 40

func weightCases() []weightCase {
	x := func(b *graph.Builder) graph.Value { return b.Input("x", tensor.F32, 3, prepK) }
	w := func(b *graph.Builder) graph.Value { return b.Param("w", graph.Init{}, prepM, prepK) }
	codes := func(b *graph.Builder) graph.Value { return b.Buffer("codes", tensor.T(tensor.U2, prepM, prepK)) }
	scales := func(b *graph.Builder) graph.Value { return b.Buffer("scales", tensor.T(tensor.F32, prepM, 3)) }
	quantized := func(act int) weightCase {
		return weightCase{
			use: func(b *graph.Builder) {
				b.Output("y", b.CodeBookMatMul(x(b), codes(b), scales(b), graph.LinearAttr{Levels: ternaryLevels, ActBits: act}))
			},
			change: func(b *graph.Builder) {
				flipped := b.Neg(b.Decode(codes(b), ternaryLevels))
				b.Update(codes(b), b.Encode(flipped, tensor.U2, ternaryLevels))
				b.Update(scales(b), b.Scale(scales(b), 0.5))
			},
			states: func(v string) states {
				return states{
					"codes":  fillTensor(tensor.T(tensor.U2, prepM, prepK), below(3), sampleKey("codes"+v)),
					"scales": fillTensor(tensor.T(tensor.F32, prepM, 3), small, sampleKey("scales"+v)),
				}
			},
		}
	}
	dense := weightCase{
		name:   "matmul",
		use:    func(b *graph.Builder) { b.Output("y", b.MatMul(x(b), w(b), false, true)) },
		change: func(b *graph.Builder) { b.Update(w(b), b.Scale(w(b), -0.5)) },
		states: func(v string) states {
			return states{"w": fillTensor(tensor.T(tensor.F32, prepM, prepK), normal, sampleKey("w"+v))}
		},
	}
	int8s, floats := quantized(8), quantized(0)
	int8s.name, floats.name = "codebookmatmul int8", "codebookmatmul f32"
	return []weightCase{dense, int8s, floats}
}

func (t *tester) preparedEntries() []suite.Entry {
	var all []suite.Entry
	for _, c := range weightCases() {
		all = append(all, check(c.name, "a run sees weights as the last Put or update left them, in the store and in forks", preparedFix,
			func(ctx context.Context) (string, error) { return "", t.checkPrepared(ctx, c) }))
	}
	return append(all, check("update in the same run", "a product with a weight that the run updates uses the old weight", preparedFix,
		func(ctx context.Context) (string, error) { return "", t.checkSameRun(ctx) }))
}

// likeFresh compares a run of s with one on a new store that is given copies
// of the states.
func (t *tester) likeFresh(ctx context.Context, s *session, what string, in ...*tensor.Tensor) error {
	return t.freshOn(ctx, s, s.store, what, in...)
}

func (t *tester) freshOn(ctx context.Context, s *session, on framework.Store, what string, in ...*tensor.Tensor) error {
	got, err := s.on(ctx, on, in...)
	if err != nil {
		return errors.Wrap(err, what)
	}
	st := states{}
	for _, name := range on.Names() {
		if st[name], err = on.Get(ctx, name); err != nil {
			return err
		}
	}
	fresh, err := t.be.once(ctx, s.g, st, in...)
	if err != nil {
		return err
	}
	return sameBits(what, got, fresh)
}

func (t *tester) checkPrepared(ctx context.Context, c weightCase) error {
	s, err := t.traced(ctx, c.states("0"), c.use)
	if err != nil {
		return err
	}
	defer s.close()
	g, err := graph.Trace(c.change)
	if err != nil {
		return err
	}
	change, err := t.be.Compile(ctx, g)
	if err != nil {
		return err
	}
	defer func() { _ = change.Close() }()
	x := fillTensor(tensor.T(tensor.F32, 3, prepK), normal, sampleKey("x"))
	fork, err := s.store.Fork()
	if err != nil {
		return err
	}
	put := func(st framework.Store, version string) func() error {
		return func() error {
			for name, w := range c.states(version) {
				if err := st.Put(ctx, name, w); err != nil {
					return err
				}
			}
			return nil
		}
	}
	update := func(st framework.Store) func() error { return func() error { return change.Run(ctx, st, nil, nil) } }
	same := func(what string) func() error {
		return func() error {
			if err := t.freshOn(ctx, s, s.store, what+", parent", x); err != nil {
				return err
			}
			return t.freshOn(ctx, s, fork, what+", fork", x)
		}
	}
	return firstError(
		same("first run"), put(s.store, "1"), same("after Put"), update(s.store), same("after an update"),
		update(s.store), same("after a second update"), put(s.store, "2"), update(s.store), same("after both"),
		update(fork), same("after the fork's update"), put(s.store, "3"), same("after the parent's Put"),
		put(fork, "4"), same("after the fork's Put"), update(s.store), update(fork), same("at the end"), fork.Close)
}

// checkSameRun descends on a weight: y of step i must be that of the weight
// before step i.
func (t *tester) checkSameRun(ctx context.Context) error {
	const n = 24
	st := states{"w": fillTensor(tensor.T(tensor.F32, n, n), normal, sampleKey("w"))}
	x := fillTensor(tensor.T(tensor.F32, 5, n), normal, sampleKey("x"))
	build := func(update bool) func(b *graph.Builder) {
		return func(b *graph.Builder) {
			w := b.Param("w", graph.Init{}, n, n)
			y := b.MatMul(b.Input("x", tensor.F32, 5, n), w, false, true)
			b.Output("y", y)
			if update {
				d := b.Gradients(b.SumAll(b.Mul(y, y)), []graph.Value{w})[0]
				b.Update(w, b.Sub(w, b.Scale(d, 0.001)))
			}
		}
	}
	s, err := t.traced(ctx, st, build(true))
	if err != nil {
		return err
	}
	defer s.close()
	plain, err := graph.Trace(build(false))
	if err != nil {
		return err
	}
	for i := range 3 {
		w, err := s.store.Get(ctx, "w")
		if err != nil {
			return err
		}
		got, err := s.run(ctx, x)
		if err != nil {
			return err
		}
		fresh, err := t.be.once(ctx, plain, states{"w": w}, x)
		if err == nil {
			err = sameBits(fmt.Sprintf("step %d", i), got, fresh)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
