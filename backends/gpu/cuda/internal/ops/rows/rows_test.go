package rows_test

import (
	"bytes"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// reference computes a sample in float64, but for int8: its codes are those of
// float32 arithmetic.
func reference(t *testing.T, s sample, f form) []*tensor.Tensor {
	t.Helper()
	b := scalar.Open64(1)
	if s.op == "int8" {
		var err error
		b, err = scalar.Open(framework.Options{})
		must(t, err)
	}
	defer func() { must(t, b.Close()) }()
	out, err := run(b, s.graph(t, f), s.tensors(f), s.op != "int8")
	must(t, err)
	return out
}

func TestKernelsAgreeWithTheReferenceInF32(t *testing.T) {
	b := device(t, engine.F32)
	for _, s := range samples() {
		want := reference(t, s, form{})
		got, err := run(b, s.graph(t, form{}), s.tensors(form{}), false)
		if err != nil {
			t.Fatalf("%v: %v", s, err)
		}
		for i := range want {
			share := 1e-5
			if s.op == "int8" || s.op == "gather" || s.op == "updateat" {
				share = 0
			}
			if err := near(values(got[i]), values(want[i]), share); err != nil {
				t.Errorf("%v, result %d: %v", s, i, err)
			}
		}
	}
}

// Operands that die at the op are overwritten where its definition allows it.
func TestResultsOverOperandsHaveTheSameBits(t *testing.T) {
	b := device(t, engine.F32)
	over := map[string]bool{}
	for _, s := range samples() {
		sameBits(t, s, b, form{}, b, form{dying: true})
		over[s.op] = over[s.op] || inPlace(t, b, s)
	}
	for _, s := range samples() {
		if want := graph.Lookup(s.op).Alias != nil; over[s.op] != want {
			t.Errorf("%s over its operands: %v, want %v", s.op, over[s.op], want)
		}
	}
}

// inPlace reports whether a result of s's node lies over an operand that dies.
func inPlace(t *testing.T, b *engine.Backend, s sample) bool {
	t.Helper()
	p, err := b.Plan(s.graph(t, form{dying: true}))
	must(t, err)
	for _, n := range p.Graph.Nodes {
		for i, idle := range n.Idle() {
			if n.Op.Name == s.op && !idle && p.Slots[n.In[i]] == p.Slots[graph.Value{N: n}] {
				return true
			}
		}
	}
	return false
}

func TestBitsDoNotDependOnTheOrderOfThreads(t *testing.T) {
	first := device(t, engine.BF16)
	f := form{narrow: true, operands: ^uint(0), results: ^uint(0)}
	for _, order := range []string{"reverse", "shuffle"} {
		b := device(t, engine.BF16, "order="+order)
		for _, s := range samples() {
			sameBits(t, s, first, f, b, f)
		}
	}
}

// Of more work than the largest grid has blocks for, blocks do several pieces.
func TestBlocksGoOnBeyondTheLargestGrid(t *testing.T) {
	b := device(t, engine.F32)
	for _, s := range samples() {
		want, err := run(b, s.graph(t, form{}), s.tensors(form{}), false)
		must(t, err)
		was := rows.LimitBlocks(2)
		got, err := run(b, s.graph(t, form{}), s.tensors(form{}), false)
		rows.LimitBlocks(was)
		must(t, err)
		compare(t, s, got, want)
	}
}

func sameBits(t *testing.T, s sample, b *engine.Backend, f form, c *engine.Backend, g form) {
	t.Helper()
	want, err := run(b, s.graph(t, f), s.tensors(f), false)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	got, err := run(c, s.graph(t, g), s.tensors(g), false)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	compare(t, s, got, want)
}

func compare(t *testing.T, s sample, got, want []*tensor.Tensor) {
	t.Helper()
	for i := range want {
		if !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("%v: result %d has other bits", s, i)
		}
	}
}

// Every value that may be bf16 is so alone, and together with all others.
func TestKernelsTakeBF16InAnyOperandAndResult(t *testing.T) {
	b := device(t, engine.BF16)
	narrowed := map[string]uint{}
	for _, s := range samples() {
		ops := map[string]int{"rmsnorm.vjp": 2, "swiglu.vjp": 2, "streamread.vjp": 2, "streamwrite.vjp": 4, "adamw": 3}
		forms := []form{{narrow: true, operands: ^uint(0), results: ^uint(0)}}
		for i := range s.in {
			forms = append(forms, form{narrow: true, operands: 1 << i})
		}
		for i := range max(1, ops[s.op]) {
			forms = append(forms, form{narrow: true, operands: 0, results: 1 << i})
		}
		for _, f := range forms {
			mask := narrowValues(t, b, s, f)
			if mask == 0 {
				continue
			}
			narrowed[s.op] |= mask
			checkNarrow(t, b, s, f, mask)
		}
	}
	for op, want := range map[string]uint{
		"rmsnorm": 0b101, "rmsnorm.vjp": 0b1101, "int8": 0b11, "int8.vjp": 0b111, "swiglu": 0b111, "swiglu.vjp": 0b11111, "crossentropy": 0b1,
		"crossentropy.vjp": 0b1001, "gather": 0b100, "scatteradd": 0b1, "updateat": 0b10, "streamread": 0b101, "streamread.vjp": 0b1101,
		"streamwrite": 0b10011, "streamwrite.vjp": 0b1110011, "adamw": 0,
	} {
		if narrowed[op] != want {
			t.Errorf("%s: values %b were bf16, want %b", op, narrowed[op], want)
		}
	}
}

// narrowValues has the bits of the operands and results of s's node that the
// engine makes bf16.
func narrowValues(t *testing.T, b *engine.Backend, s sample, f form) (mask uint) {
	t.Helper()
	p, err := b.Plan(s.graph(t, f))
	must(t, err)
	for _, n := range p.Graph.Nodes {
		if n.Op.Name != s.op || s.op == "gather" && n.In[0].Type().DType != s.in[0].DType {
			continue
		}
		for i, v := range n.In {
			if v.Type().DType == tensor.BF16 && s.in[i].DType != tensor.BF16 {
				mask |= 1 << i
			}
		}
		for i, o := range n.Out {
			if o.DType == tensor.BF16 {
				mask |= 1 << (len(n.In) + i)
			}
		}
	}
	return mask
}

func checkNarrow(t *testing.T, b *engine.Backend, s sample, f form, mask uint) {
	t.Helper()
	want := reference(t, s, f)
	got, err := run(b, s.graph(t, f), s.tensors(f), false)
	if err != nil {
		t.Fatalf("%v, %b: %v", s, mask, err)
	}
	for i := range want {
		share := 1e-5
		if mask>>(len(s.in)+i)&1 == 1 {
			share = 1.0 / 256
		}
		if err := near(values(got[i]), values(want[i]), share); err != nil {
			t.Errorf("%v, bf16 in %b, result %d: %v", s, mask, i, err)
		}
	}
}
