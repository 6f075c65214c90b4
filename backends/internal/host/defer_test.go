package host_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// fetches counts how often each state of deferredProduct is asked for.
type fetches map[string]int

// deferredProduct multiplies by codes and adds a bias, all deferred.
func deferredProduct(t *testing.T, be framework.Backend, fail error) (run func() ([]float32, error), s framework.Store, n fetches) {
	t.Helper()
	ctx := context.Background()
	g, err := graph.Trace(func(b *graph.Builder) {
		codes, scales := b.Buffer("codes", tensor.T(tensor.U2, 32, 128)), b.Buffer("scales", tensor.T(tensor.F32, 32, 1))
		y := b.CodeBookMatMul(b.Input("x", tensor.F32, 1, 128), codes, scales, graph.LinearAttr{Levels: []int8{-1, 0, 1}, ActBits: 8})
		b.Output("y", b.Add(y, b.Buffer("bias", tensor.T(tensor.F32, 1, 32))))
	})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = be.NewStore(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exe.Close(); s.Close() })
	n = fetches{}
	for _, state := range g.States {
		err := s.(framework.Deferrer).Defer(ctx, state.Name(), state.Out[0], func(x *tensor.Tensor) error {
			n[state.Name()]++
			for i := range x.Data {
				x.Data[i] = byte(i%3) * 0x21 // codes 1 and 2 among 0s; as floats tiny
			}
			if x.DType == tensor.F32 {
				for i := range x.F32() {
					x.F32()[i] = float32(i + 1)
				}
			}
			return fail
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	in := tensor.New(tensor.T(tensor.F32, 1, 128))
	for i := range in.F32() {
		in.F32()[i] = float32(i%5) - 2
	}
	return func() ([]float32, error) {
		out := tensor.New(tensor.T(tensor.F32, 1, 32))
		err := exe.Run(ctx, s, []*tensor.Tensor{in}, []*tensor.Tensor{out})
		return out.F32(), err
	}, s, n
}

// What is deferred gives the bits of what was put; what a kernel has a layout of
// is asked for once and not kept, the rest is kept.
func TestDeferredStatesAreFetchedOnceForALayoutAndComputeTheSame(t *testing.T) {
	for _, name := range []string{"scalar", "avx2"} {
		be, err := framework.Backends.Open(name)
		if errors.Is(err, framework.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer be.Close()
		run, s, n := deferredProduct(t, be, nil)
		first, err := run()
		if err != nil {
			t.Fatal(err)
		}
		got := append([]float32{}, first...)
		if _, err := run(); err != nil {
			t.Fatal(err)
		}
		if n["codes"] != 1 || n["bias"] != 1 || n["scales"] != 1 {
			t.Errorf("%s: fetched %v", name, n)
		}
		codes, err := s.Get(context.Background(), "codes")
		if err != nil || n["codes"] != 2 {
			t.Errorf("%s: the codes were kept: %v, %v", name, n, err)
		}
		if err := s.Put(context.Background(), "codes", codes); err != nil {
			t.Fatal(err)
		}
		again, err := run()
		if err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if again[i] != got[i] {
				t.Fatalf("%s: element %d is %v deferred, %v put", name, i, got[i], again[i])
			}
		}
	}
}

func TestAFailedFetchIsTheErrorOfTheRun(t *testing.T) {
	broken := errors.New("the file is gone")
	be, err := framework.Backends.Open("scalar")
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	run, s, _ := deferredProduct(t, be, broken)
	if _, err := run(); !errors.Is(err, broken) {
		t.Errorf("run: %v", err)
	}
	if _, err := s.Get(context.Background(), "codes"); !errors.Is(err, broken) {
		t.Errorf("get: %v", err)
	}
}

// A backend that computes in float64 widens what is deferred at once.
func TestDeferredStatesAreWidened(t *testing.T) {
	wide := scalar.Open64(1)
	defer wide.Close()
	s, err := wide.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	three := func(x *tensor.Tensor) error { copy(x.F32(), []float32{1, 2, 3}); return nil }
	if err := s.(framework.Deferrer).Defer(context.Background(), "w", tensor.T(tensor.F32, 3), three); err != nil {
		t.Fatal(err)
	}
	x, err := s.Get(context.Background(), "w")
	if err != nil || x.DType != tensor.F64 || x.F64()[2] != 3 {
		t.Errorf("%v, %v", x, err)
	}
}
