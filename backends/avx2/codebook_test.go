package avx2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// layer is a linear layer on codes: x [n,k], codes [m,k], scales [m,k/group].
type layer struct {
	n, m, k, group int
	code           tensor.DType
	levels         []int8
}

// run gives y of seeded operands; latent multiplies as training does.
func (l layer) run(t *testing.T, spec string, latent bool) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 1))
	x, w := tensor.New(tensor.T(tensor.F32, l.n, l.k)), tensor.New(tensor.T(tensor.F32, l.m, l.k))
	codes, scales := tensor.New(tensor.T(l.code, l.m, l.k)), tensor.New(tensor.T(tensor.F32, l.m, l.k/l.group))
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	for i := range codes.Data {
		codes.Data[i] = byte(r.Uint32())
	}
	for i := range scales.F32() {
		scales.F32()[i] = float32(r.Float64())
	}
	return runOnce(t, spec, l.graph(t, latent), []*tensor.Tensor{x, w, codes, scales}, tensor.T(tensor.F32, l.n, l.m)).Data
}

// graph is the layer alone; latent multiplies as training does.
func (l layer) graph(t *testing.T, latent bool) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		x, w := b.Input("x", tensor.F32, l.n, l.k), b.Input("w", tensor.F32, l.m, l.k)
		codes, scales := b.Input("codes", l.code, l.m, l.k), b.Input("scales", tensor.F32, l.m, l.k/l.group)
		a := graph.LinearAttr{Levels: l.levels, ActBits: 8}
		if latent {
			b.Output("y", b.BitLinear(x, w, codes, scales, a))
		} else {
			b.Output("y", b.CodeBookMatMul(x, codes, scales, a))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// runOnce opens a backend, compiles g and runs it once.
func runOnce(t *testing.T, spec string, g *graph.Graph, in []*tensor.Tensor, out tensor.Type) *tensor.Tensor {
	t.Helper()
	be, err := framework.Backends.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = be.Close() }()
	exec, err := be.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = exec.Close() }()
	st, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	y := tensor.New(out)
	if err := exec.Run(context.Background(), st, in, []*tensor.Tensor{y}); err != nil {
		t.Fatal(err)
	}
	return y
}

func TestTheLookUpKernelGivesTheBitsOfTheMultiplyingOne(t *testing.T) {
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
	for _, l := range []layer{
		{n: 1, m: 100, k: 256, group: 128},
		{n: 13, m: 33, k: 96, group: 32},
		{n: 3, m: 7, k: 512, group: 512},
		{n: 2, m: 64, k: 1024, group: 256},
	} {
		l.code, l.levels = tensor.U2, []int8{-1, 0, 1}
		for _, latent := range []bool{false, true} {
			want := l.run(t, "avx2:threads=1", latent)
			for threads := 1; threads <= 3; threads++ {
				if got := l.run(t, fmt.Sprintf("avx2:threads=%d,ternary=pshufb", threads), latent); !bytes.Equal(got, want) {
					t.Errorf("%+v, latent %v, %d threads: other bits", l, latent, threads)
				}
			}
		}
	}
}

// The look-up kernel alone keeps tables, 32 bytes for each pair of a token's activations; all else is of one size.
func TestTheOptionTernarySelectsTheKernel(t *testing.T) {
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
	l := layer{n: 5, m: 64, k: 512, group: 128, code: tensor.U2, levels: []int8{-1, 0, 1}}
	estimate := func(spec string, latent bool) int64 {
		be, err := framework.Backends.Open(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = be.Close() }()
		bytes, err := be.(framework.Estimator).Estimate(l.graph(t, latent))
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	for _, latent := range []bool{false, true} {
		plain := estimate("avx2:threads=1", latent)
		for kernel, want := range map[string]int64{"maddubs": 0, "pshufb": int64(l.n * l.k / 2 * 32)} {
			if got := estimate("avx2:threads=1,ternary="+kernel, latent) - plain; got != want {
				t.Errorf("%s, latent %v: %d bytes more than without the option, want %d", kernel, latent, got, want)
			}
		}
	}
}

// Codes without a level are among those drawn.
func TestProductsOfAnyLevelsAgreeWithTheReferenceBackend(t *testing.T) {
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
	r := rand.New(rand.NewPCG(8, 1))
	for range 60 {
		code := []tensor.DType{tensor.U1, tensor.U2, tensor.U4, tensor.I8}[r.IntN(4)]
		levels := make([]int8, 1+r.IntN(1<<(8/code.Block())))
		top := []int{1, 8, 64, 127}[r.IntN(4)]
		for i := range levels {
			levels[i] = int8(r.IntN(2*top+1) - top)
		}
		if code == tensor.I8 {
			levels = nil
		}
		group := 1 + r.IntN(150)
		l := layer{n: 1 + r.IntN(9), m: 1 + r.IntN(70), k: group * (1 + r.IntN(3)), group: group, code: code, levels: levels}
		latent := r.IntN(2) == 0
		one := l.run(t, "avx2:threads=1", latent)
		if two := l.run(t, "avx2:threads=2", latent); !bytes.Equal(one, two) {
			t.Fatalf("%+v: other bits with two threads", l)
		}
		got, want := tensor.View[float32](one), tensor.View[float32](l.run(t, "scalar", latent))
		limit := 1e-6 * float32(max(-slices.Min(want), slices.Max(want)))
		for i := range want {
			if d := got[i] - want[i]; !(d <= limit && -d <= limit) {
				t.Fatalf("%+v: element %d is %g, want %g", l, i, got[i], want[i])
			}
		}
	}
}

// Values at, beside and far from the middles between levels, where the first of equally near levels counts.
func TestCodesOfEquallySpacedLevelsAreThoseOfTheReferenceBackend(t *testing.T) {
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
	special := []float32{0, 1e-30, -1e-30, 8e-17, -8e-17, 1e10, -1e10, 1e30, -1e30, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1 << 20, 1e18}
	r := rand.New(rand.NewPCG(9, 1))
	books := []struct {
		code   tensor.DType
		levels []int8
	}{
		{tensor.U1, []int8{-1, 1}},
		{tensor.U1, []int8{3}},
		{tensor.U2, []int8{-3, -1, 1, 3}},
		{tensor.U2, []int8{-1, 0, 1}},
		{tensor.U4, []int8{-7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}},
		{tensor.U4, []int8{-128, -111, -94, -77, -60}},
		{tensor.I8, nil},
	}
	for i := range 2 * len(books) {
		b, cols := books[i/2], 101+i%2*3 // rows of whole bytes have other kernels
		x := tensor.New(tensor.T(tensor.F32, 21, cols))
		for i := range x.F32() {
			switch r.IntN(4) {
			case 0:
				x.F32()[i] = special[r.IntN(len(special))]
			case 1:
				x.F32()[i] = float32(r.IntN(513)-256) / 2
			case 2:
				x.F32()[i] = math.Nextafter32(float32(r.IntN(513)-256)/2, float32(r.IntN(3)-1)*1000)
			default:
				x.F32()[i] = float32(r.NormFloat64() * 8)
			}
		}
		g, err := graph.Trace(func(bd *graph.Builder) {
			bd.Output("codes", bd.Encode(bd.Input("x", tensor.F32, 21, cols), b.code, b.levels))
		})
		if err != nil {
			t.Fatal(err)
		}
		typ := tensor.T(b.code, 21, cols)
		got, want := runOnce(t, "avx2:threads=2", g, []*tensor.Tensor{x}, typ), runOnce(t, "scalar", g, []*tensor.Tensor{x}, typ)
		if !bytes.Equal(got.Data, want.Data) {
			t.Errorf("levels %v: other codes", b.levels)
		}
	}
}

func TestAnUnknownTernaryKernelIsRefused(t *testing.T) {
	if _, err := framework.Backends.Open("avx2:ternary=avx512"); !errors.Is(err, framework.ErrOption) {
		t.Errorf("got %v", err)
	}
}
