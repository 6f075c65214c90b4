package graph

import (
	"slices"

	"github.com/ternlm/tern/framework/tensor"
)

// The vector-Jacobian product of every primitive: operands x and y, result z,
// cotangent g of the result. Broadcasting is undone by the sweep, not here.
func init() {
	leafs := []*Op{opInput, opParam, opBuffer, opConst, opIota}
	for _, op := range leafs {
		op.VJP = none
	}
	for _, op := range []*Op{opLess, opEqual, opRound, opEncode, opDecode, opUpdateAt} {
		op.VJP = none
	}
	unary := func(op *Op, f func(b *Builder, x, z, g Value) Value) {
		op.VJP = func(b *Builder, n *Node, ct []Value) []Value {
			return []Value{f(b, n.In[0], Value{n, 0}, ct[0])}
		}
	}
	binary := func(op *Op, f func(b *Builder, x, y, z, g Value) (dx, dy Value)) {
		op.VJP = func(b *Builder, n *Node, ct []Value) []Value {
			dx, dy := f(b, n.In[0], n.In[1], Value{n, 0}, ct[0])
			return []Value{dx, dy}
		}
	}

	unary(opNeg, func(b *Builder, x, z, g Value) Value { return b.Neg(g) })
	unary(opExp, func(b *Builder, x, z, g Value) Value { return b.Mul(g, z) })
	unary(opLog, func(b *Builder, x, z, g Value) Value { return b.Div(g, x) })
	unary(opSqrt, func(b *Builder, x, z, g Value) Value { return b.Div(g, b.Scale(z, 2)) })
	unary(opRsqrt, func(b *Builder, x, z, g Value) Value { return b.Mul(g, b.Scale(b.Mul(z, b.Mul(z, z)), -0.5)) })
	unary(opSin, func(b *Builder, x, z, g Value) Value { return b.Mul(g, b.Cos(x)) })
	unary(opCos, func(b *Builder, x, z, g Value) Value { return b.Neg(b.Mul(g, b.Sin(x))) })
	unary(opAbs, func(b *Builder, x, z, g Value) Value { return b.Where(b.Less(x, b.Like(x, 0)), b.Neg(g), g) })
	unary(opSigmoid, func(b *Builder, x, z, g Value) Value { return b.Mul(g, b.Mul(z, b.Sub(b.Like(z, 1), z))) })
	unary(opCut, func(b *Builder, x, z, g Value) Value { return g })

	binary(opAdd, func(b *Builder, x, y, z, g Value) (Value, Value) { return g, g })
	binary(opSub, func(b *Builder, x, y, z, g Value) (Value, Value) { return g, b.Neg(g) })
	binary(opMul, func(b *Builder, x, y, z, g Value) (Value, Value) { return b.Mul(g, y), b.Mul(g, x) })
	binary(opDiv, func(b *Builder, x, y, z, g Value) (Value, Value) {
		return b.Div(g, y), b.Neg(b.Div(b.Mul(g, z), y))
	})
	binary(opMax, func(b *Builder, x, y, z, g Value) (Value, Value) { return winner(b, b.Less(x, y), g) })
	binary(opMin, func(b *Builder, x, y, z, g Value) (Value, Value) { return winner(b, b.Less(y, x), g) })
	binary(opThrough, func(b *Builder, y, x, z, g Value) (Value, Value) { return Value{}, g })

	opScale.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		return []Value{b.Scale(ct[0], n.Attr.(ConstAttr).Value)}
	}
	opCast.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		// The cotangent of an f16 value is f32, as all cotangents are.
		return []Value{ct[0]}
	}
	opWhere.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		zero := b.Like(ct[0], 0)
		return []Value{{}, b.Where(n.In[0], ct[0], zero), b.Where(n.In[0], zero, ct[0])}
	}
	opSum.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		return []Value{b.Broadcast(ct[0], n.In[0].Shape())}
	}
	opAmax.VJP = vjpAmax
	shapeVJPs()
}

func none(_ *Builder, n *Node, _ []Value) []Value { return make([]Value, len(n.In)) }

// winner sends g to y where lost holds (x lost) and to x elsewhere.
func winner(b *Builder, lost, g Value) (dx, dy Value) {
	zero := b.Like(g, 0)
	return b.Where(lost, zero, g), b.Where(lost, g, zero)
}

// vjpAmax splits the cotangent equally over the maxima.
func vjpAmax(b *Builder, n *Node, ct []Value) []Value {
	x := n.In[0]
	hit := b.Equal(x, Value{n, 0})
	one := b.Where(hit, b.Like(x, 1), b.Like(x, 0))
	return []Value{b.Mul(one, b.Div(ct[0], b.Sum(one, n.Attr.(AxisAttr).Axis)))}
}

func shapeVJPs() {
	opReshape.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		return []Value{b.Reshape(ct[0], n.In[0].Shape()...)}
	}
	opTranspose.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		perm := n.Attr.(DimsAttr).Dims
		inverse := make([]int, len(perm))
		for i, p := range perm {
			inverse[p] = i
		}
		return []Value{b.Transpose(ct[0], inverse...)}
	}
	opBroadcast.VJP = func(b *Builder, n *Node, ct []Value) []Value { return []Value{ct[0]} }
	opSlice.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		a := n.Attr.(SliceAttr)
		return []Value{b.Pad(ct[0], a.Axis, a.Lo, n.In[0].Dim(a.Axis)-a.Hi)}
	}
	opPad.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		a := n.Attr.(PadAttr)
		return []Value{b.Slice(ct[0], a.Axis, a.Before, a.Before+n.In[0].Dim(a.Axis))}
	}
	opConcat.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		axis, lo := n.Attr.(AxisAttr).Axis, 0
		out := make([]Value, len(n.In))
		for i, v := range n.In {
			out[i] = b.Slice(ct[0], axis, lo, lo+v.Dim(axis))
			lo += v.Dim(axis)
		}
		return out
	}
	opGather.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		return []Value{b.ScatterAdd(ct[0], n.In[1], n.In[0].Dim(0)), {}}
	}
	opScatterAdd.VJP = func(b *Builder, n *Node, ct []Value) []Value {
		return []Value{b.Gather(ct[0], n.In[1]), {}}
	}
	opMatMul.VJP = vjpMatMul
}

// vjpMatMul: with op(x) op(y) = z, d op(x) = g op(y)^T and d op(y) = op(x)^T g.
func vjpMatMul(b *Builder, n *Node, ct []Value) []Value {
	a, x, y, g := n.Attr.(MatMulAttr), n.In[0], n.In[1], ct[0]
	out := make([]Value, 2)
	if a.TransX {
		y := b.Cast(y, tensor.F32)
		out[0] = b.MatMul(y, g, a.TransY, true)
	} else {
		out[0] = b.MatMul(g, y, false, !a.TransY)
	}
	if y.Type().DType != tensor.F32 {
		return out
	}
	if a.TransY {
		out[1] = b.MatMul(g, x, true, a.TransX)
	} else {
		out[1] = b.MatMul(x, g, !a.TransX, false)
	}
	return out
}

// sumTo undoes broadcasting: it adds d down to shape s.
func (b *Builder) sumTo(d Value, s tensor.Shape) Value {
	if d.Shape().Equal(s) {
		return d
	}
	for i := range s {
		if s[i] == 1 && d.Dim(i) != 1 {
			d = b.Sum(d, i)
		}
	}
	if !slices.Equal(d.Shape(), s) {
		failf("cotangent %v does not fit %v", d.Type(), s)
	}
	return d
}
