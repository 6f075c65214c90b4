package graph

import (
	"slices"

	"github.com/ternlm/tern/framework/tensor"
)

// CastAttr is the element type a cast gives.
type CastAttr struct{ To string }

// AxisAttr is the axis an op works along.
type AxisAttr struct{ Axis int }

var (
	opNeg, opExp, opLog, opSqrt, opRsqrt, opSin, opCos, opAbs, opSigmoid, opRound *Op
	opScale, opCast                                                               *Op
	opAdd, opSub, opMul, opDiv, opMax, opMin, opLess, opEqual, opWhere            *Op
	opThrough, opCut, opSum, opAmax                                               *Op
)

func init() {
	unary := func(name string, attr any) *Op {
		return Define(Op{Name: name, Attr: attr, Arity: 1, Alias: [][]int{{0}}, Infer: func(n *Node) []tensor.Type {
			wantF32(n, 0)
			return sameAsFirst(n)
		}})
	}
	opNeg, opExp, opLog = unary("neg", nil), unary("exp", nil), unary("log", nil)
	opSqrt, opRsqrt = unary("sqrt", nil), unary("rsqrt", nil)
	opSin, opCos, opAbs = unary("sin", nil), unary("cos", nil), unary("abs", nil)
	opSigmoid, opRound = unary("sigmoid", nil), unary("round", nil)
	opScale = unary("scale", ConstAttr{})

	binary := func(name string) *Op {
		return Define(Op{Name: name, Arity: 2, Alias: [][]int{{0, 1}}, Infer: func(n *Node) []tensor.Type {
			wantF32(n, 0, 1)
			return broadcastTypes(n, tensor.F32)
		}})
	}
	opAdd, opSub, opMul, opDiv = binary("add"), binary("sub"), binary("mul"), binary("div")
	opMax, opMin = binary("max"), binary("min")

	compare := func(name string) *Op {
		return Define(Op{Name: name, Arity: 2, Infer: func(n *Node) []tensor.Type {
			wantF32(n, 0, 1)
			return broadcastTypes(n, tensor.Bool)
		}})
	}
	opLess, opEqual = compare("less"), compare("equal")
	opWhere = Define(Op{Name: "where", Arity: 3, Alias: [][]int{{1, 2}}, Infer: func(n *Node) []tensor.Type {
		wantF32(n, 1, 2)
		if n.In[0].Type().DType != tensor.Bool {
			failf("where: operand 0 is %v, wants bool", n.In[0].Type())
		}
		return broadcastTypes(n, tensor.F32)
	}})

	opCast = Define(Op{Name: "cast", Attr: CastAttr{}, Arity: 1, Infer: inferCast})
	opThrough = Define(Op{Name: "through", Arity: 2, View: true, Infer: func(n *Node) []tensor.Type {
		wantF32(n, 0, 1)
		wantShape(n, 1, tensor.F32, n.In[0].Shape()...)
		return sameAsFirst(n)
	}})
	opCut = Define(Op{Name: "cut", Arity: 1, View: true, Infer: sameAsFirst})
	opSum = Define(Op{Name: "sum", Attr: AxisAttr{}, Arity: 1, Infer: inferReduce})
	opAmax = Define(Op{Name: "amax", Attr: AxisAttr{}, Arity: 1, Infer: inferReduce})
}

// broadcastTypes infers a result of dtype d whose dimensions are those of the
// operands, each of which must be equal or 1.
func broadcastTypes(n *Node, d tensor.DType) []tensor.Type {
	out := slices.Clone(n.In[0].Shape())
	for _, v := range n.In[1:] {
		s := v.Shape()
		if len(s) != len(out) {
			failf("%s: ranks differ: %v and %v", n.Op.Name, n.In[0].Type(), v.Type())
		}
		for i := range out {
			switch {
			case out[i] == s[i] || s[i] == 1:
			case out[i] == 1:
				out[i] = s[i]
			default:
				failf("%s: shapes do not broadcast: %v and %v", n.Op.Name, n.In[0].Type(), v.Type())
			}
		}
	}
	return types(tensor.Type{DType: d, Shape: out})
}

func inferReduce(n *Node) []tensor.Type {
	wantF32(n, 0)
	axis := n.Attr.(AxisAttr).Axis
	wantAxis(n, 0, axis)
	s := slices.Clone(n.In[0].Shape())
	s[axis] = 1
	return types(tensor.Type{DType: tensor.F32, Shape: s})
}

func inferCast(n *Node) []tensor.Type {
	to, err := tensor.ParseDType(n.Attr.(CastAttr).To)
	if err != nil {
		failf("cast: %v", err)
	}
	from := n.In[0].Type().DType
	widen := to == tensor.F32 && (from == tensor.F16 || from == tensor.BF16 || from == tensor.I32 || from == tensor.Bool)
	narrow := from == tensor.F32 && (to == tensor.F16 || to == tensor.BF16)
	if !widen && !narrow {
		failf("cast from %v to %v", from, to)
	}
	return types(tensor.Type{DType: to, Shape: n.In[0].Shape()})
}

// Neg is -x.
func (b *Builder) Neg(x Value) Value { return b.one(opNeg, nil, x) }

// Exp is e to the x.
func (b *Builder) Exp(x Value) Value { return b.one(opExp, nil, x) }

// Log is the natural logarithm.
func (b *Builder) Log(x Value) Value { return b.one(opLog, nil, x) }

// Sqrt is the square root.
func (b *Builder) Sqrt(x Value) Value { return b.one(opSqrt, nil, x) }

// Rsqrt is 1/sqrt(x).
func (b *Builder) Rsqrt(x Value) Value { return b.one(opRsqrt, nil, x) }

// Sin is the sine of x radians.
func (b *Builder) Sin(x Value) Value { return b.one(opSin, nil, x) }

// Cos is the cosine of x radians.
func (b *Builder) Cos(x Value) Value { return b.one(opCos, nil, x) }

// Abs is |x|.
func (b *Builder) Abs(x Value) Value { return b.one(opAbs, nil, x) }

// Sigmoid is 1/(1+exp(-x)).
func (b *Builder) Sigmoid(x Value) Value { return b.one(opSigmoid, nil, x) }

// Round rounds to the nearest integer, half to even. Its gradient is zero.
func (b *Builder) Round(x Value) Value { return b.one(opRound, nil, x) }

// Scale is c*x.
func (b *Builder) Scale(x Value, c float64) Value { return b.one(opScale, ConstAttr{Value: c}, x) }

// Cast converts between f32 and f16 or bf16, and from i32 or bool to f32.
func (b *Builder) Cast(x Value, d tensor.DType) Value {
	if x.Type().DType == d {
		return x
	}
	return b.one(opCast, CastAttr{d.String()}, x)
}

// Through has the value of y and gives its whole gradient to x: the
// straight-through estimator (Bengio et al., arXiv 1308.3432).
func (b *Builder) Through(y, x Value) Value { return b.one(opThrough, nil, y, x) }

// StopGrad is x with no gradient.
func (b *Builder) StopGrad(x Value) Value { return b.Through(x, b.Full(x, 0)) }

// rank adds leading dimensions of 1 until x and y have equally many.
func (b *Builder) rank(x, y Value) (Value, Value) {
	pad := func(v Value, n int) Value {
		if n <= 0 {
			return v
		}
		return b.Reshape(v, append(ones(n), v.Shape()...)...)
	}
	rx, ry := len(x.Shape()), len(y.Shape())
	return pad(x, ry-rx), pad(y, rx-ry)
}

func (b *Builder) binary(op *Op, x, y Value) Value {
	if !x.Ok() || !y.Ok() {
		failf("%s: operand is missing", op.Name)
	}
	x, y = b.rank(x, y)
	return b.one(op, nil, x, y)
}

// Add is x+y, broadcast.
func (b *Builder) Add(x, y Value) Value { return b.binary(opAdd, x, y) }

// Sub is x-y, broadcast.
func (b *Builder) Sub(x, y Value) Value { return b.binary(opSub, x, y) }

// Mul is x*y, broadcast.
func (b *Builder) Mul(x, y Value) Value { return b.binary(opMul, x, y) }

// Div is x/y, broadcast.
func (b *Builder) Div(x, y Value) Value { return b.binary(opDiv, x, y) }

// Max is the larger of x and y, broadcast.
func (b *Builder) Max(x, y Value) Value { return b.binary(opMax, x, y) }

// Min is the smaller of x and y, broadcast.
func (b *Builder) Min(x, y Value) Value { return b.binary(opMin, x, y) }

// Less is x < y as bool, broadcast.
func (b *Builder) Less(x, y Value) Value { return b.binary(opLess, x, y) }

// Equal is x == y as bool, broadcast.
func (b *Builder) Equal(x, y Value) Value { return b.binary(opEqual, x, y) }

// Where is x where c holds and y elsewhere, broadcast.
func (b *Builder) Where(c, x, y Value) Value {
	x, y = b.rank(x, y)
	c, x = b.rank(c, x)
	_, y = b.rank(x, y)
	return b.one(opWhere, nil, c, x, y)
}

func axisOf(x Value, a int) int {
	if a < 0 {
		a += len(x.Shape())
	}
	return a
}

// Sum adds along axis, which stays with length 1.
func (b *Builder) Sum(x Value, axis int) Value { return b.one(opSum, AxisAttr{axisOf(x, axis)}, x) }

// AMax is the maximum along axis, which stays with length 1.
func (b *Builder) AMax(x Value, axis int) Value { return b.one(opAmax, AxisAttr{axisOf(x, axis)}, x) }

// Mean is Sum divided by the length of axis.
func (b *Builder) Mean(x Value, axis int) Value {
	return b.Scale(b.Sum(x, axis), 1/float64(x.Dim(axis)))
}

// SumAll adds every element, giving shape [].
func (b *Builder) SumAll(x Value) Value {
	// Rows first: each partial sum is then independent work.
	for len(x.Shape()) > 1 {
		n := len(x.Shape())
		x = b.Reshape(b.Sum(x, n-1), x.Shape()[:n-1]...)
	}
	if len(x.Shape()) == 1 {
		x = b.Reshape(b.Sum(x, 0))
	}
	return x
}
