package fuse

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
)

// source follows views to the value whose elements v has, in the same order.
func source(v graph.Value) graph.Value {
	for views[v.N.Op.Name] {
		v = v.N.In[0]
	}
	return v
}

// free reports whether n is computed wherever it is read, since that reads no
// more memory than its result has.
func free(n *graph.Node) bool {
	switch n.Op.Name {
	case "iota", "broadcast":
		return true
	case "const":
		return len(n.Attr.(graph.ConstAttr).Values) <= maxFreeTable
	}
	return false
}

// isReduction reports whether n reduces an axis.
func isReduction(n *graph.Node) bool { return n.Op.Name == "sum" || n.Op.Name == "amax" }

// maxFreeTable is the length up to which a table of constants is part of each
// chain that reads it.
const maxFreeTable = 256

// lowering makes the program of a chain.
type lowering struct {
	p        *program
	inside   map[*graph.Node]bool
	operands []graph.Value
	slots    map[graph.Value]int
	tables   map[*graph.Node]int
	limit    int // of instructions
	reduces  bool
	levels   map[*graph.Node]int // reductions that lie behind a member
	byRow    map[*graph.Node]bool
	toRow    indexMap
	seen     map[place]int
	reduced  map[*graph.Node]int // reduction by node
	apart    map[int]bool        // operands that are read otherwise than element by element
}

// place is a value where it is computed: at an index, in a loop or in the code of
// rows (none), where a condition holds.
type place struct {
	v    graph.Value
	kind opcode // of what is not a value: an index (opIndex) or a condition
	a, b int
	m    string
	loop int
}

// at is where a value is wanted.
type at struct {
	x    int // index
	cond int // that holds there, or none
	loop int
}

// errRefused is the error of nodes that are no chain.
var errRefused = errors.New("not a chain")

// refused is a panic on the way to lower: why nodes are no chain.
type refused struct{ why string }

func refuse(why string) { panic(refused{why}) }

// lower makes the program that computes results by members, which are in order.
// It fails where that is no single program, or one of more than limit instructions.
func lower(members []*graph.Node, results []graph.Value, limit int) (p *program, operands []graph.Value, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case refused:
			err = errors.Wrap(errRefused, r.why)
		default:
			panic(r)
		}
	}()
	l := &lowering{
		p: &program{indices: 2}, limit: limit, inside: map[*graph.Node]bool{}, slots: map[graph.Value]int{}, tables: map[*graph.Node]int{},
		levels: map[*graph.Node]int{}, byRow: map[*graph.Node]bool{}, seen: map[place]int{}, reduced: map[*graph.Node]int{}, apart: map[int]bool{},
	}
	for _, n := range members {
		l.inside[n] = true
	}
	l.shape(members, results)
	for _, n := range members {
		l.classify(n)
	}
	l.store(results)
	if len(l.p.loops) > 1 && l.p.geometry().parts > 1 {
		refuse("two loops over rows that are cut")
	}
	return l.p, l.operands, nil
}

// shape finds the rows of the chain: those of its reductions, or its elements.
func (l *lowering) shape(members []*graph.Node, results []graph.Value) {
	p := l.p
	p.outer, p.n, p.inner = results[0].Shape().Numel(), 1, 1
	for _, n := range members {
		if !isReduction(n) {
			continue
		}
		outer, m, inner := split(n.In[0].Shape(), n.Attr.(graph.AxisAttr).Axis)
		if l.reduces && (outer != p.outer || m != p.n || inner != p.inner) {
			refuse("reductions of two shapes")
		}
		p.outer, p.n, p.inner, l.reduces = outer, m, inner, true
	}
	l.toRow = rowMap(p.outer, p.n, p.inner)
	for _, n := range members {
		for _, t := range n.Out {
			p.wide = p.wide || t.Shape.Numel() >= 1<<31
		}
		for _, v := range n.In {
			p.wide = p.wide || v.Shape().Numel() >= 1<<31
		}
	}
}

// classify finds a member's level, and whether it has an element for each row.
func (l *lowering) classify(n *graph.Node) {
	for _, v := range n.In {
		m := source(v).N
		l.levels[n] = max(l.levels[n], l.level(m))
		l.byRow[n] = l.byRow[n] || l.byRow[m] && n.Out[0].Shape.Numel() == l.p.count()
	}
	if isReduction(n) {
		l.levels[n]++
		l.byRow[n] = true
	}
}

// level is that of a member, or of a node that is computed where it is read.
func (l *lowering) level(n *graph.Node) int {
	if !l.inside[n] && n.Op.Name == "broadcast" {
		return l.level(source(n.In[0]).N)
	}
	return l.levels[n]
}

// write is a result on its way to memory.
type write struct {
	at    at
	level int
	instr
}

// store appends the results behind what computes them. All that a loop or the
// code of rows reads is read before it writes: a result may lie over an operand.
func (l *lowering) store(results []graph.Value) {
	byElement := make([]bool, len(results))
	order := make([]int, len(results))
	for i, v := range results {
		byElement[i], order[i] = l.isByElement(v), i
	}
	// Results behind reductions first: what they compute of others in the last loop
	// is stored from there, where it may be written over operands.
	slices.SortStableFunc(order, func(a, b int) int { return l.level(results[b].N) - l.level(results[a].N) })
	var writes []write
	for _, i := range order {
		v := results[i]
		w := at{rowIndex, none, none}
		if byElement[i] {
			w = at{elementIndex, none, l.level(v.N)}
			last := len(l.p.loops) - 1
			if _, ok := l.seen[place{v: v, a: elementIndex, b: none, loop: last}]; ok {
				w.loop = last
			}
		}
		reg := l.value(v, w)
		writes = append(writes, write{w, l.level(v.N), instr{op: opStore, a: w.x, b: reg, c: none, dst: none, arg: i}})
	}
	p := l.p
	p.alias = make([][]int, len(results))
	for _, w := range writes {
		l.emit(w.at.loop, w.level, w.instr)
	}
	l.even()
	for _, w := range writes {
		p.alias[w.arg] = l.aliases(results[w.arg], w.at.loop)
	}
}

// isByElement reports whether a result has the elements of rows that are reduced,
// rather than one for each row.
func (l *lowering) isByElement(v graph.Value) bool {
	p, numel := l.p, v.Shape().Numel()
	if l.reduces && numel == p.outer*p.n*p.inner && (p.n > 1 || !l.byRow[v.N]) {
		return true
	}
	if numel != p.count() {
		refuse("results of two shapes")
	}
	return false
}

// aliases lists the operands whose memory a result that is written in a loop may
// take: each element of them is read by the thread that writes there, and by no
// later loop. The rows of a reduction are read by all threads that work on them.
func (l *lowering) aliases(v graph.Value, loop int) (all []int) {
	if loop != len(l.p.loops)-1 {
		return nil
	}
	for k, o := range l.operands {
		if !l.apart[k] && o.Type().DType == v.Type().DType && o.Shape().Numel() == v.Shape().Numel() {
			all = append(all, k)
		}
	}
	return all
}

// even gives every loop the code of rows before and behind it.
func (l *lowering) even() {
	p := l.p
	k := max(len(p.rows)-1, len(p.loops))
	p.rows = append(p.rows, make([][]instr, k+1-len(p.rows))...)
	p.loops = append(p.loops, make([][]instr, k-len(p.loops))...)
}

// emit appends an instruction to a loop, or to the code of rows of a level.
func (l *lowering) emit(loop, level int, in instr) {
	if l.limit--; l.limit < 0 {
		refuse("too long")
	}
	code, k := &l.p.rows, level
	if loop != none {
		code, k = &l.p.loops, loop
	}
	for len(*code) <= k {
		*code = append(*code, nil)
	}
	(*code)[k] = append((*code)[k], in)
}

func (l *lowering) newValue() int {
	l.p.values++
	return l.p.values - 1
}

// value returns the register of v at a place.
func (l *lowering) value(v graph.Value, w at) int {
	v = source(v)
	// A value that is the same all along a row is one of the row.
	if w.x == elementIndex && l.toRow.identity() && l.byRow[v.N] && l.reduces {
		w.x, w.loop = rowIndex, none
	}
	key := place{v: v, a: w.x, b: w.cond, loop: w.loop}
	if reg, ok := l.seen[key]; ok {
		return reg
	}
	var reg int
	if n := v.N; l.inside[n] || free(n) {
		reg = l.compute(n, w)
	} else {
		reg = l.load(v, w)
	}
	l.seen[key] = reg
	return reg
}

// op emits an instruction that gives a value.
func (l *lowering) op(w at, level int, in instr) int {
	in.dst = l.newValue()
	l.emit(w.loop, level, in)
	return in.dst
}

func (l *lowering) load(v graph.Value, w at) int {
	if _, ok := storage[v.Type().DType]; !ok {
		refuse("an operand of another encoding")
	}
	k, ok := l.slots[v]
	if !ok {
		k = len(l.operands)
		l.slots[v] = k
		l.operands = append(l.operands, v)
	}
	elementwise := w.x == elementIndex || w.x == rowIndex && !l.reduces
	if !elementwise || w.cond != none {
		l.apart[k] = true
	}
	return l.op(w, 0, instr{op: opLoad, a: w.x, b: w.cond, c: none, arg: k})
}
