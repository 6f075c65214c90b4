package graph

import "github.com/ternlm/tern/framework/tensor"

// Gradients returns the derivative of the scalar loss with respect to each of
// wrt, by reverse accumulation. A primitive contributes its VJP; a composite X
// contributes one X.vjp node, which expands, where a backend has no kernel for
// it, into the derivative of X's own expansion.
func (b *Builder) Gradients(loss Value, wrt []Value) []Value {
	if loss.Shape().Numel() != 1 || loss.Type().DType != tensor.F32 {
		failf("gradient of %v, wants one f32", loss.Type())
	}
	return b.Pullback([]Value{loss}, []Value{b.Const(1, loss.Type())}, wrt)
}

// Pullback returns the cotangents of wrt for the cotangents ct of outs.
func (b *Builder) Pullback(outs, ct, wrt []Value) []Value {
	last, first := 0, len(b.g.Nodes)
	for _, o := range outs {
		last = max(last, o.N.ID)
	}
	for _, w := range wrt {
		first = min(first, w.N.ID)
	}
	needed := b.dependents(wrt, first, last)
	s := cotangents{sum: map[Value]Value{}, twin: b.twins(first, last, wrt)}
	for i, o := range outs {
		b.accumulate(s, o, ct[i])
	}
	old := b.scope
	for id := last; id >= first; id-- {
		if n := b.g.Nodes[id]; needed[id] && len(n.In) > 0 {
			b.sweep(n, s, needed)
		}
	}
	b.scope = old
	grads := make([]Value, len(wrt))
	for i, w := range wrt {
		if grads[i] = s.sum[w]; !grads[i].Ok() {
			grads[i] = b.Full(w, 0)
		}
	}
	return grads
}

// cotangents are what a pullback has summed up so far. A value that stands in
// the graph more than once has its sum at the first of its nodes.
type cotangents struct {
	sum  map[Value]Value
	twin map[*Node]*Node
}

// sweep adds the cotangents that node n sends to its operands.
func (b *Builder) sweep(n *Node, s cotangents, needed []bool) {
	ct, found := make([]Value, len(n.Out)), false
	for i := range ct {
		ct[i] = s.sum[Value{n, i}]
		found = found || ct[i].Ok()
	}
	if !found {
		return
	}
	b.scope = join("d", n.Scope)
	for i, d := range b.vjp(n, ct) {
		v := n.In[i]
		if d.Ok() && v.N.ID < len(needed) && needed[v.N.ID] {
			b.accumulate(s, v, b.sumTo(d, v.Shape()))
		}
	}
}

// dependents marks the nodes in [first,last] that depend on any of wrt
// through values that carry gradients.
func (b *Builder) dependents(wrt []Value, first, last int) []bool {
	mark := make([]bool, last+1)
	for _, w := range wrt {
		if w.N.ID <= last {
			mark[w.N.ID] = true
		}
	}
	for id := first; id <= last; id++ {
		n := b.g.Nodes[id]
		for i, v := range n.In {
			if mark[v.N.ID] && (n.Op != opThrough || i == 1) && v.Type().DType.Float() {
				mark[id] = true
			}
		}
	}
	return mark
}

func (b *Builder) accumulate(s cotangents, v, d Value) {
	if first := s.twin[v.N]; first != nil {
		v.N = first
	}
	if old := s.sum[v]; old.Ok() {
		d = b.Add(old, d)
	}
	s.sum[v] = d
}

// vjp returns one cotangent per operand of n.
func (b *Builder) vjp(n *Node, ct []Value) []Value {
	for i := range ct {
		if !ct[i].Ok() && (len(ct) > 1 || n.Op.Composite()) {
			ct[i] = b.Const(0, tensor.Type{DType: tensor.F32, Shape: n.Out[i].Shape})
		}
	}
	if !n.Op.Composite() {
		if n.Op.VJP == nil {
			failf("%s has no gradient", n.Op.Name)
		}
		return n.Op.VJP(b, n, ct)
	}
	if n.Op.pullback == nil {
		failf("%s has no gradient", n.Op.Name)
	}
	in := append(append(make([]Value, 0, len(n.In)+len(ct)), n.In...), ct...)
	results := b.Apply(n.Op.pullback, n.Attr, in...)
	out := make([]Value, len(n.In))
	for i, v := range n.In {
		if v.Type().DType == tensor.F32 {
			out[i], results = results[0], results[1:]
		}
	}
	return out
}

// definePullback registers op.vjp, whose expansion is the derivative of op's.
func definePullback(op *Op) *Op {
	arity := op.Arity
	if arity >= 0 {
		arity += op.Results
	}
	return Define(Op{
		Name: op.Name + ".vjp", Attr: op.Attr, Arity: arity, Alias: op.AliasVJP, NoGrad: true, primal: op,
		Results: -1,
		Infer: func(n *Node) []tensor.Type {
			primal, ct := split(op, n.In)
			inner := &Node{Op: op, In: primal, Attr: n.Attr}
			op.check(inner)
			for i, t := range op.Infer(inner) {
				wantShape(n, len(primal)+i, ct[i].Type().DType, t.Shape...)
			}
			var out []tensor.Type
			for _, v := range primal {
				if v.Type().DType == tensor.F32 {
					out = append(out, v.Type())
				}
			}
			return out
		},
		Expand: func(b *Builder, attr any, in []Value) []Value {
			primal, ct := split(op, in)
			// Fresh leaves stop the pullback at this op's boundary.
			cut := make([]Value, len(primal))
			var wrt []Value
			for i, v := range primal {
				cut[i] = b.one(opCut, nil, v)
				if v.Type().DType == tensor.F32 {
					wrt = append(wrt, cut[i])
				}
			}
			return b.Pullback(op.Expand(b, attr, cut), ct, wrt)
		},
	})
}

// defineJoint registers op.joint, which is op and op.vjp.
func defineJoint(op *Op) *Op {
	return Define(Op{
		Name: op.Name + ".joint", Attr: op.Attr, Arity: op.pullback.Arity, NoGrad: true, primal: op, Results: -1,
		Infer: func(n *Node) []tensor.Type {
			primal, _ := split(op, n.In)
			inner := &Node{Op: op, In: primal, Attr: n.Attr}
			op.check(inner)
			return append(op.Infer(inner), op.pullback.Infer(n)...)
		},
		Expand: func(b *Builder, attr any, in []Value) []Value {
			primal, _ := split(op, in)
			return append(b.Apply(op, attr, primal...), b.Apply(op.pullback, attr, in...)...)
		},
	})
}

// split separates a pullback's operands into the primal ones and the cotangents.
func split(op *Op, in []Value) (primal, ct []Value) {
	k := len(in) - op.Results
	if k < 1 {
		failf("%s.vjp: %d operands", op.Name, len(in))
	}
	return in[:k:k], in[k:]
}
