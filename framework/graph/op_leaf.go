package graph

import "github.com/ternlm/tern/framework/tensor"

// LeafAttr names an input or a buffer.
type LeafAttr struct{ Name, Type string }

// ParamAttr names a parameter and says how its first value is made.
type ParamAttr struct {
	Name, Type string
	Init       Init
}

// Init is how a trainer makes the first value of a parameter: drawn from
// N(Mean, Std^2), or the listed Values, repeated to fill the parameter.
type Init struct {
	Mean   float64   `json:",omitempty"`
	Std    float64   `json:",omitempty"`
	Values []float64 `json:",omitempty"`
}

// ConstInit fills a parameter with v.
func ConstInit(v float64) Init { return Init{Mean: v} }

// NormalInit draws a parameter from N(0, std^2).
func NormalInit(std float64) Init { return Init{Std: std} }

// ListInit gives a parameter's values in order.
func ListInit(v ...float64) Init { return Init{Values: v} }

// ConstAttr is a value and, for the const op, the type it fills, or the
// elements that fill it in order.
type ConstAttr struct {
	Value  float64
	Values []float64 `json:",omitempty"`
	Type   string    `json:",omitempty"`
}

// LenAttr is a number of elements or rows.
type LenAttr struct{ N int }

var opInput, opParam, opBuffer, opConst, opIota *Op

func init() {
	leaf := func(n *Node) []tensor.Type { return types(mustType(n.Attr.(LeafAttr).Type)) }
	opInput = Define(Op{Name: "input", Attr: LeafAttr{}, Infer: leaf})
	opBuffer = Define(Op{Name: "buffer", Attr: LeafAttr{}, Infer: leaf})
	opParam = Define(Op{Name: "param", Attr: ParamAttr{}, Infer: func(n *Node) []tensor.Type {
		t := mustType(n.Attr.(ParamAttr).Type)
		if t.DType != tensor.F32 {
			failf("param %q is %v, wants f32", n.Name(), t)
		}
		return types(t)
	}})
	opConst = Define(Op{Name: "const", Attr: ConstAttr{}, Infer: func(n *Node) []tensor.Type {
		a := n.Attr.(ConstAttr)
		t := mustType(a.Type)
		if len(a.Values) > 0 && len(a.Values) != t.Shape.Numel() {
			failf("const: %d values for %v", len(a.Values), t)
		}
		if t.DType != tensor.F32 && t.DType != tensor.I32 {
			failf("const of %v, wants f32 or i32", t)
		}
		return types(t)
	}})
	opIota = Define(Op{Name: "iota", Attr: LenAttr{}, Infer: func(n *Node) []tensor.Type {
		return types(tensor.T(tensor.F32, n.Attr.(LenAttr).N))
	}})
}

// Const is v in every element of t, which is f32 or i32.
func (b *Builder) Const(v float64, t tensor.Type) Value {
	return b.one(opConst, ConstAttr{Value: v, Type: t.String()})
}

// ConstList is the given elements as f32 [dims]. It is for small tables: the
// elements are part of the graph's text.
func (b *Builder) ConstList(v []float64, dims ...int) Value {
	return b.one(opConst, ConstAttr{Values: v, Type: tensor.T(tensor.F32, dims...).String()})
}

// Iota is 0, 1, ..., n-1 as f32[n].
func (b *Builder) Iota(n int) Value { return b.one(opIota, LenAttr{n}) }

// Like is a constant c that broadcasts against x.
func (b *Builder) Like(x Value, c float64) Value {
	return b.Const(c, tensor.Type{DType: x.Type().DType, Shape: ones(len(x.Shape()))})
}

// Full is c in every element of a tensor of x's type.
func (b *Builder) Full(x Value, c float64) Value { return b.Const(c, x.Type()) }

func ones(n int) tensor.Shape {
	s := make(tensor.Shape, n)
	for i := range s {
		s[i] = 1
	}
	return s
}
