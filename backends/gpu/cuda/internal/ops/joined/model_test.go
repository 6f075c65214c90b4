package joined

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	_ "github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// words are the numbers of a tensor of 4-byte elements.
func words[T int32 | float32](t tensor.Type, v ...T) *tensor.Tensor {
	x := &tensor.Tensor{Type: t}
	for _, e := range v {
		switch e := any(e).(type) {
		case int32:
			x.Data = binary.LittleEndian.AppendUint32(x.Data, uint32(e))
		case float32:
			x.Data = binary.LittleEndian.AppendUint32(x.Data, math.Float32bits(e))
		}
	}
	return x
}

// random makes a state: codes are any, scales positive, numbers normal.
func random(name string, t tensor.Type) *tensor.Tensor {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	r := rand.New(rand.NewPCG(h, 7))
	x := tensor.New(t)
	switch t.DType {
	case tensor.F32:
		for i := range t.Shape.Numel() {
			v := r.NormFloat64() * 0.5
			if strings.HasSuffix(name, "scales") {
				v = 0.05 + 0.1*r.Float64()
			}
			binary.LittleEndian.PutUint32(x.Data[4*i:], math.Float32bits(float32(v)))
		}
	case tensor.F16:
		for i := range t.Shape.Numel() { // 1 to 2, and -1 to -2
			binary.LittleEndian.PutUint16(x.Data[2*i:], uint16(0x3c00+r.IntN(1024)+r.IntN(2)<<15))
		}
	default:
		for i := range x.Data {
			x.Data[i] = byte(r.Uint32())
		}
	}
	return x
}

// session is a backend with a store.
type session struct {
	b framework.Backend
	s framework.Store
}

func newSession(t *testing.T, b framework.Backend) session {
	t.Helper()
	s, err := b.NewStore()
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return session{b, s}
}

// run runs a graph, whose states get random values unless they are there already or
// are caches.
func (s session) run(t *testing.T, g *graph.Graph, in ...*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	ctx := context.Background()
	for _, n := range g.States {
		if _, err := s.s.Get(ctx, n.Name()); err != nil && !strings.Contains(n.Name(), "cache") {
			must(t, s.s.Put(ctx, n.Name(), random(n.Name(), n.Out[0])))
		}
	}
	e, err := s.b.Compile(ctx, g)
	must(t, err)
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	must(t, e.Run(ctx, s.s, in, out))
	must(t, e.Close())
	return out
}

// step runs T tokens of each of B sequences from pos on, and returns the logits of
// the last ones.
func (s session) step(t *testing.T, m *model.Model, B, T, pos int, cache tensor.DType) []byte {
	t.Helper()
	g, err := m.Step(B, T, 12, model.Pass{Packed: true, F16: true, CacheType: cache})
	must(t, err)
	var tokens, at, last []int32
	for b := range B {
		for i := range T {
			tokens = append(tokens, int32((pos+i)*7+b*3)%48)
		}
		at, last = append(at, int32(pos)), append(last, int32(b*T+T-1))
	}
	in := map[string]*tensor.Tensor{
		"tokens": words(tensor.T(tensor.I32, B, T), tokens...),
		"pos":    words(tensor.T(tensor.I32, B), at...), "last": words(tensor.T(tensor.I32, B), last...),
	}
	var args []*tensor.Tensor
	for _, n := range g.Inputs {
		args = append(args, in[n.Name()])
	}
	return s.run(t, g, args...)[0].Data
}

// caches is the bytes of all caches.
func (s session) caches(t *testing.T) []byte {
	t.Helper()
	var all []byte
	for _, name := range s.s.Names() {
		if strings.Contains(name, "cache") {
			x, err := s.s.Get(context.Background(), name)
			must(t, err)
			all = append(all, x.Data...)
		}
	}
	return all
}

func small(edit func(c *model.Config)) model.Config {
	c := model.Config{
		Tokenizer: "gpt2:512", Vocab: 48, Dim: 64, Layers: 2, Heads: 4, KVHeads: 2, FFN: 96, Context: 64,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=32", Residual: "mhclite:streams=2", Head: "ternary",
	}
	if edit != nil {
		edit(&c)
	}
	return c
}

var models = map[string]func(c *model.Config){
	"two streams":        nil,
	"four streams":       func(c *model.Config) { c.Residual = "mhclite:streams=4" },
	"one stream":         func(c *model.Config) { c.Residual = "standard" },
	"streams by token":   func(c *model.Config) { c.Residual = "mhclite:streams=2,mode=dynamic" },
	"norms of branches":  func(c *model.Config) { c.SubNorm = true },
	"a gain of angles":   func(c *model.Config) { c.RoPEGain = 1.25 },
	"all heads have own": func(c *model.Config) { c.KVHeads = 4 },
	"bytes":              func(c *model.Config) { c.Quant = "int8:group=32" },
}

// Prefill and decoding have the bits of the graph without the pass: logits and caches.
func TestADecodedModelHasTheSameBits(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	for name, edit := range models {
		m, err := model.New(small(edit))
		must(t, err)
		for i, c := range []struct {
			B, T  int
			cache tensor.DType
		}{{1, 1, tensor.F16}, {2, 1, tensor.F32}, {2, 2, tensor.F16}, {1, 7, tensor.F32}, {9, 1, tensor.F16}} {
			if name != "two streams" && i > 2 && i < 4 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%dx%d", name, c.B, c.T), func(t *testing.T) {
				one, all := newSession(t, backend(d, true)), newSession(t, backend(d, false))
				pos := 0
				for _, T := range []int{c.T, 1} {
					got, want := one.step(t, m, c.B, T, pos, c.cache), all.step(t, m, c.B, T, pos, c.cache)
					if !bytes.Equal(got, want) {
						t.Errorf("logits of %d tokens at %d differ", T, pos)
					}
					if !finite(got) {
						t.Error("logits are no numbers")
					}
					if !bytes.Equal(one.caches(t), all.caches(t)) {
						t.Errorf("caches differ after %d tokens at %d", T, pos)
					}
					pos += T
				}
			})
		}
	}
}

func finite(data []byte) bool {
	for i := 0; i < len(data); i += 4 {
		if v := float64(math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))); math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// Tokens that are decoded one by one have the logits of the whole sequence at once, to
// the bit, and those of the scalar backend to rounding.
func TestDecodingIsTheWholeSequence(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	m, err := model.New(small(nil))
	must(t, err)
	reference, err := framework.Backends.Open("scalar")
	must(t, err)
	one, whole, scalar := newSession(t, backend(d, true)), newSession(t, backend(d, true)), newSession(t, reference)
	var got, want, exact []byte
	for pos := range 6 {
		got = one.step(t, m, 1, 1, pos, tensor.F32)
		want = whole.step(t, m, 1, pos+1, 0, tensor.F32)
		exact = scalar.step(t, m, 1, 1, pos, tensor.F32)
		if !bytes.Equal(got, want) {
			t.Errorf("token %d differs", pos)
		}
		if e := distance(got, exact); e > 1e-4 {
			t.Errorf("token %d is %.1e from the scalar backend's", pos, e)
		}
	}
}

// distance is the largest difference of a from b, as a part of the largest of b.
func distance(a, b []byte) float64 {
	at := func(x []byte, i int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(x[i:]))) }
	most, top := 0.0, 0.0
	for i := 0; i < len(a); i += 4 {
		most, top = max(most, math.Abs(at(a, i)-at(b, i))), max(top, math.Abs(at(b, i)))
	}
	return most / top
}
