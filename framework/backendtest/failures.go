package backendtest

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

const errorFix = "the checks at the start of Run, Compile, Put, Get and Fork, and the range checks of kernels"

func (t *tester) errorEntries() []suite.Entry {
	list := []struct {
		name, rule string
		run        func(ctx context.Context) error
	}{
		{"canceled context", "a run under a canceled context returns the context's error and changes nothing", t.failCanceled},
		{"inputs and outputs", "a wrong number, type or size of inputs or outputs returns ErrMismatch", t.failArguments},
		{"closed", "a closed store, executable or backend returns ErrClosed", t.failClosed},
		{"foreign store", "a store of another backend returns ErrMismatch", t.failForeign},
		{"gather", "an id outside the table returns ErrInput and the backend lives on", t.failGather},
		{"scatteradd", "an id outside the result returns ErrInput and the backend lives on", t.failScatter},
		{"crossentropy", "a target beyond the vocabulary returns ErrInput and the backend lives on", t.failTarget},
		{"updateat", "a position outside the cache returns ErrInput and the backend lives on", t.failUpdate},
		{"after a failure", "a run that fails may leave a state old or new, but later runs see what Get returns", t.failThenRun},
	}
	var all []suite.Entry
	for _, c := range list {
		all = append(all, check(c.name, c.rule, errorFix, func(ctx context.Context) (string, error) { return "", c.run(ctx) }))
	}
	return all
}

func (t *tester) failCanceled(ctx context.Context) error {
	s, err := t.traced(ctx, nil, count)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.run(ctx); err != nil {
		return err
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.run(canceled)
	return firstError(
		func() error { return want("run", err, context.Canceled) },
		func() error { return holds(ctx, s.store, "n", 1, 1) },
		func() error { _, err := s.run(ctx); return err },
		func() error { return holds(ctx, s.store, "n", 2, 2) })
}

func (t *tester) failArguments(ctx context.Context) error {
	s, err := t.traced(ctx, nil, func(b *graph.Builder) {
		x, i := b.Input("x", tensor.F32, 2, 3), b.Input("i", tensor.I32, 2)
		n := b.Buffer("n", tensor.T(tensor.F32, 1))
		b.Update(n, b.Add(n, b.Like(n, 1)))
		b.Output("y", b.Scale(x, 2))
		b.Output("z", b.Gather(x, i))
	})
	if err != nil {
		return err
	}
	defer s.close()
	x, i := tensor.FromF32(make([]float32, 6), 2, 3), tensor.FromI32([]int32{0, 1}, 2)
	flat, wrong := tensor.FromF32(make([]float32, 6), 6), tensor.FromI32(make([]int32, 6), 2, 3)
	short := &tensor.Tensor{Type: x.Type, Data: x.Data[:8]}
	good := t.be.outs(s.g)
	cases := []struct {
		what    string
		in, out []*tensor.Tensor
	}{
		{"no input", nil, good},
		{"one input", []*tensor.Tensor{x}, good},
		{"three inputs", []*tensor.Tensor{x, i, x}, good},
		{"missing input", []*tensor.Tensor{x, nil}, good},
		{"swapped inputs", []*tensor.Tensor{i, x}, good},
		{"other shape", []*tensor.Tensor{flat, i}, good},
		{"other element type", []*tensor.Tensor{wrong, i}, good},
		{"too few bytes", []*tensor.Tensor{short, i}, good},
		{"no output", []*tensor.Tensor{x, i}, nil},
		{"one output", []*tensor.Tensor{x, i}, good[:1]},
		{"missing output", []*tensor.Tensor{x, i}, []*tensor.Tensor{good[0], nil}},
		{"output of other shape", []*tensor.Tensor{x, i}, []*tensor.Tensor{good[0], tensor.New(t.be.wire(flat.Type))}},
		{"output of other element type", []*tensor.Tensor{x, i}, []*tensor.Tensor{wrong, good[1]}},
	}
	for _, c := range cases {
		if err := want(c.what, s.exec.Run(ctx, s.store, c.in, c.out), framework.ErrMismatch); err != nil {
			return err
		}
	}
	if err := s.exec.Run(ctx, s.store, []*tensor.Tensor{x, i}, good); err != nil {
		return err
	}
	return holds(ctx, s.store, "n", 1)
}

func (t *tester) failClosed(ctx context.Context) error {
	be, err := t.o.Open()
	if err != nil {
		return err
	}
	tt, err := newTarget(ctx, be)
	if err != nil {
		return err
	}
	g, err := graph.Trace(count)
	if err != nil {
		return err
	}
	s, err := tt.session(ctx, g, nil)
	if err != nil {
		return err
	}
	one := tensor.FromF32([]float32{1, 1}, 2)
	closed := func(what string, f func() error) func() error {
		return func() error { return want(what, f(), framework.ErrClosed) }
	}
	other, err := tt.session(ctx, g, nil)
	if err != nil {
		return err
	}
	return firstError(
		func() error { _, err := s.run(ctx); return err },
		s.store.Close,
		closed("put", func() error { return s.store.Put(ctx, "n", one) }),
		closed("get", func() error { _, err := s.store.Get(ctx, "n"); return err }),
		closed("fork", func() error { _, err := s.store.Fork(); return err }),
		closed("run on a closed store", func() error { _, err := s.run(ctx); return err }),
		s.store.Close, // closing again is no error
		func() error { _, err := other.run(ctx); return err },
		other.exec.Close,
		closed("run of a closed executable", func() error { _, err := other.run(ctx); return err }),
		other.exec.Close,
		other.store.Close, s.exec.Close, be.Close,
		closed("new store", func() error { _, err := be.NewStore(); return err }),
		closed("compile", func() error { _, err := be.Compile(ctx, g); return err }),
		be.Close)
}

func (t *tester) failForeign(ctx context.Context) error {
	s, err := t.traced(ctx, nil, count)
	if err != nil {
		return err
	}
	defer s.close()
	foreign, err := t.refs[0].NewStore()
	if err != nil {
		return err
	}
	_, err = s.on(ctx, foreign)
	return want("run on another backend's store", err, framework.ErrMismatch)
}

// failInput runs an op with each bad list of ids and then with a good one.
func (t *tester) failInput(ctx context.Context, good []int32, bad [][]int32, build func(b *graph.Builder, ids graph.Value) graph.Value) error {
	s, err := t.traced(ctx, nil, func(b *graph.Builder) {
		b.Output("y", build(b, b.Input("ids", tensor.I32, len(good))))
	})
	if err != nil {
		return err
	}
	defer s.close()
	first, err := s.run(ctx, tensor.FromI32(good, len(good)))
	if err != nil {
		return err
	}
	for _, ids := range bad {
		_, err := s.run(ctx, tensor.FromI32(ids, len(ids)))
		if err := want(fmt.Sprintf("ids %v", ids), err, framework.ErrInput); err != nil {
			return err
		}
	}
	again, err := s.run(ctx, tensor.FromI32(good, len(good)))
	if err != nil {
		return errors.Wrap(err, "good ids after bad ones")
	}
	return sameBits("good ids after bad ones", again, first)
}

var badIDs = [][]int32{{0, 5, 0}, {-1, 0, 0}, {0, 0, 1<<31 - 1}, {0, -1 << 31, 0}}

func (t *tester) failGather(ctx context.Context) error {
	return t.failInput(ctx, []int32{4, 0, 2}, badIDs, func(b *graph.Builder, ids graph.Value) graph.Value {
		return b.Gather(b.Reshape(b.Iota(15), 5, 3), ids)
	})
}

func (t *tester) failScatter(ctx context.Context) error {
	return t.failInput(ctx, []int32{4, 0, 2}, badIDs, func(b *graph.Builder, ids graph.Value) graph.Value {
		return b.ScatterAdd(b.Reshape(b.Iota(9), 3, 3), ids, 5)
	})
}

func (t *tester) failTarget(ctx context.Context) error {
	bad := [][]int32{{0, 5, 0}, {0, 0, 1<<31 - 1}}
	build := func(b *graph.Builder, ids graph.Value) graph.Value {
		return b.CrossEntropy(b.Reshape(b.Iota(15), 3, 5), ids)
	}
	if err := t.failInput(ctx, []int32{4, -1, 2}, bad, build); err != nil {
		return err
	}
	if err := t.failInput(ctx, []int32{4, -1, 2}, bad, func(b *graph.Builder, ids graph.Value) graph.Value {
		return b.LinearCrossEntropy(b.Reshape(b.Iota(12), 3, 4), b.Reshape(b.Iota(20), 5, 4), ids)
	}); err != nil {
		return errors.Wrap(err, "with the head")
	}
	// With the gradient, as in training.
	err := t.failInput(ctx, []int32{4, -1, 2}, bad, func(b *graph.Builder, ids graph.Value) graph.Value {
		x := b.Scale(b.Reshape(b.Iota(15), 3, 5), 0.1)
		loss := b.SumAll(b.CrossEntropy(x, ids))
		return b.Add(b.Gradients(loss, []graph.Value{x})[0], b.Reshape(loss, 1, 1))
	})
	return errors.Wrap(err, "with the gradient")
}

func (t *tester) failUpdate(ctx context.Context) error {
	return t.failInput(ctx, []int32{2, 0}, [][]int32{{3, 0}, {0, -1}, {1<<31 - 1, 0}, {0, -1 << 31}}, func(b *graph.Builder, pos graph.Value) graph.Value {
		return b.UpdateAt(b.Reshape(b.Iota(24), 2, 4, 3), b.Reshape(b.Iota(12), 2, 2, 3), pos, 1)
	})
}

// failThenRun lets a run fail that also updates a weight, and sees that
// whatever is kept beside the weight (a packed layout) follows it.
func (t *tester) failThenRun(ctx context.Context) error {
	const n = 16
	st := states{"w": fillTensor(tensor.T(tensor.F32, n, n), normal, sampleKey("fail"))}
	use := func(b *graph.Builder) {
		b.Output("y", b.MatMul(b.Input("x", tensor.F32, 2, n), b.Param("w", graph.Init{}, n, n), false, true))
	}
	s, err := t.traced(ctx, st, use)
	if err != nil {
		return err
	}
	defer s.close()
	x := fillTensor(tensor.T(tensor.F32, 2, n), normal, sampleKey("x"))
	if _, err := s.run(ctx, x); err != nil { // the layout is made
		return err
	}
	g, err := graph.Trace(func(b *graph.Builder) {
		w := b.Param("w", graph.Init{}, n, n)
		b.Update(w, b.Scale(w, -3))
		b.Output("y", b.Gather(b.Iota(5), b.Input("ids", tensor.I32, 1)))
	})
	if err != nil {
		return err
	}
	exec, err := t.be.Compile(ctx, g)
	if err != nil {
		return err
	}
	defer func() { _ = exec.Close() }()
	err = exec.Run(ctx, s.store, []*tensor.Tensor{tensor.FromI32([]int32{9}, 1)}, t.be.outs(g))
	if err := want("id 9 of 5", err, framework.ErrInput); err != nil {
		return err
	}
	return t.likeFresh(ctx, s, "after a failed run", x)
}
