package graph

import (
	"slices"

	"github.com/ternlm/tern/framework/tensor"
)

// DimsAttr is a list of dimensions, or of axes for transpose.
type DimsAttr struct{ Dims []int }

// SliceAttr selects [Lo,Hi) of an axis.
type SliceAttr struct{ Axis, Lo, Hi int }

// PadAttr adds zeros before and after along an axis.
type PadAttr struct{ Axis, Before, After int }

// MatMulAttr says which operands are transposed in their last two axes.
type MatMulAttr struct{ TransX, TransY bool }

// CodeAttr is the code encoding and the code book: code i stands for Levels[i].
type CodeAttr struct {
	To     string `json:",omitempty"`
	Levels []int8
}

var (
	opReshape, opTranspose, opBroadcast, opSlice, opPad, opConcat *Op
	opGather, opScatterAdd, opUpdateAt, opMatMul                  *Op
	opEncode, opDecode                                            *Op
)

func init() {
	opReshape = Define(Op{Name: "reshape", Attr: DimsAttr{}, Arity: 1, View: true, Infer: inferReshape})
	opTranspose = Define(Op{Name: "transpose", Attr: DimsAttr{}, Arity: 1, Infer: inferTranspose})
	opBroadcast = Define(Op{Name: "broadcast", Attr: DimsAttr{}, Arity: 1, Infer: inferBroadcast})
	opSlice = Define(Op{Name: "slice", Attr: SliceAttr{}, Arity: 1, Infer: inferSlice})
	opPad = Define(Op{Name: "pad", Attr: PadAttr{}, Arity: 1, Infer: inferPad})
	opConcat = Define(Op{Name: "concat", Attr: AxisAttr{}, Arity: -1, Infer: inferConcat})
	opGather = Define(Op{Name: "gather", Arity: 2, Infer: inferGather})
	opScatterAdd = Define(Op{Name: "scatteradd", Attr: LenAttr{}, Arity: 2, Infer: inferScatterAdd})
	opUpdateAt = Define(Op{Name: "updateat", Attr: AxisAttr{}, Arity: 3, Alias: [][]int{{0}}, Infer: inferUpdateAt})
	opMatMul = Define(Op{Name: "matmul", Attr: MatMulAttr{}, Arity: 2, Infer: inferMatMul})
	opEncode = Define(Op{Name: "encode", Attr: CodeAttr{}, Arity: 1, Infer: inferEncode})
	opDecode = Define(Op{Name: "decode", Attr: CodeAttr{}, Arity: 1, Infer: inferDecode})
}

func inferReshape(n *Node) []tensor.Type {
	t, d := n.In[0].Type(), tensor.Shape(n.Attr.(DimsAttr).Dims)
	out := tensor.Type{DType: t.DType, Shape: d}
	if err := out.Check(); err != nil {
		failf("reshape: %v", err)
	}
	if d.Numel() != t.Shape.Numel() || t.DType.Block() > 1 {
		failf("reshape: %v to %v", t, d)
	}
	return types(out)
}

func inferTranspose(n *Node) []tensor.Type {
	t, perm := n.In[0].Type(), n.Attr.(DimsAttr).Dims
	sorted := slices.Sorted(slices.Values(perm))
	if len(perm) != len(t.Shape) || t.DType.Block() > 1 {
		failf("transpose: %v by %v", t, perm)
	}
	s := make(tensor.Shape, len(perm))
	for i, p := range perm {
		if sorted[i] != i {
			failf("transpose: %v is no permutation of the axes of %v", perm, t)
		}
		s[i] = t.Shape[p]
	}
	return types(tensor.Type{DType: t.DType, Shape: s})
}

func inferBroadcast(n *Node) []tensor.Type {
	t, d := n.In[0].Type(), n.Attr.(DimsAttr).Dims
	wantF32(n, 0)
	if len(d) != len(t.Shape) {
		failf("broadcast: %v to %v", t, d)
	}
	for i := range d {
		if t.Shape[i] != 1 && t.Shape[i] != d[i] {
			failf("broadcast: %v to %v", t, d)
		}
	}
	return types(tensor.Type{DType: t.DType, Shape: slices.Clone(d)})
}

func inferSlice(n *Node) []tensor.Type {
	a, t := n.Attr.(SliceAttr), n.In[0].Type()
	wantF32(n, 0)
	wantAxis(n, 0, a.Axis)
	if a.Lo < 0 || a.Hi > t.Shape[a.Axis] || a.Lo >= a.Hi {
		failf("slice [%d:%d) of axis %d of %v", a.Lo, a.Hi, a.Axis, t)
	}
	s := slices.Clone(t.Shape)
	s[a.Axis] = a.Hi - a.Lo
	return types(tensor.Type{DType: t.DType, Shape: s})
}

func inferPad(n *Node) []tensor.Type {
	a, t := n.Attr.(PadAttr), n.In[0].Type()
	wantF32(n, 0)
	wantAxis(n, 0, a.Axis)
	if a.Before < 0 || a.After < 0 || a.Before > tensor.MaxElements || a.After > tensor.MaxElements {
		failf("pad: %d before and %d after", a.Before, a.After)
	}
	s := slices.Clone(t.Shape)
	s[a.Axis] += a.Before + a.After
	return types(tensor.Type{DType: t.DType, Shape: s})
}

func inferConcat(n *Node) []tensor.Type {
	axis, t := n.Attr.(AxisAttr).Axis, n.In[0].Type()
	wantF32(n, 0)
	wantAxis(n, 0, axis)
	s := slices.Clone(t.Shape)
	for i, v := range n.In[1:] {
		wantF32(n, i+1)
		u := slices.Clone(v.Shape())
		if len(u) != len(s) {
			failf("concat: %v and %v", t, v.Type())
		}
		u[axis] = t.Shape[axis]
		if !u.Equal(t.Shape) {
			failf("concat on axis %d: %v and %v", axis, t, v.Type())
		}
		s[axis] += v.Shape()[axis]
	}
	return types(tensor.Type{DType: t.DType, Shape: s})
}

func inferGather(n *Node) []tensor.Type {
	t, ids := n.In[0].Type(), n.In[1].Type()
	if len(t.Shape) < 1 || ids.DType != tensor.I32 || (t.DType != tensor.F32 && t.DType != tensor.F16 && t.DType != tensor.BF16) {
		failf("gather of %v by %v, wants floats by i32", t, ids)
	}
	return types(tensor.Type{DType: tensor.F32, Shape: append(slices.Clone(ids.Shape), t.Shape[1:]...)})
}

func inferScatterAdd(n *Node) []tensor.Type {
	t, ids := n.In[0].Type(), n.In[1].Type()
	k := len(ids.Shape)
	if t.DType != tensor.F32 || ids.DType != tensor.I32 || len(t.Shape) < k || !t.Shape[:k].Equal(ids.Shape) {
		failf("scatteradd of %v by %v", t, ids)
	}
	return types(tensor.Type{DType: tensor.F32, Shape: append(tensor.Shape{n.Attr.(LenAttr).N}, t.Shape[k:]...)})
}

// inferUpdateAt: dst [B,...], src the same but for the axis, pos i32[B].
func inferUpdateAt(n *Node) []tensor.Type {
	axis, dst, src := n.Attr.(AxisAttr).Axis, n.In[0].Type(), n.In[1].Type()
	wantAxis(n, 0, axis)
	wantF32(n, 1)
	u := slices.Clone(src.Shape)
	if dst.DType != tensor.F32 && dst.DType != tensor.F16 || axis < 1 || len(u) != len(dst.Shape) || u[axis] > dst.Shape[axis] {
		failf("updateat on axis %d: %v with %v", axis, dst, src)
	}
	u[axis] = dst.Shape[axis]
	if !u.Equal(dst.Shape) {
		failf("updateat on axis %d: %v with %v", axis, dst, src)
	}
	wantShape(n, 2, tensor.I32, dst.Shape[0])
	return types(dst)
}

func inferMatMul(n *Node) []tensor.Type {
	a, x, y := n.Attr.(MatMulAttr), n.In[0].Type(), n.In[1].Type()
	r := len(x.Shape)
	wantF32(n, 0)
	if y.DType != tensor.F32 && y.DType != tensor.F16 {
		failf("matmul: operand 1 is %v, wants f32 or f16", y)
	}
	if len(y.Shape) != r || r < 2 {
		failf("matmul: %v by %v", x, y)
	}
	m, k := x.Shape[r-2], x.Shape[r-1]
	if a.TransX {
		m, k = k, m
	}
	k2, p := y.Shape[r-2], y.Shape[r-1]
	if a.TransY {
		k2, p = p, k2
	}
	if k != k2 || !x.Shape[:r-2].Equal(y.Shape[:r-2]) {
		failf("matmul: %v by %v (transposed: %v, %v)", x, y, a.TransX, a.TransY)
	}
	return types(tensor.Type{DType: tensor.F32, Shape: append(slices.Clone(x.Shape[:r-2]), m, p)})
}

// checkLevels fails unless the code book fits the code width. Codes of type i8
// have no book: they are the levels, -127 to 127.
func checkLevels(op string, d tensor.DType, levels []int8) {
	if d == tensor.I8 {
		if len(levels) > 0 {
			failf("%s: %d levels for i8 codes, which are their own", op, len(levels))
		}
		return
	}
	if !d.Codes() {
		failf("%s: %v is no code encoding, wants u1, u2 or u4", op, d)
	}
	bits := 8 / d.Block()
	if len(levels) == 0 || len(levels) > 1<<bits {
		failf("%s: %d levels in %d-bit codes", op, len(levels), bits)
	}
}

func inferEncode(n *Node) []tensor.Type {
	a := n.Attr.(CodeAttr)
	d, err := tensor.ParseDType(a.To)
	if err != nil {
		failf("encode: %v", err)
	}
	checkLevels("encode", d, a.Levels)
	wantF32(n, 0)
	return types(tensor.Type{DType: d, Shape: n.In[0].Shape()})
}

func inferDecode(n *Node) []tensor.Type {
	t := n.In[0].Type()
	checkLevels("decode", t.DType, n.Attr.(CodeAttr).Levels)
	return types(tensor.Type{DType: tensor.F32, Shape: t.Shape})
}

// Reshape gives x other dimensions over the same elements.
func (b *Builder) Reshape(x Value, dims ...int) Value {
	if x.Shape().Equal(dims) {
		return x
	}
	return b.one(opReshape, DimsAttr{slices.Clone(dims)}, x)
}

// Transpose permutes the axes: result axis i is axis perm[i] of x.
func (b *Builder) Transpose(x Value, perm ...int) Value {
	return b.one(opTranspose, DimsAttr{slices.Clone(perm)}, x)
}

// Broadcast repeats axes of length 1 to shape s.
func (b *Builder) Broadcast(x Value, s tensor.Shape) Value {
	if x.Shape().Equal(s) {
		return x
	}
	return b.one(opBroadcast, DimsAttr{slices.Clone(s)}, x)
}

// Slice takes elements [lo,hi) of axis.
func (b *Builder) Slice(x Value, axis, lo, hi int) Value {
	return b.one(opSlice, SliceAttr{axisOf(x, axis), lo, hi}, x)
}

// Pad adds zeros before and after along axis.
func (b *Builder) Pad(x Value, axis, before, after int) Value {
	return b.one(opPad, PadAttr{axisOf(x, axis), before, after}, x)
}

// Concat joins values along axis.
func (b *Builder) Concat(axis int, xs ...Value) Value {
	if len(xs) == 0 {
		failf("concat: no operands")
	}
	return b.one(opConcat, AxisAttr{axisOf(xs[0], axis)}, xs...)
}

// Gather selects rows of table [R,...] by ids i32 [I...], giving f32 [I...,...].
// An id outside [0,R) stops the run with an error.
func (b *Builder) Gather(table, ids Value) Value { return b.one(opGather, nil, table, ids) }

// ScatterAdd adds rows [I...,...] into a zero table of n rows at ids [I...].
func (b *Builder) ScatterAdd(rows, ids Value, n int) Value {
	return b.one(opScatterAdd, LenAttr{n}, rows, ids)
}

// UpdateAt returns dst [B,...] with src written at position pos[b] of axis,
// for each b. It has no gradient.
func (b *Builder) UpdateAt(dst, src, pos Value, axis int) Value {
	return b.one(opUpdateAt, AxisAttr{axis}, dst, src, pos)
}

// MatMul multiplies the last two axes, each operand transposed first if told.
func (b *Builder) MatMul(x, y Value, transX, transY bool) Value {
	return b.one(opMatMul, MatMulAttr{transX, transY}, x, y)
}

// Encode packs x, whose elements are levels, as codes of type d. An element
// that is no level takes the nearest one. Codes of type i8 have no levels: they
// are the integers from -127 to 127 themselves.
func (b *Builder) Encode(x Value, d tensor.DType, levels []int8) Value {
	return b.one(opEncode, CodeAttr{d.String(), levels}, x)
}

// Decode unpacks codes to their levels as f32.
func (b *Builder) Decode(x Value, levels []int8) Value {
	return b.one(opDecode, CodeAttr{Levels: levels}, x)
}
