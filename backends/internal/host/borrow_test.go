package host_test

import (
	"context"
	"slices"
	"testing"
	"unsafe"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// A borrowed tensor is computed from where it lies, and never written: neither
// by a put of its name nor by a graph that updates it, of the store or a fork.
func TestBorrowedMemoryIsReadAndNeverWritten(t *testing.T) {
	ctx := context.Background()
	g, err := graph.Trace(func(b *graph.Builder) {
		w := b.Param("w", graph.Init{}, 40)
		b.Update(w, b.Add(w, b.Like(w, 1)))
		b.Output("w", w)
	})
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := framework.Backends.Open("scalar")
	if err != nil {
		t.Fatal(err)
	}
	for _, be := range []framework.Backend{narrow, scalar.Open64(1)} {
		defer be.Close()
		exe, err := be.Compile(ctx, g)
		if err != nil {
			t.Fatal(err)
		}
		defer exe.Close()
		for name, aligned := range map[string]bool{"aligned": true, "not aligned": false} {
			lent := tensor.New(tensor.T(tensor.F32, 40))
			if !aligned {
				lent.Data = append(make([]byte, 4, 164), lent.Data...)[4:]
			}
			lent.F32()[7] = 3
			before := slices.Clone(lent.Data)
			s, err := be.NewStore()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.(framework.Borrower).Borrow(ctx, "w", lent); err != nil {
				t.Fatal(err)
			}
			fork, err := s.Fork()
			if err != nil {
				t.Fatal(err)
			}
			defer fork.Close()
			for _, s := range []framework.Store{fork, s, s} {
				out := tensor.New(tensor.T(tensor.F32, 40))
				if err := exe.Run(ctx, s, nil, []*tensor.Tensor{out}); err != nil {
					t.Fatal(err)
				}
			}
			for want, s := range map[float32]framework.Store{4: fork, 5: s} {
				w, err := s.Get(ctx, "w")
				if err != nil {
					t.Fatal(err)
				}
				if got := tensorAt(w, 7); got != want {
					t.Errorf("%s, %s: the state is %v, want %v", be.Name(), name, got, want)
				}
			}
			if err := s.Put(ctx, "w", tensor.New(tensor.T(tensor.F32, 40))); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(lent.Data, before) {
				t.Errorf("%s, %s: the lender's memory was written", be.Name(), name)
			}
		}
	}
}

// tensorAt is element i of an f32 or f64 tensor.
func tensorAt(x *tensor.Tensor, i int) float32 {
	if x.DType == tensor.F64 {
		return float32(tensor.View[float64](x.Data)[i])
	}
	return x.F32()[i]
}

func TestABorrowedTensorIsNotCopied(t *testing.T) {
	ctx := context.Background()
	be, err := framework.Backends.Open("scalar")
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	s, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lent := tensor.New(tensor.T(tensor.F32, 8))
	if err := s.(framework.Borrower).Borrow(ctx, "w", lent); err != nil {
		t.Fatal(err)
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(lent.Data)))%64 != 0 {
		t.Fatal("a new tensor is not aligned")
	}
	lent.F32()[3] = 5 // which nobody may do: it shows whose memory is read
	w, err := s.Get(ctx, "w")
	if err != nil {
		t.Fatal(err)
	}
	if w.F32()[3] != 5 {
		t.Error("the store holds a copy")
	}
}
