package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

const storeFix = "the backend's Store, or how a run binds and updates states"

func (t *tester) storeEntries() []suite.Entry {
	list := []struct {
		name, rule string
		run        func(ctx context.Context) error
	}{
		{"round trip", "Get returns the bits that were Put, of every element type, in memory of its own, as does ReadInto", t.storeRoundTrip},
		{"missing parameter", "a run without a parameter returns ErrNoState, as does Get of an unknown name", t.storeMissing},
		{"zero buffer", "a buffer is zero at first use", t.storeZero},
		{"wrong type", "a state of another type than the graph declares returns ErrMismatch, as does a malformed Put", t.storeMismatch},
		{"updates after the run", "outputs and updates see the states as they were before the run", t.storeUpdates},
		{"swap", "updates may exchange states", t.storeSwap},
		{"accumulate", "an update may run in place, many times over", t.storeAccumulate},
		{"names", "Names is sorted and counts the parent's, without repeats", t.storeNames},
		{"fork isolation", "what a fork writes stays in it; the parent does not change", t.storeIsolation},
		{"fork reads through", "a fork sees the parent's states, and later Puts to those it has not written", t.storeThrough},
		{"replace type", "Put may replace a tensor by one of another type", t.storeReplace},
		{"separate stores", "an executable runs on several stores, each with its own states", t.storeSeparate},
		{"forks side by side", "forks of one parent run at once", t.storeParallel},
	}
	var all []suite.Entry
	for _, c := range list {
		all = append(all, check(c.name, c.rule, storeFix, func(ctx context.Context) (string, error) { return "", c.run(ctx) }))
	}
	return all
}

// want reports an error that is not of the wanted kind.
func want(what string, err, kind error) error {
	if err == nil {
		return errors.Newf("%s: no error, wants %q", what, kind)
	}
	if !errors.Is(err, kind) {
		return errors.Newf("%s: error %q is not %q", what, err, kind)
	}
	return nil
}

// holds compares a state of s with numbers that float32 carries exactly.
func holds(ctx context.Context, s framework.Store, name string, vals ...float64) error {
	x, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	if got := x.Floats(); !slices.Equal(got, vals) {
		return errors.Newf("state %q holds %v, wants %v", name, got, vals)
	}
	return nil
}

func gives(what string, out []*tensor.Tensor, vals ...float64) error {
	if got := out[0].Floats(); !slices.Equal(got, vals) {
		return errors.Newf("%s gives %v, wants %v", what, got, vals)
	}
	return nil
}

// firstError runs steps until one fails.
func firstError(steps ...func() error) error {
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tester) storeRoundTrip(ctx context.Context) error {
	s, err := t.be.NewStore()
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	put := map[string]*tensor.Tensor{}
	for _, d := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16, tensor.I8, tensor.I32, tensor.Bool, tensor.U1, tensor.U2, tensor.U4} {
		for _, dims := range [][]int{{}, {1}, {7}, {3, 33}, {2, 3, 5}} {
			if d.Codes() && len(dims) == 0 {
				continue
			}
			fill := below(2)
			if d == tensor.F32 || d == tensor.F16 || d == tensor.BF16 {
				fill = normal
			}
			name := fmt.Sprint(d, dims)
			name = string(bytes.ReplaceAll([]byte(name), []byte(" "), []byte("x")))
			put[name] = fillTensor(tensor.T(d, dims...), fill, rng.NewKey(seed, name))
			mine := put[name].Clone()
			if err := s.Put(ctx, name, mine); err != nil {
				return err
			}
			clear(mine.Data) // the store must have copied
		}
	}
	for name, x := range put {
		for range 2 {
			got, err := s.Get(ctx, name)
			if err != nil {
				return err
			}
			if e := nmse(got, x); e != 0 || !got.Type.Equal(t.be.wire(x.Type)) {
				return errors.Newf("%v comes back as %v, changed", x.Type, got.Type)
			}
			clear(got.Data) // nor may the caller reach into it
		}
		if r, ok := s.(framework.Reader); ok {
			got := tensor.New(t.be.wire(x.Type))
			if err := r.ReadInto(ctx, name, got); err != nil {
				return err
			}
			if nmse(got, x) != 0 {
				return errors.Newf("%v is read as something else", x.Type)
			}
			if err := want("read into a tensor of another type", r.ReadInto(ctx, name, tensor.New(tensor.T(tensor.F32, 11, 13))), framework.ErrMismatch); err != nil {
				return err
			}
		}
	}
	return nil
}

// double declares a param "w" f32[2], outputs 2w and updates nothing.
func double(b *graph.Builder) { b.Output("y", b.Scale(b.Param("w", graph.Init{}, 2), 2)) }

// count declares a buffer "n" f32[2], outputs it and adds 1.
func count(b *graph.Builder) {
	n := b.Buffer("n", tensor.T(tensor.F32, 2))
	b.Output("y", n)
	b.Update(n, b.Add(n, b.Like(n, 1)))
}

// traced compiles a small graph on the backend under test.
func (t *tester) traced(ctx context.Context, st states, fn func(b *graph.Builder)) (*session, error) {
	g, err := graph.Trace(fn)
	if err != nil {
		return nil, err
	}
	return t.be.session(ctx, g, st)
}

func (t *tester) storeMissing(ctx context.Context) error {
	s, err := t.traced(ctx, nil, double)
	if err != nil {
		return err
	}
	defer s.close()
	_, err = s.run(ctx)
	if err := want("run", err, framework.ErrNoState); err != nil {
		return err
	}
	_, err = s.store.Get(ctx, "nothing")
	if err := want("get", err, framework.ErrNoState); err != nil {
		return err
	}
	// It runs once the parameter is there.
	if err := s.store.Put(ctx, "w", tensor.FromF32([]float32{1, 3}, 2)); err != nil {
		return err
	}
	out, err := s.run(ctx)
	if err != nil {
		return err
	}
	return gives("2w", out, 2, 6)
}

func (t *tester) storeZero(ctx context.Context) error {
	s, err := t.traced(ctx, nil, func(b *graph.Builder) {
		b.Output("y", b.Buffer("n", tensor.T(tensor.F32, 3)))
		b.Output("z", b.Cast(b.Buffer("i", tensor.T(tensor.I32, 2)), tensor.F32))
	})
	if err != nil {
		return err
	}
	defer s.close()
	out, err := s.run(ctx)
	if err != nil {
		return err
	}
	return firstError(func() error { return gives("buffer", out, 0, 0, 0) }, func() error { return gives("buffer", out[1:], 0, 0) })
}

func (t *tester) storeMismatch(ctx context.Context) error {
	for _, bad := range []*tensor.Tensor{tensor.FromF32([]float32{1}, 1), tensor.FromF32([]float32{1, 2}, 2, 1), tensor.FromI32([]int32{1, 2}, 2)} {
		s, err := t.traced(ctx, states{"w": bad}, double)
		if err != nil {
			return err
		}
		_, err = s.run(ctx)
		if err := want(fmt.Sprintf("state %v", bad.Type), err, framework.ErrMismatch); err != nil {
			return err
		}
		short := &tensor.Tensor{Type: tensor.T(tensor.F32, 4), Data: make([]byte, 8)}
		if err := want("put of too few bytes", s.store.Put(ctx, "w", short), framework.ErrMismatch); err != nil {
			return err
		}
		s.close()
	}
	return nil
}

func (t *tester) storeUpdates(ctx context.Context) error {
	s, err := t.traced(ctx, nil, count)
	if err != nil {
		return err
	}
	defer s.close()
	for i := range 3 {
		out, err := s.run(ctx)
		if err != nil {
			return err
		}
		if err := gives("the state before the run", out, float64(i), float64(i)); err != nil {
			return err
		}
		if err := holds(ctx, s.store, "n", float64(i+1), float64(i+1)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tester) storeSwap(ctx context.Context) error {
	x, y := tensor.FromF32([]float32{1, 2}, 2), tensor.FromF32([]float32{3, 4}, 2)
	s, err := t.traced(ctx, states{"a": x, "b": y, "c": x}, func(b *graph.Builder) {
		st := func(name string) graph.Value { return b.Param(name, graph.Init{}, 2) }
		b.Update(st("a"), st("b"))
		b.Update(st("b"), st("c"))
		b.Update(st("c"), b.Scale(st("a"), 10))
		b.Output("y", b.Add(st("a"), st("b")))
	})
	if err != nil {
		return err
	}
	defer s.close()
	out, err := s.run(ctx)
	if err != nil {
		return err
	}
	return firstError(
		func() error { return gives("a+b", out, 4, 6) },
		func() error { return holds(ctx, s.store, "a", 3, 4) },
		func() error { return holds(ctx, s.store, "b", 1, 2) },
		func() error { return holds(ctx, s.store, "c", 10, 20) })
}

// storeAccumulate updates in place a state that is also read before, and one
// that feeds the other.
func (t *tester) storeAccumulate(ctx context.Context) error {
	s, err := t.traced(ctx, nil, func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 2)
		a, c := b.Buffer("a", tensor.T(tensor.F32, 2)), b.Buffer("c", tensor.T(tensor.F32, 2))
		next := b.Add(a, x)
		b.Update(a, next)
		b.Update(c, b.Add(c, b.Mul(a, next)))
		b.Output("y", next)
	})
	if err != nil {
		return err
	}
	defer s.close()
	a, c := 0.0, 0.0
	for i := range 4 {
		x := float64(i + 1)
		out, err := s.run(ctx, tensor.FromF32([]float32{float32(x), float32(x)}, 2))
		if err != nil {
			return err
		}
		a, c = a+x, c+a*(a+x)
		err = firstError(func() error { return gives("a+x", out, a, a) },
			func() error { return holds(ctx, s.store, "a", a, a) }, func() error { return holds(ctx, s.store, "c", c, c) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tester) storeNames(ctx context.Context) error {
	one := tensor.FromF32([]float32{1}, 1)
	s, err := t.be.store(ctx, states{"b": one, "c": one, "a": one})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	f, err := s.Fork()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, name := range []string{"b", "aa", "d"} {
		if err := f.Put(ctx, name, one); err != nil {
			return err
		}
	}
	if got := s.Names(); !slices.Equal(got, []string{"a", "b", "c"}) {
		return errors.Newf("names of the parent: %q", got)
	}
	if got := f.Names(); !slices.Equal(got, []string{"a", "aa", "b", "c", "d"}) {
		return errors.Newf("names of the fork: %q", got)
	}
	return nil
}

// forked returns a session on a store that holds w = [1 3], and a fork of it.
func (t *tester) forked(ctx context.Context, fn func(b *graph.Builder)) (*session, framework.Store, error) {
	s, err := t.traced(ctx, states{"w": tensor.FromF32([]float32{1, 3}, 2)}, fn)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.store.Fork()
	return s, f, err
}

func (t *tester) storeIsolation(ctx context.Context) error {
	s, f, err := t.forked(ctx, func(b *graph.Builder) {
		w := b.Param("w", graph.Init{}, 2)
		b.Output("twice", b.Scale(w, 2))
		b.Update(w, b.Add(w, b.Like(w, 1)))
		count(b)
	})
	if err != nil {
		return err
	}
	defer s.close()
	for i := range 2 { // the fork starts from the parent's values
		out, err := s.on(ctx, f)
		if err != nil {
			return err
		}
		if err := gives("2w in the fork", out, float64(2+2*i), float64(6+2*i)); err != nil {
			return err
		}
	}
	if err := firstError(func() error { return holds(ctx, f, "w", 3, 5) }, func() error { return holds(ctx, s.store, "w", 1, 3) },
		func() error { return holds(ctx, f, "n", 2, 2) }); err != nil {
		return err
	}
	if slices.Contains(s.store.Names(), "n") {
		return errors.New("the fork's buffer appears in the parent")
	}
	out, err := s.run(ctx)
	if err != nil {
		return err
	}
	if err := f.Put(ctx, "w", tensor.FromF32([]float32{9, 9}, 2)); err != nil {
		return err
	}
	return firstError(
		func() error { return gives("2w in the parent", out, 2, 6) },
		func() error { return holds(ctx, s.store, "w", 2, 4) },
		func() error { return holds(ctx, f, "w", 9, 9) },
		f.Close,
		func() error { return holds(ctx, s.store, "w", 2, 4) })
}

func (t *tester) storeThrough(ctx context.Context) error {
	s, f, err := t.forked(ctx, double)
	if err != nil {
		return err
	}
	defer s.close()
	defer func() { _ = f.Close() }()
	step := func(what string, w ...float64) error {
		out, err := s.on(ctx, f)
		if err == nil {
			err = gives(what, out, w...)
		}
		return err
	}
	put := func(st framework.Store, x, y float32) func() error {
		return func() error { return st.Put(ctx, "w", tensor.FromF32([]float32{x, y}, 2)) }
	}
	return firstError(
		func() error { return step("2w", 2, 6) },
		put(s.store, 5, 7), // the fork has not written w
		func() error { return step("2w after the parent's Put", 10, 14) },
		func() error { return holds(ctx, f, "w", 5, 7) },
		put(f, 1, 1), // now it has
		func() error { return step("2w after its own Put", 2, 2) },
		put(s.store, 8, 8),
		func() error { return step("2w after both", 2, 2) })
}

func (t *tester) storeReplace(ctx context.Context) error {
	s, err := t.traced(ctx, states{"w": tensor.FromF32([]float32{1, 3}, 2)}, double)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.run(ctx); err != nil {
		return err
	}
	if err := s.store.Put(ctx, "w", tensor.FromF32([]float32{1, 2, 3}, 3)); err != nil {
		return err
	}
	_, err = s.run(ctx)
	if err := want("run on the longer tensor", err, framework.ErrMismatch); err != nil {
		return err
	}
	if err := s.store.Put(ctx, "w", tensor.FromF32([]float32{4, 5}, 2)); err != nil {
		return err
	}
	out, err := s.run(ctx)
	if err != nil {
		return err
	}
	return gives("2w after the type came back", out, 8, 10)
}

func (t *tester) storeSeparate(ctx context.Context) error {
	s, err := t.traced(ctx, nil, count)
	if err != nil {
		return err
	}
	defer s.close()
	other, err := t.be.NewStore()
	if err != nil {
		return err
	}
	defer func() { _ = other.Close() }()
	for range 2 {
		if _, err := s.run(ctx); err != nil {
			return err
		}
	}
	if _, err := s.on(ctx, other); err != nil {
		return err
	}
	return firstError(func() error { return holds(ctx, s.store, "n", 2, 2) }, func() error { return holds(ctx, other, "n", 1, 1) })
}

// storeParallel decodes on forks of one store, at once and one after another.
func (t *tester) storeParallel(ctx context.Context) error {
	const forks, steps = 4, 12
	g, err := decoder(1, 16)
	if err != nil {
		return err
	}
	s, err := t.be.session(ctx, g, initStates(g))
	if err != nil {
		return err
	}
	defer s.close()
	feed := func(token int32) (all []*tensor.Tensor, err error) {
		f, err := s.store.Fork()
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		for pos := range steps {
			out, err := s.on(ctx, f, tensor.FromI32([]int32{(token + int32(pos)) % 13}, 1, 1), tensor.FromI32([]int32{int32(pos)}, 1))
			if err != nil {
				return nil, err
			}
			all = append(all, out...)
		}
		return all, nil
	}
	type result struct {
		out []*tensor.Tensor
		err error
	}
	done := make([]chan result, forks)
	for i := range done {
		done[i] = make(chan result, 1)
		go func() {
			out, err := feed(int32(i))
			done[i] <- result{out, err}
		}()
	}
	for i := range done {
		r := <-done[i]
		alone, err := feed(int32(i))
		if err = errors.CombineErrors(r.err, err); err == nil {
			err = sameBits(fmt.Sprintf("fork %d", i), r.out, alone)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
