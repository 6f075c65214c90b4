package quanttest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/quanttest"
	"github.com/ternlm/tern/framework/tensor"
)

// book is a small quantizer by code book, with hooks that break it.
type book struct {
	spec   string
	format framework.Format
	scale  func(b *graph.Builder, x graph.Value) graph.Value // x [R,G,n] to [R,G,1]
	pack   func(q book, b *graph.Builder, w graph.Value) (codes, scales graph.Value)
	parse  func(spec string) (framework.Quantizer, error)
}

func (q book) Spec() string             { return q.spec }
func (q book) Format() framework.Format { return q.format }
func (q book) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	if q.pack != nil {
		return q.pack(q, b, w)
	}
	return q.plain(b, w)
}

func (q book) plain(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	rows, cols, err := q.format.Scales(m, k)
	if err != nil {
		graph.Fail("weight %v: %v", w.Type(), err)
	}
	x := b.Reshape(w, rows, cols, m*k/(rows*cols))
	s := q.scale(b, x)
	if q.format.F16 {
		s = b.Cast(b.Cast(s, tensor.F16), tensor.F32)
	}
	levels := q.format.Levels
	t := b.Round(b.Div(x, s))
	t = b.Min(b.Max(t, b.Like(x, float64(levels[0]))), b.Like(x, float64(levels[len(levels)-1])))
	if len(levels) == 2 { // the sign
		t = b.Where(b.Less(x, b.Like(x, 0)), b.Like(x, -1), b.Like(x, 1))
	}
	return b.Encode(b.Reshape(t, m, k), q.format.Code(), levels), b.Reshape(s, rows, cols)
}

func absmean(b *graph.Builder, x graph.Value) graph.Value {
	return b.Max(b.Mean(b.Abs(x), 2), b.Like(x, 0x1p-24))
}

func ternary(group int) book {
	return book{
		spec:   fmt.Sprint("book:", group),
		format: framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: group, F16: true, ActBits: 8, Density: 1.585},
		scale:  absmean,
	}
}

func binary() book {
	q := ternary(32)
	q.format.Bits, q.format.Levels, q.format.Density = 1, []int8{-1, 1}, 1
	return q
}

func int4() book {
	levels := []int8{-7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}
	return book{
		spec:   "int4",
		format: framework.Format{Bits: 4, Levels: levels, Group: framework.GroupRow},
		scale: func(b *graph.Builder, x graph.Value) graph.Value {
			return b.Scale(b.Max(b.AMax(b.Abs(x), 2), b.Like(x, 1e-8)), 1.0/7)
		},
	}
}

// bare is a format that is not quantized.
type bare struct{}

func (bare) Spec() string             { return "bare" }
func (bare) Format() framework.Format { return framework.Format{} }
func (bare) Pack(*graph.Builder, graph.Value) (codes, scales graph.Value) {
	panic("packed a weight that is not quantized")
}

func options(q framework.Quantizer) quanttest.Options {
	return quanttest.Options{
		Open: func() (framework.Quantizer, error) { return q, nil },
		Parse: func(spec string) (framework.Quantizer, error) {
			if b, ok := q.(book); ok && b.parse != nil {
				return b.parse(spec)
			}
			return q, nil
		},
	}
}

func TestGoodQuantizersPass(t *testing.T) {
	for name, q := range map[string]framework.Quantizer{
		"ternary": ternary(32), "ternary row": ternary(framework.GroupRow), "ternary tensor": ternary(framework.GroupTensor),
		"binary": binary(), "int4": int4(), "bare": bare{},
	} {
		t.Run(name, func(t *testing.T) { quanttest.Run(t, options(q)) })
	}
}

// TestFlawsAreFound breaks a good quantizer in one way each.
func TestFlawsAreFound(t *testing.T) {
	runs := 0.0
	scaled := func(c float64) func(*graph.Builder, graph.Value) graph.Value {
		return func(b *graph.Builder, x graph.Value) graph.Value { return b.Scale(absmean(b, x), c) }
	}
	pack := func(f func(q book, b *graph.Builder, w graph.Value) (codes, scales graph.Value)) func(q *book) {
		return func(q *book) { q.pack = f }
	}
	for _, c := range []struct {
		name, rule string
		from       book
		bend       func(q *book)
	}{
		{"parses to another", "spec", ternary(32), func(q *book) {
			q.parse = func(string) (framework.Quantizer, error) { return ternary(64), nil }
		}},
		{"three bits", "format", ternary(32), func(q *book) { q.format.Bits = 3 }},
		{"a level twice", "format", ternary(32), func(q *book) { q.format.Levels = []int8{-1, 0, 0, 1} }},
		{"too many levels", "format", binary(), func(q *book) { q.format.Levels = []int8{-1, 0, 1} }},
		{"level -128", "format", ternary(32), func(q *book) { q.format.Levels = []int8{-128, 0, 1} }},
		{"group zero", "format", ternary(32), func(q *book) { q.format.Group = 0 }},
		{"density beyond its bits", "format", ternary(32), func(q *book) { q.format.Density = 2.25 }},
		{"scales by row", "types", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			q.format.Group = framework.GroupRow
			return q.plain(b, w)
		})},
		{"codes of four bits", "types", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			q.format.Bits = 4
			return q.plain(b, w)
		})},
		{"one level only", "levels", ternary(32), func(q *book) { q.scale = scaled(100) }},
		{"a code beyond the levels", "levels", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			codes, s := q.plain(b, w)
			return b.Encode(b.Add(b.Decode(codes, q.format.Levels), b.Const(2, tensor.T(tensor.F32, 1, 1))), tensor.U2, []int8{0, 1, 2, 3}), s
		})},
		{"scale of half the size", "fidelity", ternary(32), func(q *book) { q.scale = scaled(0.3) }},
		{"scales of another row", "fidelity", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			codes, s := q.plain(b, w)
			if s.Dim(0) > 1 {
				s = b.Concat(0, b.Slice(s, 0, 1, s.Dim(0)), b.Slice(s, 0, 0, 1))
				s = b.Mul(s, b.Div(b.Add(b.Reshape(b.Iota(s.Dim(0)), s.Dim(0), 1), b.Like(s, 1)), b.Like(s, 2)))
			}
			return codes, s
		})},
		{"levels far below their scale", "repack", int4(), func(q *book) {
			q.scale = func(b *graph.Builder, x graph.Value) graph.Value {
				return b.Scale(b.Max(b.Mean(b.Abs(x), 2), b.Like(x, 1e-8)), 0.12)
			}
		}},
		{"an absolute constant", "powers of two", ternary(32), func(q *book) {
			q.scale = func(b *graph.Builder, x graph.Value) graph.Value { return b.Add(absmean(b, x), b.Like(x, 0.01)) }
		}},
		{"no floor", "zero group", ternary(32), func(q *book) {
			q.scale = func(b *graph.Builder, x graph.Value) graph.Value {
				s := b.Mean(b.Abs(x), 2)
				return b.Div(b.Mul(s, s), s)
			}
		}},
		{"a floor that shows", "zero group", binary(), func(q *book) {
			q.scale = func(b *graph.Builder, x graph.Value) graph.Value { return b.Max(absmean(b, x), b.Like(x, 1e-3)) }
		}},
		{"overflow", "extremes", ternary(32), func(q *book) {
			q.scale = func(b *graph.Builder, x graph.Value) graph.Value { return b.Log(b.Exp(absmean(b, x))) }
		}},
		{"ragged rows accepted", "ragged", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			if w.Dim(1)%32 != 0 {
				q.format.Group = framework.GroupRow
			}
			return q.plain(b, w)
		})},
		{"ragged rows panic", "ragged", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			if w.Dim(1)%32 != 0 {
				panic("index out of range")
			}
			return q.plain(b, w)
		})},
		{"f32 scales", "f16 scales", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			q.format.F16 = false
			return q.plain(b, w)
		})},
		{"a scale from its neighbors", "groups apart", ternary(32), func(q *book) {
			q.scale = func(b *graph.Builder, x graph.Value) graph.Value {
				s := absmean(b, x)
				return b.Add(s, b.Scale(b.Mean(s, 1), 0.1))
			}
		}},
		{"another text each time", "deterministic", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			runs++
			return q.plain(b, b.Scale(w, 1+runs*1e-9))
		})},
		{"a state of its own", "deterministic", ternary(32), pack(func(q book, b *graph.Builder, w graph.Value) (graph.Value, graph.Value) {
			return q.plain(b, b.Add(w, b.Buffer("noise", w.Type())))
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.bend(&c.from)
			mustFind(t, c.rule, quanttest.Check(context.Background(), options(c.from)))
		})
	}
}

func mustFind(t *testing.T, rule string, r quanttest.Report) {
	t.Helper()
	for _, f := range r.Failed() {
		if f.Name == rule {
			t.Logf("%.200s", f.Detail)
			return
		}
	}
	var table strings.Builder
	_ = r.Write(&table)
	t.Errorf("rule %q did not find the flaw\n%s", rule, table.String())
}
