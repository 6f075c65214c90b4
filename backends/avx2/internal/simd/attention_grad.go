package simd

import "fmt"

// gradLayout is the scratch memory of one running item of the backward pass.
type gradLayout struct {
	keysT, valuesT, keys, dk, dv        int // of the whole (b, kv)
	q, do, qp, dop, scores, ds, dq, end int // of a query tile
}

func (a *Attention) gradLayout() (l gradLayout) {
	rows, s := roundUp(a.rows(), panelCols), roundUp(a.S, panelCols)
	l.valuesT = l.keysT + s*a.D
	l.keys = l.valuesT + s*a.D
	l.dk = l.keys + s*a.padD()
	l.dv = l.dk + s*a.padD()
	l.q = l.dv + s*a.padD()
	l.do = l.q + rows*a.D
	l.qp = l.do + rows*a.D
	l.dop = l.qp + rows*a.padD()
	l.scores = l.dop + rows*a.padD()
	l.ds = l.scores + rows*a.ld()
	l.dq = l.ds + rows*a.ld()
	l.end = roundUp(l.dq+rows*a.padD(), panelCols)
	return l
}

// GradScratchBytes is the size of the scratch memory that GradPhases needs.
func (a *Attention) GradScratchBytes() int { return 4 * a.gradLayout().end * a.workers() }

// GradPhases binds the backward pass: from dout, the gradient of out, it makes dq, dk and dv, of the shapes of q, k and v,
// and makes the probabilities again from q and k. An item is one key head of one batch: its query heads and tiles are
// gone through in order, so a gradient's bits do not depend on the split. dk and dv are 0 in columns that nobody sees.
func (a *Attention) GradPhases(q, k, v []float32, pos []int32, dout, dq, dk, dv []float32, scratch []byte) []Phase {
	a.check(q, Rows{F32: k}, Rows{F32: v}, pos, dout)
	a.check(dq, Rows{F32: dk}, Rows{F32: dv}, pos, dout)
	if len(scratch) < a.GradScratchBytes() {
		panic(fmt.Sprintf("simd: attention: %d bytes of scratch, need %d", len(scratch), a.GradScratchBytes()))
	}
	r := newAttnRun(a, q, Rows{F32: k}, Rows{F32: v}, pos)
	r.dout, r.dq, r.dk, r.dv, r.gl = dout, dq, dk, dv, a.gradLayout()
	r.slots.init(a.workers(), r.gl.end, floats(scratch))
	return []Phase{{Items: a.B * a.KV, Grain: 1, Do: r.backward}}
}

func (r *attnRun) backward(lo, hi int) {
	slot, area := r.slots.take()
	defer r.slots.give(slot)
	for item := lo; item < hi; item++ {
		r.backwardHead(item/r.a.KV, item%r.a.KV, area)
	}
}

// backwardHead does one key head: packs its keys and values, goes through the query tiles, writes dk and dv.
func (r *attnRun) backwardHead(b, kv int, area []float32) {
	columns := 0
	if r.a.T > 0 {
		columns = r.seen(b, r.a.T-1)
	}
	g, d, ld := r.gl, r.a.D, r.a.KV*r.a.D
	dk, dv := area[g.dk:g.dv], area[g.dv:g.q]
	clear(dk)
	clear(dv)
	if columns > 0 {
		packWide(area[g.keys:], r.k.F32[r.key(b, kv, 0):], ld, columns, d)
	}
	for j := 0; j < columns; j += panelCols {
		n := min(panelCols, columns-j)
		packRows(area[g.keysT+j*d:], r.k.F32[r.key(b, kv, j):], ld, d, n)
		packRows(area[g.valuesT+j*d:], r.v.F32[r.key(b, kv, j):], ld, d, n)
	}
	for t0 := 0; t0 < r.a.T; t0 += r.queries {
		t := attnTile{b: b, kv: kv, t0: t0, queries: min(r.queries, r.a.T-t0)}
		t.rows = t.queries * r.group
		r.backwardTile(t, area, columns)
	}
	at := r.key(b, kv, 0)
	packRowsA(r.dk[at:], ld, dk, r.padD, d, r.a.S)
	packRowsA(r.dv[at:], ld, dv, r.padD, d, r.a.S)
}

// backwardTile does one query tile; columns is the number of columns that were packed.
func (r *attnRun) backwardTile(t attnTile, area []float32, columns int) {
	g, d := r.gl, r.a.D
	q, do, qp, dop := area[g.q:g.do], area[g.do:g.qp], area[g.qp:g.dop], area[g.dop:g.scores]
	p, ds, dq := area[g.scores:g.ds], area[g.ds:g.dq], area[g.dq:g.end]
	r.gather(q, r.q, t)
	r.gather(do, r.dout, t)
	packWide(qp, q, d, t.rows, d)
	packWide(dop, do, d, t.rows, d)
	seen := r.seen(t.b, t.t0+t.queries-1)
	for j := 0; j < seen; j += r.panels * panelCols {
		n := min(r.panels, ceilDiv(seen-j, panelCols))
		r.scoreTile(p, q, area[g.keysT+j*d:], t, j, n)
		r.scoreTile(ds, do, area[g.valuesT+j*d:], t, j, n)
	}
	for row := range t.rows {
		inv := r.softmax(p[row*r.ld:], t, row)
		n := r.seen(t.b, t.t0+row/r.group)
		width := roundUp(r.tileColumns(t, row)+r.tile, 8)
		attnGrad(p[row*r.ld:], ds[row*r.ld:], n, width, inv, r.scale)
	}
	if seen == 0 {
		clear(dq)
	}
	for j := 0; j < seen; j += attnKeys {
		r.weighRun(dq, ds, area[g.keys+j*panelCols:], t, j, min(attnKeys, seen-j), columns*panelCols)
	}
	for row := range t.rows {
		copy(r.dq[r.at(t, row):][:d], dq[row*r.padD:])
	}
	r.addColumns(area[g.dv:], p, dop, t, seen)
	r.addColumns(area[g.dk:], ds, qp, t, seen)
}

// addColumns adds the transpose of p [rows, ld] times x, packed [rows, D], to sum [columns, padD]: as many columns of
// p at a time as a tile has rows, from the first row that sees one of them.
func (r *attnRun) addColumns(sum, p, x []float32, t attnTile, seen int) {
	ldp := t.rows * panelCols
	for d := 0; d < r.padD; d += r.panels * panelCols {
		for j := 0; j < seen; j += r.tile {
			row := r.firstSeeing(t, j)
			s := strip{
				isa: r.a.ISA, rows: min(r.tile, seen-j), cols: min(r.panels*panelCols, r.padD-d), k: t.rows - row, ldc: r.padD,
				rs: 1, cs: r.ld, ldp: ldp,
			}
			s.run(sum[j*r.padD+d:], p[row*r.ld+j:], x[d/panelCols*ldp+row*panelCols:])
		}
	}
}
