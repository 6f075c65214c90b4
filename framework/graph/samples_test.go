package graph_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

type B = graph.Builder

func f32(dims ...int) tensor.Type { return tensor.T(tensor.F32, dims...) }

// in declares an f32 input.
func in(b *B, name string, dims ...int) graph.Value { return b.Input(name, tensor.F32, dims...) }

// ids declares an i32 input.
func ids(b *B, name string, dims ...int) graph.Value { return b.Input(name, tensor.I32, dims...) }

// codes declares an input of two-bit codes.
func codes(b *B, dims ...int) graph.Value { return b.Input("codes", tensor.U2, dims...) }

var ternary = graph.LinearAttr{Levels: []int8{-1, 0, 1}, ActBits: 8}

// samples uses each op once, pullbacks excepted: those follow from the rest.
// Other forms of an op have its name and what sets them apart.
var samples = map[string]func(b *B) graph.Value{
	"input":      func(b *B) graph.Value { return in(b, "x", 2, 3) },
	"param":      func(b *B) graph.Value { return b.Param("w", graph.NormalInit(0.02), 2, 3) },
	"buffer":     func(b *B) graph.Value { return b.Buffer("cache", tensor.T(tensor.F16, 2, 3)) },
	"const":      func(b *B) graph.Value { return b.Const(1.5, f32(2, 3)) },
	"iota":       func(b *B) graph.Value { return b.Iota(5) },
	"neg":        func(b *B) graph.Value { return b.Neg(in(b, "x", 2)) },
	"exp":        func(b *B) graph.Value { return b.Exp(in(b, "x", 2)) },
	"log":        func(b *B) graph.Value { return b.Log(in(b, "x", 2)) },
	"sqrt":       func(b *B) graph.Value { return b.Sqrt(in(b, "x", 2)) },
	"rsqrt":      func(b *B) graph.Value { return b.Rsqrt(in(b, "x", 2)) },
	"sin":        func(b *B) graph.Value { return b.Sin(in(b, "x", 2)) },
	"cos":        func(b *B) graph.Value { return b.Cos(in(b, "x", 2)) },
	"abs":        func(b *B) graph.Value { return b.Abs(in(b, "x", 2)) },
	"sigmoid":    func(b *B) graph.Value { return b.Sigmoid(in(b, "x", 2)) },
	"round":      func(b *B) graph.Value { return b.Round(in(b, "x", 2)) },
	"scale":      func(b *B) graph.Value { return b.Scale(in(b, "x", 2), -1e-30) },
	"cast":       func(b *B) graph.Value { return b.Cast(in(b, "x", 2), tensor.BF16) },
	"add":        func(b *B) graph.Value { return b.Add(in(b, "x", 2, 1), in(b, "y", 1, 3)) },
	"sub":        func(b *B) graph.Value { return b.Sub(in(b, "x", 2, 3), in(b, "y", 3)) },
	"mul":        func(b *B) graph.Value { return b.Mul(in(b, "x", 2, 3), in(b, "y")) },
	"div":        func(b *B) graph.Value { return b.Div(in(b, "x", 2, 3), in(b, "y", 2, 3)) },
	"max":        func(b *B) graph.Value { return b.Max(in(b, "x", 2), in(b, "y", 2)) },
	"min":        func(b *B) graph.Value { return b.Min(in(b, "x", 2), in(b, "y", 2)) },
	"less":       func(b *B) graph.Value { return b.Less(in(b, "x", 2), in(b, "y", 1)) },
	"equal":      func(b *B) graph.Value { return b.Equal(in(b, "x", 2), in(b, "y", 1)) },
	"where":      func(b *B) graph.Value { return b.Where(b.Input("c", tensor.Bool, 2), in(b, "x", 2), in(b, "y", 1)) },
	"through":    func(b *B) graph.Value { return b.Through(in(b, "x", 2), in(b, "y", 2)) },
	"cut":        func(b *B) graph.Value { return b.Apply(graph.Lookup("cut"), nil, in(b, "x", 2))[0] },
	"sum":        func(b *B) graph.Value { return b.Sum(in(b, "x", 2, 3), -1) },
	"amax":       func(b *B) graph.Value { return b.AMax(in(b, "x", 2, 3), 0) },
	"reshape":    func(b *B) graph.Value { return b.Reshape(in(b, "x", 2, 3), 3, 2) },
	"transpose":  func(b *B) graph.Value { return b.Transpose(in(b, "x", 2, 3, 4), 2, 0, 1) },
	"broadcast":  func(b *B) graph.Value { return b.Broadcast(in(b, "x", 2, 1), tensor.Shape{2, 3}) },
	"slice":      func(b *B) graph.Value { return b.Slice(in(b, "x", 2, 3), 1, 1, 3) },
	"pad":        func(b *B) graph.Value { return b.Pad(in(b, "x", 2, 3), 1, 1, 2) },
	"concat":     func(b *B) graph.Value { return b.Concat(1, in(b, "x", 2, 3), in(b, "y", 2, 1), in(b, "z", 2, 2)) },
	"gather":     func(b *B) graph.Value { return b.Gather(in(b, "x", 9, 3), ids(b, "i", 2, 4)) },
	"scatteradd": func(b *B) graph.Value { return b.ScatterAdd(in(b, "x", 2, 4, 3), ids(b, "i", 2, 4), 9) },
	"updateat":   func(b *B) graph.Value { return b.UpdateAt(in(b, "x", 2, 8, 3), in(b, "y", 2, 1, 3), ids(b, "i", 2), 1) },
	"matmul":     func(b *B) graph.Value { return b.MatMul(in(b, "x", 5, 2, 3), in(b, "y", 5, 4, 3), false, true) },
	"encode":     func(b *B) graph.Value { return b.Encode(in(b, "x", 2, 5), tensor.U4, []int8{-128, 0, 127}) },
	"decode":     func(b *B) graph.Value { return b.Decode(codes(b, 2, 5), []int8{-1, 0, 1}) },
	"rmsnorm":    func(b *B) graph.Value { return b.RMSNorm(in(b, "x", 2, 3), in(b, "w", 3), 1e-5) },
	"swiglu":     func(b *B) graph.Value { return b.SwiGLU(in(b, "x", 2, 3), in(b, "y", 2, 3)) },
	"softmax":    func(b *B) graph.Value { return b.Softmax(in(b, "x", 2, 3)) },
	"rope":       func(b *B) graph.Value { return b.RoPE(in(b, "x", 2, 3, 4, 6), ids(b, "pos", 2), 10000) },
	"attention": func(b *B) graph.Value {
		return b.Attention(in(b, "q", 2, 3, 4, 6), in(b, "k", 2, 5, 2, 6), in(b, "v", 2, 5, 2, 6), ids(b, "pos", 2))
	},
	"crossentropy": func(b *B) graph.Value { return b.CrossEntropy(in(b, "x", 2, 9), ids(b, "y", 2)) },
	"normlinear": func(b *B) graph.Value {
		return b.NormLinear(in(b, "x", 2, 4), in(b, "gain", 4), in(b, "w", 3, 4), 1e-5)
	},
	"int8": func(b *B) graph.Value { return b.Int8(in(b, "x", 2, 9)) },
	"bitlinear": func(b *B) graph.Value {
		return b.BitLinear(in(b, "x", 2, 8), in(b, "w", 3, 8), codes(b, 3, 8), in(b, "s", 3, 2), ternary)
	},
	"codebookmatmul": func(b *B) graph.Value {
		return b.CodeBookMatMul(in(b, "x", 2, 8), codes(b, 3, 8), in(b, "s", 1, 1), ternary)
	},
	"linearcrossentropy": func(b *B) graph.Value {
		return b.LinearCrossEntropy(in(b, "x", 2, 8), in(b, "w", 3, 8), ids(b, "y", 2))
	},
	"bitlinearcrossentropy": func(b *B) graph.Value {
		return b.BitLinearCrossEntropy(in(b, "x", 2, 8), in(b, "w", 3, 8), codes(b, 3, 8), in(b, "s", 3, 2), ids(b, "y", 2), ternary)
	},
	"codebookcrossentropy": func(b *B) graph.Value {
		return b.CodeBookCrossEntropy(in(b, "x", 2, 8), codes(b, 3, 8), in(b, "s", 1, 1), ids(b, "y", 2), ternary)
	},
	"streamread": func(b *B) graph.Value { return b.StreamRead(in(b, "s", 2, 3, 4), in(b, "pre", 3)) },
	"streamwrite": func(b *B) graph.Value {
		return b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 3, 3), in(b, "post", 3))
	},
	"streamread by row": func(b *B) graph.Value { return b.StreamRead(in(b, "s", 2, 3, 4), in(b, "pre", 2, 3)) },
	"streamwrite by row": func(b *B) graph.Value {
		return b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 2, 3, 3), in(b, "post", 2, 3))
	},
	"streamwrite mixed by row": func(b *B) graph.Value {
		return b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 2, 3, 3), in(b, "post", 3))
	},
	"streamwrite spread by row": func(b *B) graph.Value {
		return b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 3, 3), in(b, "post", 2, 3))
	},
	"adamw": func(b *B) graph.Value {
		p, _, _ := b.AdamW(in(b, "p", 2, 3), in(b, "g", 2, 3), in(b, "m", 2, 3), in(b, "v", 2, 3), in(b, "lr"), in(b, "c1"), in(b, "c2"),
			graph.AdamAttr{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1})
		return p
	},
}

// sample traces a graph whose last node is a use of op.
func sample(t *testing.T, op *graph.Op) *graph.Graph {
	t.Helper()
	return sampleOf(t, op, primalOf(op).Name)
}

// primalOf is the op that op is or is the pullback of.
func primalOf(op *graph.Op) *graph.Op {
	if op.Primal() != nil {
		return op.Primal()
	}
	return op
}

// forms are the names of the samples of op, its own first.
func forms(op *graph.Op) []string {
	name := primalOf(op).Name
	all := []string{name}
	for _, s := range slices.Sorted(maps.Keys(samples)) {
		if strings.HasPrefix(s, name+" ") {
			all = append(all, s)
		}
	}
	return all
}

// sampleOf traces a graph whose last node is a use of op as in the named sample.
func sampleOf(t *testing.T, op *graph.Op, name string) *graph.Graph {
	t.Helper()
	of, build := primalOf(op), samples[name]
	if build == nil {
		t.Fatalf("op %s has no sample", name)
	}
	g, err := graph.Trace(func(b *B) {
		n := build(b).N
		if n.Op != of {
			t.Fatalf("the sample of %s makes %s", of.Name, n.Op.Name)
		}
		if op != of {
			operands := append([]graph.Value{}, n.In...)
			for i, typ := range n.Out {
				operands = append(operands, in(b, "ct"+string(rune('0'+i)), typ.Shape...))
			}
			n = b.Apply(op, n.Attr, operands...)[0].N
		}
		for i := range n.Out {
			b.Output("z"+string(rune('0'+i)), graph.Value{N: n, I: i})
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", op.Name, err)
	}
	return g
}
