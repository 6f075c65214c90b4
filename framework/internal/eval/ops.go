package eval

import (
	"fmt"
	"math"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

var unary = map[string]func(float64) float64{
	"neg": func(x float64) float64 { return -x }, "exp": math.Exp, "log": math.Log, "sqrt": math.Sqrt,
	"rsqrt": func(x float64) float64 { return 1 / math.Sqrt(x) },
	"sin":   math.Sin, "cos": math.Cos, "abs": math.Abs,
	"sigmoid": func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	"round":   math.RoundToEven,
}

var binary = map[string]func(x, y float64) float64{
	"add": func(x, y float64) float64 { return x + y }, "sub": func(x, y float64) float64 { return x - y },
	"mul": func(x, y float64) float64 { return x * y }, "div": func(x, y float64) float64 { return x / y },
	"max": math.Max, "min": math.Min,
	"less":  func(x, y float64) float64 { return bool01(x < y) },
	"equal": func(x, y float64) float64 { return bool01(x == y) },
}

// primitive evaluates one primitive; an error is bad input, such as an id out
// of range.
func primitive(n *graph.Node, in []value) (value, error) {
	out := newValue(n.Out[0])
	if f := unary[n.Op.Name]; f != nil {
		for i, x := range in[0].f {
			out.f[i] = f(x)
		}
		return out, nil
	}
	if f := binary[n.Op.Name]; f != nil {
		broadcast(out, in, func(x []float64) float64 { return f(x[0], x[1]) })
		return out, nil
	}
	switch n.Op.Name {
	case "const":
		a := n.Attr.(graph.ConstAttr)
		for i := range out.f {
			out.f[i] = a.Value
			if len(a.Values) > 0 {
				out.f[i] = a.Values[i]
			}
		}
	case "iota":
		for i := range out.f {
			out.f[i] = float64(i)
		}
	case "scale":
		for i, x := range in[0].f {
			out.f[i] = n.Attr.(graph.ConstAttr).Value * x
		}
	case "where":
		broadcast(out, in, func(x []float64) float64 {
			if x[0] != 0 {
				return x[1]
			}
			return x[2]
		})
	case "cast", "through", "cut", "reshape":
		copy(out.f, in[0].f)
	case "broadcast":
		broadcast(out, in, func(x []float64) float64 { return x[0] })
	case "sum", "amax":
		reduce(n, out, in[0])
	case "encode":
		for i, x := range in[0].f {
			out.f[i] = encode(x, n.Out[0].DType, n.Attr.(graph.CodeAttr).Levels)
		}
	case "decode":
		return out, decode(n, out, in[0])
	case "matmul":
		matmul(n.Attr.(graph.MatMulAttr), out, in[0], in[1])
	default:
		return out, moved(n, out, in)
	}
	return out, nil
}

func broadcast(out value, in []value, f func(x []float64) float64) {
	st, x := make([][]int, len(in)), make([]float64, len(in))
	for k, v := range in {
		st[k] = strides(v.t.Shape)
	}
	each(out.t.Shape, func(i int, at []int) {
		for k, v := range in {
			x[k] = v.f[offset(v.t.Shape, st[k], at)]
		}
		out.f[i] = f(x)
	})
}

func reduce(n *graph.Node, out, x value) {
	if n.Op.Name == "amax" {
		for i := range out.f {
			out.f[i] = math.Inf(-1)
		}
	}
	st := strides(out.t.Shape)
	each(x.t.Shape, func(i int, at []int) {
		k := offset(out.t.Shape, st, at)
		if n.Op.Name == "sum" {
			out.f[k] += x.f[i]
		} else {
			out.f[k] = math.Max(out.f[k], x.f[i])
		}
	})
}

// encode gives the code of the level nearest to x: an index, or an integer of type i8.
func encode(x float64, d tensor.DType, levels []int8) float64 {
	if d != tensor.I8 {
		return float64(nearest(x, levels))
	}
	if !(x > -127) {
		return -127
	}
	return min(127, math.Ceil(x-0.5))
}

func decode(n *graph.Node, out, x value) error {
	levels := n.Attr.(graph.CodeAttr).Levels
	for i, c := range x.f {
		if x.t.DType == tensor.I8 {
			if out.f[i] = c; c == -128 {
				return fmt.Errorf("code %v has no level", c)
			}
			continue
		}
		if int(c) >= len(levels) {
			return fmt.Errorf("code %v has no level", c)
		}
		out.f[i] = float64(levels[int(c)])
	}
	return nil
}

func matmul(a graph.MatMulAttr, out, x, y value) {
	r := len(out.t.Shape)
	M, N := out.t.Shape[r-2], out.t.Shape[r-1]
	K := x.t.Shape[r-1]
	if a.TransX {
		K = x.t.Shape[r-2]
	}
	for b := range out.t.Shape[:r-2].Numel() {
		X, Y, Z := x.f[b*M*K:], y.f[b*K*N:], out.f[b*M*N:]
		for i := range M {
			for j := range N {
				sum := 0.0
				for k := range K {
					p, q := i*K+k, k*N+j
					if a.TransX {
						p = k*M + i
					}
					if a.TransY {
						q = j*K + k
					}
					sum += X[p] * Y[q]
				}
				Z[i*N+j] = sum
			}
		}
	}
}

// moved evaluates the ops that move elements.
func moved(n *graph.Node, out value, in []value) error {
	x := in[0]
	xs, os := strides(x.t.Shape), strides(out.t.Shape)
	switch a := n.Attr.(type) {
	case graph.DimsAttr: // transpose
		each(out.t.Shape, func(i int, at []int) {
			k := 0
			for d, p := range a.Dims {
				k += at[d] * xs[p]
			}
			out.f[i] = x.f[k]
		})
		return nil
	case graph.SliceAttr:
		each(out.t.Shape, func(i int, at []int) {
			k := a.Lo * xs[a.Axis]
			for d := range at {
				k += at[d] * xs[d]
			}
			out.f[i] = x.f[k]
		})
		return nil
	case graph.PadAttr:
		place(out, os, x, a.Axis, a.Before)
		return nil
	}
	switch n.Op.Name {
	case "concat":
		lo := 0
		for _, v := range in {
			axis := n.Attr.(graph.AxisAttr).Axis
			place(out, os, v, axis, lo)
			lo += v.t.Shape[axis]
		}
		return nil
	case "gather", "scatteradd":
		return rows(n, out, x, in[1])
	case "updateat":
		return updateAt(n.Attr.(graph.AxisAttr).Axis, out, in)
	}
	return fmt.Errorf("eval: no rule for primitive %s", n.Op.Name)
}

// place writes v into out, shifted by lo along axis.
func place(out value, os []int, v value, axis, lo int) {
	each(v.t.Shape, func(i int, at []int) {
		k := lo * os[axis]
		for d := range at {
			k += at[d] * os[d]
		}
		out.f[k] = v.f[i]
	})
}

func rows(n *graph.Node, out, x, ids value) error {
	table := x
	if n.Op.Name == "scatteradd" {
		table = out
	}
	R := table.t.Shape[0]
	width := table.t.Shape[1:].Numel()
	for i, id := range ids.f {
		if id < 0 || int(id) >= R {
			return fmt.Errorf("id %v is not in [0,%d)", id, R)
		}
		for c := range width {
			if n.Op.Name == "gather" {
				out.f[i*width+c] = x.f[int(id)*width+c]
			} else {
				out.f[int(id)*width+c] += x.f[i*width+c]
			}
		}
	}
	return nil
}

func updateAt(axis int, out value, in []value) error {
	copy(out.f, in[0].f)
	src, pos := in[1], in[2]
	os := strides(out.t.Shape)
	for b, p := range pos.f {
		if p < 0 || int(p)+src.t.Shape[axis] > out.t.Shape[axis] {
			return fmt.Errorf("position %v of batch %d: %d rows do not fit in %d", p, b, src.t.Shape[axis], out.t.Shape[axis])
		}
	}
	each(src.t.Shape, func(i int, at []int) {
		k := int(pos.f[at[0]]) * os[axis]
		for d := range at {
			k += at[d] * os[d]
		}
		out.f[k] = src.f[i]
	})
	return nil
}

// checkInput refuses operands of a composite that no expansion could name as
// the cause: a target beyond the vocabulary, queries beyond the cache.
func checkInput(n *graph.Node, in []value) error {
	op := n.Op
	if op.Primal() != nil {
		op = op.Primal()
	}
	if op.Name == "crossentropy" {
		for _, t := range in[1].f {
			if V := in[0].t.Shape[1]; int(t) >= V {
				return fmt.Errorf("target %v is not below %d", t, V)
			}
		}
	}
	if op.Name == "attention" {
		for _, p := range in[3].f {
			if T, S := in[0].t.Shape[1], in[1].t.Shape[1]; p < 0 || int(p)+T > S {
				return fmt.Errorf("position %v: %d queries do not fit in %d keys", p, T, S)
			}
		}
	}
	return nil
}

// wire is the type of the tensors that carry values of type t.
func wire(t tensor.Type, single bool) tensor.Type {
	if t.DType == tensor.F32 && !single {
		t.DType = tensor.F64
	}
	return t
}
