package backendtest

import (
	"fmt"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// filler gives element i of an operand.
type filler func(k rng.Key, i int) float64

// normal is N(0,1).
func normal(k rng.Key, i int) float64 { return k.Normal(uint64(i)) }

// positive is uniform in [0.2,2.2).
func positive(k rng.Key, i int) float64 { return 0.2 + 2*k.Float64(uint64(i)) }

// small is uniform in [0.01,0.11), as scales are.
func small(k rng.Key, i int) float64 { return 0.01 + 0.1*k.Float64(uint64(i)) }

// wide is normal with a standard deviation of 8.
func wide(k rng.Key, i int) float64 { return 8 * k.Normal(uint64(i)) }

// below is a whole number in [0,n).
func below(n int) filler {
	return func(k rng.Key, i int) float64 { return float64(int(k.Float64(uint64(i)) * float64(n))) }
}

// halves are multiples of 0.5 in [-4,4): ties of rounding.
func halves(k rng.Key, i int) float64 { return below(16)(k, i)/2 - 4 }

// lattice is (m + off)/10 for whole m in [-15,15): two lattices whose offsets
// differ never meet, and one with an offset of a quarter avoids 0 and ties.
func lattice(off float64) filler {
	return func(k rng.Key, i int) float64 { return (below(30)(k, i) - 15 + off) / 10 }
}

// listed repeats the given numbers.
func listed(v ...float64) filler {
	return func(_ rng.Key, i int) float64 { return v[i%len(v)] }
}

// sparse is normal but for every third row of n, which is zero.
func sparse(n int) filler {
	return func(k rng.Key, i int) float64 {
		if i/n%3 == 2 {
			return 0
		}
		return normal(k, i)
	}
}

// operand is the type of one operand and how it is filled.
type operand struct {
	t    tensor.Type
	fill filler
}

func f32(fill filler, dims ...int) operand { return operand{tensor.T(tensor.F32, dims...), fill} }

func i32(fill filler, dims ...int) operand { return operand{tensor.T(tensor.I32, dims...), fill} }

func of(d tensor.DType, fill filler, dims ...int) operand { return operand{tensor.T(d, dims...), fill} }

// sample is one use of an op.
type sample struct {
	attr any
	in   []operand
	// build replaces the plain application of the op to its operands.
	build func(b *graph.Builder, x []graph.Value) []graph.Value
	// fd marks a sample that is smooth and small enough for finite differences.
	fd bool
	// big marks one that is worth splitting over workers.
	big bool
}

func (s sample) String() string {
	str := ""
	for i, o := range s.in {
		if i > 0 {
			str += " "
		}
		str += o.t.String()
	}
	if s.attr != nil {
		str += fmt.Sprintf(" %+v", s.attr)
	}
	return str
}

// apply builds the op on x.
func (s sample) apply(b *graph.Builder, op *graph.Op, x []graph.Value) []graph.Value {
	if s.build != nil {
		return s.build(b, x)
	}
	return b.Apply(op, s.attr, x...)
}

// tensors makes the operands; seed and the op's name choose the numbers.
func (s sample) tensors(seed uint64, op string) []*tensor.Tensor {
	ts := make([]*tensor.Tensor, len(s.in))
	for i, o := range s.in {
		ts[i] = fillTensor(o.t, o.fill, rng.NewKey(seed, fmt.Sprintf("%s/%d", op, i)))
	}
	return ts
}

func fillTensor(t tensor.Type, fill filler, k rng.Key) *tensor.Tensor {
	x := tensor.New(t)
	n := t.Shape.Numel()
	switch d := t.DType; {
	case d == tensor.F32:
		for i := range n {
			x.F32()[i] = float32(fill(k, i))
		}
	case d == tensor.F16:
		for i := range n {
			x.U16()[i] = tensor.F32ToF16(float32(fill(k, i)))
		}
	case d == tensor.BF16:
		for i := range n {
			x.U16()[i] = tensor.F32ToBF16(float32(fill(k, i)))
		}
	case d == tensor.I32:
		for i := range n {
			x.I32()[i] = int32(fill(k, i))
		}
	case d == tensor.I8:
		for i := range n {
			x.I8()[i] = int8(fill(k, i))
		}
	case d == tensor.Bool:
		for i := range n {
			x.Data[i] = byte(fill(k, i))
		}
	case d.Codes():
		block, cols := d.Block(), t.Shape[len(t.Shape)-1]
		stride, bits := (cols+block-1)/block, 8/block
		for i := range n {
			r, c := i/cols, i%cols
			x.Data[r*stride+c/block] |= byte(fill(k, i)) << (c % block * bits)
		}
	}
	return x
}

// samplesOf returns the samples of op; those of X.vjp are made from X's.
func samplesOf(op *graph.Op) []sample {
	if op.Primal() == nil {
		return table[op.Name]
	}
	var out []sample
	for _, s := range samplesOf(op.Primal()) {
		_, err := graph.Trace(func(b *graph.Builder) {
			x := inputs(b, s.in)
			v := sample{attr: s.attr, in: append([]operand{}, s.in...), big: s.big}
			for _, y := range b.Apply(op.Primal(), s.attr, x...) {
				v.in = append(v.in, operand{y.Type(), normal})
			}
			out = append(out, v)
		})
		if err != nil {
			panic("backendtest: sample " + s.String() + ": " + err.Error())
		}
	}
	return out
}

// inputs declares graph inputs for operands.
func inputs(b *graph.Builder, in []operand) []graph.Value {
	x := make([]graph.Value, len(in))
	for i, o := range in {
		x[i] = b.Input(inputName(i), o.t.DType, o.t.Shape...)
	}
	return x
}

func inputName(i int) string { return fmt.Sprintf("x%d", i) }
