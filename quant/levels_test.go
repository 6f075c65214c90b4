package quant_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// count is from, from+1 and so on to to.
func count(from, to int) []int8 {
	var out []int8
	for l := from; l <= to; l++ {
		out = append(out, int8(l))
	}
	return out
}

// plain is what a quantizer makes of a group of weights whose scale is kept in f32.
type plain struct {
	spec   string
	bits   int
	levels []int8
	scale  func(w []float32) float64
	level  func(x float64) float64 // of a weight by its scale
}

func quantizers() []plain {
	mean := func(w []float32) float64 {
		var sum float64
		for _, v := range w {
			sum += math.Abs(float64(v))
		}
		return sum / float64(len(w))
	}
	most := func(top float64) func(w []float32) float64 {
		return func(w []float32) float64 {
			var m float64
			for _, v := range w {
				m = max(m, math.Abs(float64(v)))
			}
			return m / top
		}
	}
	near := func(top float64) func(x float64) float64 {
		return func(x float64) float64 { return min(max(math.RoundToEven(x), -top), top) }
	}
	sign := func(x float64) float64 {
		if x < 0 {
			return -1
		}
		return 1
	}
	return []plain{
		{"binary", 1, []int8{-1, 1}, mean, sign},
		{"ternary", 2, []int8{-1, 0, 1}, mean, near(1)},
		{"int4", 4, count(-7, 7), most(7), near(7)},
		{"int8", 8, nil, most(127), near(127)},
	}
}

func TestFormatsAreTheDocumentedOnes(t *testing.T) {
	for _, p := range quantizers() {
		for spec, want := range map[string]framework.Format{
			p.spec:                          {Group: 128, F16: true},
			p.spec + ":group=row,scale=f32": {Group: framework.GroupRow},
			p.spec + ":group=64":            {Group: 64, F16: true},
			p.spec + ":group=tensor":        {Group: framework.GroupTensor, F16: true},
		} {
			q, err := framework.Quantizers.Open(spec)
			if err != nil {
				t.Fatal(err)
			}
			f := q.Format()
			if f.Bits != p.bits || !slices.Equal(f.Levels, p.levels) || f.ActBits != 8 || f.Group != want.Group || f.F16 != want.F16 {
				t.Errorf("%s: %+v, want %d bits, levels %v, 8-bit activations, group %d, f16 scales %v", spec, f, p.bits, p.levels, want.Group, want.F16)
			}
		}
	}
}

// Codes and scales of normal weights, of weights that are all equal, and of zeros, against plain loops in float64. A
// quotient within the error of the scale of a half integer may round either way; a sign may not.
func TestCodesAndScalesAreThoseOfAPlainLoop(t *testing.T) {
	const m, k, group = 9, 96, 32
	r := rand.New(rand.NewPCG(60, 1))
	w := tensor.New(tensor.T(tensor.F32, m, k))
	for i := range w.F32() {
		switch i / group % 9 {
		case 3:
			w.F32()[i] = 0.25
		case 5:
			w.F32()[i] = 0
		default:
			w.F32()[i] = float32(r.NormFloat64() * 0.02)
		}
	}
	for _, p := range quantizers() {
		slack := 1e-5
		if p.bits == 1 {
			slack = 0
		}
		codes, scales := pack(t, p.spec+":group=32,scale=f32", w)
		levels := levelsOf(t, codes, p)
		for g, got := range scales.F32() {
			part := w.F32()[g*group : (g+1)*group]
			scale := max(p.scale(part), 1e-8)
			if math.Abs(float64(got)-scale) > 4e-7*scale {
				t.Fatalf("%s: scale %d is %g, want %g", p.spec, g, got, scale)
			}
			for i, v := range part {
				x := float64(v) / float64(got)
				level := levels[g*group+i]
				if lo, hi := p.level(x-slack), p.level(x+slack); float64(level) < lo || float64(level) > hi {
					t.Fatalf("%s: %g by %g has level %d, want %g", p.spec, v, got, level, p.level(x))
				}
			}
		}
	}
}

// Scales of f16 are those of f32, rounded, and never zero.
func TestHalfScalesAreThoseOfAPlainLoopRounded(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 1))
	w := tensor.New(tensor.T(tensor.F32, 40, 32))
	for i := range w.F32() {
		w.F32()[i] = float32(r.NormFloat64() * math.Exp2(float64(i/32-34)))
	}
	for _, p := range quantizers() {
		_, scales := pack(t, p.spec+":group=32", w)
		for g, got := range scales.F32() {
			scale := max(p.scale(w.F32()[g*32:(g+1)*32]), 0x1p-24)
			if half := tensor.F16ToF32(tensor.F32ToF16(got)); half != got {
				t.Errorf("%s: scale %d is %g, no f16", p.spec, g, got)
			}
			if d := math.Abs(float64(got) - scale); d > max(scale*0x1.01p-11, 0x1.01p-25) {
				t.Errorf("%s: scale %d is %g, want %g", p.spec, g, got, scale)
			}
		}
	}
}

// pack runs the packing fragment of a quantizer once.
func pack(t *testing.T, spec string, w *tensor.Tensor) (codes, scales *tensor.Tensor) {
	t.Helper()
	q, err := framework.Quantizers.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	be, err := framework.Backends.Open("scalar")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = be.Close() }()
	g, err := graph.Trace(func(b *graph.Builder) {
		codes, scales := q.Pack(b, b.Input("w", tensor.F32, w.Shape...))
		b.Output("codes", codes)
		b.Output("scales", scales)
	})
	if err != nil {
		t.Fatal(err)
	}
	exec, err := be.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = exec.Close() }()
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	codes, scales = tensor.New(g.Outputs[0].Value.Type()), tensor.New(g.Outputs[1].Value.Type())
	if err := exec.Run(context.Background(), store, []*tensor.Tensor{w}, []*tensor.Tensor{codes, scales}); err != nil {
		t.Fatal(err)
	}
	return codes, scales
}

// levelsOf reads codes, low bits first in rows of whole bytes, by the levels of p.
func levelsOf(t *testing.T, codes *tensor.Tensor, p plain) []int8 {
	t.Helper()
	if p.bits == 8 {
		return codes.I8()
	}
	out := make([]int8, codes.Shape.Numel())
	for i := range out {
		code := int(codes.Data[i*p.bits/8]>>(i*p.bits%8)) & (1<<p.bits - 1)
		if code >= len(p.levels) {
			t.Fatalf("%s: weight %d has the code %d", p.spec, i, code)
		}
		out[i] = p.levels[code]
	}
	return out
}
