package fuse

import (
	"math"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// compute emits n where it is wanted.
func (l *lowering) compute(n *graph.Node, w at) int {
	lev := l.level(n)
	if w.loop != none && w.loop < lev {
		refuse("a value before its reduction")
	}
	if o, ok := operations[n.Op.Name]; ok {
		in := instr{op: o.code, b: none, c: none, a: l.operand(n, 0, w)}
		if len(n.In) == 2 {
			in.b = l.operand(n, 1, w)
		}
		return l.op(w, lev, in)
	}
	switch a := n.Attr.(type) {
	case graph.CastAttr:
		return l.cast(n, w)
	case graph.SliceAttr:
		return l.value(n.In[0], l.move(w, lev, partMap(n.Out[0].Shape, n.In[0].Shape(), a.Axis, a.Lo)))
	case graph.PadAttr:
		return l.pad(n, a, w)
	case graph.LenAttr: // iota
		return l.op(w, lev, instr{op: opIota, a: w.x, b: none, c: none})
	}
	switch n.Op.Name {
	case "const":
		return l.constant(n, w)
	case "scale":
		x := l.value(n.In[0], w)
		by := l.bits(w, lev, math.Float32bits(float32(n.Attr.(graph.ConstAttr).Value)))
		return l.op(w, lev, instr{op: opMul, a: x, b: by, c: none})
	case "where":
		c, x, y := l.operand(n, 0, w), l.operand(n, 1, w), l.operand(n, 2, w)
		return l.op(w, lev, instr{op: opWhere, a: c, b: x, c: y})
	case "broadcast":
		return l.operand(n, 0, w)
	case "transpose":
		return l.value(n.In[0], l.move(w, lev, transposeMap(n.In[0].Shape(), n.Attr.(graph.DimsAttr).Dims)))
	case "concat":
		return l.concat(n, w)
	}
	return l.reduce(n, w)
}

// operand is operand i of n, which is broadcast to n's shape.
func (l *lowering) operand(n *graph.Node, i int, w at) int {
	return l.value(n.In[i], l.move(w, l.level(n), broadcastMap(n.Out[0].Shape, n.In[i].Shape())))
}

// move is the place of the element that m gives.
func (l *lowering) move(w at, level int, m indexMap) at {
	if m.identity() {
		return w
	}
	if w.x == elementIndex && m.equal(l.toRow) {
		return at{rowIndex, none, none}
	}
	key := place{kind: opIndex, a: w.x, m: mapText(m), loop: w.loop}
	x, ok := l.seen[key]
	if !ok {
		x = l.p.indices
		l.p.indices++
		// An index of a row needs no reduction: it goes before all else.
		l.emit(w.loop, 0, instr{op: opIndex, dst: x, a: w.x, b: none, c: none, m: m})
		l.seen[key] = x
	}
	return at{x, w.cond, w.loop}
}

func mapText(m indexMap) string {
	b := []byte{}
	put := func(v int) {
		for s := 0; s < 64; s += 8 {
			b = append(b, byte(v>>s))
		}
	}
	put(m.off)
	for _, t := range m.terms {
		put(t.div)
		put(t.mod)
		put(t.mul)
	}
	return string(b)
}

// within is the condition that the coordinate along axis of the element w.x of a
// tensor of shape s is in [lo,hi), and that w's holds.
func (l *lowering) within(w at, s tensor.Shape, axis, lo, hi int) int {
	_, n, inner := split(s, axis)
	in := bounds{inner, n, lo, hi}
	if axis == 0 || s[:axis].Numel() == 1 {
		in.mod = 0
	}
	key := place{kind: opInside, a: w.x, b: w.cond, m: mapText(indexMap{terms: []term{{in.div, in.mod, in.lo}}, off: in.hi}), loop: w.loop}
	if reg, ok := l.seen[key]; ok {
		return reg
	}
	reg := l.op(w, 0, instr{op: opInside, a: w.x, b: none, c: none, in: in})
	if w.cond != none {
		reg = l.op(w, 0, instr{op: opAnd, a: w.cond, b: reg, c: none})
	}
	l.seen[key] = reg
	return reg
}

func (l *lowering) pad(n *graph.Node, a graph.PadAttr, w at) int {
	lev, x := l.level(n), n.In[0].Shape()
	inside := l.within(w, n.Out[0].Shape, a.Axis, a.Before, a.Before+x[a.Axis])
	from := l.move(w, lev, partMap(n.Out[0].Shape, x, a.Axis, -a.Before))
	if from.loop == w.loop {
		from.cond = inside
	}
	v := l.value(n.In[0], from)
	return l.op(w, lev, instr{op: opWhere, a: inside, b: v, c: l.bits(w, lev, 0)})
}

// concat picks among its parts, each of which is computed where it is not wanted
// too, but not read from memory there.
func (l *lowering) concat(n *graph.Node, w at) int {
	axis, s, lev := n.Attr.(graph.AxisAttr).Axis, n.Out[0].Shape, l.level(n)
	reg, lo := none, 0
	for _, v := range n.In {
		x := v.Shape()
		if len(n.In) == 1 {
			return l.value(v, w)
		}
		inside := l.within(w, s, axis, lo, lo+x[axis])
		from := l.move(w, lev, partMap(s, x, axis, -lo))
		if from.loop == w.loop {
			from.cond = inside
		}
		part := l.value(v, from)
		if reg == none {
			reg = part
		} else {
			reg = l.op(w, lev, instr{op: opWhere, a: inside, b: part, c: reg})
		}
		lo += x[axis]
	}
	return reg
}

func (l *lowering) cast(n *graph.Node, w at) int {
	x := l.value(n.In[0], w)
	code := opcode(0)
	switch {
	case n.Out[0].DType == tensor.F16:
		code = opF16
	case n.Out[0].DType == tensor.BF16:
		code = opBF16
	case n.In[0].Type().DType == tensor.I32:
		code = opFromInt
	case n.In[0].Type().DType == tensor.Bool:
		code = opFromBool
	default: // a register holds halves as f32
		return x
	}
	return l.op(w, l.level(n), instr{op: code, a: x, b: none, c: none})
}

// constant is one value, or an element of a table.
func (l *lowering) constant(n *graph.Node, w at) int {
	a := n.Attr.(graph.ConstAttr)
	bits := func(v float64) uint32 {
		if n.Out[0].DType == tensor.I32 {
			return uint32(int32(v))
		}
		return math.Float32bits(float32(v))
	}
	if len(a.Values) == 0 {
		return l.bits(w, 0, bits(a.Value))
	}
	k, ok := l.tables[n]
	if !ok {
		k = len(l.p.tables)
		l.tables[n] = k
		t := make([]uint32, len(a.Values))
		for i, v := range a.Values {
			t[i] = bits(v)
		}
		l.p.tables = append(l.p.tables, t)
	}
	return l.op(w, 0, instr{op: opLoad, a: w.x, b: w.cond, c: none, arg: -1 - k})
}

// bits is a register with a number in it.
func (l *lowering) bits(w at, level int, bits uint32) int {
	key := place{kind: opConst, a: int(bits), b: level, loop: w.loop}
	if reg, ok := l.seen[key]; ok {
		return reg
	}
	reg := l.op(w, level, instr{op: opConst, a: none, b: none, c: none, arg: int(bits)})
	l.seen[key] = reg
	return reg
}

// reduce is a reduction of the row that is worked on.
func (l *lowering) reduce(n *graph.Node, w at) int {
	if w.x != rowIndex {
		refuse("a reduction of another row")
	}
	p, lev := l.p, l.level(n)
	k, ok := l.reduced[n]
	if !ok {
		x := l.value(n.In[0], at{elementIndex, none, lev - 1})
		k = len(p.reductions)
		p.reductions = append(p.reductions, reduction{max: n.Op.Name == "amax", loop: lev - 1, dst: l.newValue()})
		l.reduced[n] = k
		l.emit(lev-1, lev-1, instr{op: opReduce, dst: none, a: x, b: none, c: none, arg: k})
	}
	return p.reductions[k].dst
}
