package simd

import (
	"fmt"
	"math"
)

// Attention is the plan of causal attention with grouped heads. q and out are [B,T,H,D], k and v [B,S,KV,D], pos [B]:
// row t of batch b sees columns 0..pos[b]+t of the S, head h those of key head h/(H/KV), scores are scaled by 1/sqrt(D).
//
// The bits of a query row depend on its own q and on the keys and values that it sees, not on T, S, the tile it falls
// into or what lies in later columns: a score is one chain of fused multiply-adds over ascending d, the sum of a row has
// lanes given by the column, an output is one chain over ascending columns, divided by the sum at the end.
type Attention struct {
	B, T, S, H, KV, D int
	Half              bool // k and v are f16
	Workers           int  // how many goroutines may run a phase at once; 0 counts as 1
	ISA               ISA
}

const (
	attnRows = 96  // query rows of a tile, at most, counting the heads of a group
	attnKeys = 256 // columns of one pass of a tile's rows over the values
)

func (a *Attention) workers() int { return min(max(a.Workers, 1), maxSlots) }
func (a *Attention) group() int   { return a.H / a.KV }
func (a *Attention) padD() int    { return roundUp(a.D, panelCols) }

// ld is the length of a row of scores: room for a tile's columns and zeros after them, and odd in cache lines, so that
// a column of a tile is spread over the cache's sets.
func (a *Attention) ld() int { return ((roundUp(a.S, panelCols)/panelCols + 1) | 1) * panelCols }

// queries is the number of positions of a query tile; a tile has group times as many rows.
func (a *Attention) queries() int {
	tile := a.ISA.tileRows()
	rows := min(max((1<<19)/max(a.S, 1), 2*tile), attnRows)
	most := max(1, rows/a.group())
	if most >= a.T {
		return max(a.T, 1)
	}
	even := ceilDiv(a.T, ceilDiv(a.T, most))
	return min(roundUp(even, min(tile, most)), most)
}

func (a *Attention) rows() int { return a.queries() * a.group() }

// layout is the scratch memory of one running item; wide holds f16 rows as f32.
type attnLayout struct{ q, keys, scores, values, out, inv, wide, end int }

func (a *Attention) layout() (l attnLayout) {
	rows := roundUp(a.rows(), panelCols)
	l.keys = l.q + rows*a.D
	l.scores = l.keys + 4*panelCols*a.D
	l.values = l.scores + rows*a.ld()
	l.out = l.values + min(attnKeys, roundUp(a.S, panelCols))*a.padD()
	l.inv = l.out + rows*a.padD()
	l.wide = roundUp(l.inv+rows, panelCols)
	l.end = l.wide
	if a.Half {
		l.end += roundUp(max(attnKeys, panelCols)*a.D, panelCols)
	}
	return l
}

// ScratchBytes is the size of the scratch memory that Phases needs.
func (a *Attention) ScratchBytes() int { return 4 * a.slotLen() * a.workers() }

// slotLen is the number of floats that one running item of Phases needs.
func (a *Attention) slotLen() int {
	if a.few() {
		return a.fewSlot()
	}
	return a.layout().end
}

func (a *Attention) check(q []float32, k, v Rows, pos []int32, out []float32) {
	if a.KV < 1 || a.H%a.KV != 0 {
		panic(fmt.Sprintf("simd: attention: %d heads over %d key heads", a.H, a.KV))
	}
	nq, nk := a.B*a.T*a.H*a.D, a.B*a.S*a.KV*a.D
	if len(q) < nq || len(out) < nq || k.Len() < nk || v.Len() < nk || len(pos) < a.B {
		panic(fmt.Sprintf("simd: attention %+v: operand too short: q %d, k %d, v %d, pos %d, out %d",
			*a, len(q), k.Len(), v.Len(), len(pos), len(out)))
	}
}

// Phases binds the forward pass to its operands and to scratch of at least ScratchBytes, aligned to 4 bytes; pos is read
// at run time. Nothing is allocated after this call. It panics if an operand is too short.
func (a *Attention) Phases(q []float32, k, v Rows, pos []int32, out []float32, scratch []byte) []Phase {
	a.check(q, k, v, pos, out)
	if len(scratch) < a.ScratchBytes() {
		panic(fmt.Sprintf("simd: attention: %d bytes of scratch, need %d", len(scratch), a.ScratchBytes()))
	}
	r := newAttnRun(a, q, k, v, pos)
	r.out, r.l = out, a.layout()
	r.slots.init(a.workers(), a.slotLen(), floats(scratch))
	if a.few() {
		return []Phase{{Items: a.B * a.KV, Grain: a.fewHeads(), Do: r.forwardFew}}
	}
	return []Phase{{Items: a.B * a.KV * ceilDiv(a.T, r.queries), Grain: 1, Do: r.forward}}
}

// attnRun is a plan bound to its operands.
type attnRun struct {
	a                        Attention
	q, out                   []float32
	k, v                     Rows
	pos                      []int32
	l                        attnLayout
	group, queries, padD, ld int
	tile, panels             int // of the micro-kernel
	scale                    float32
	slots                    slots
	gl                       gradLayout
	dout, dq, dk, dv         []float32
}

func newAttnRun(a *Attention, q []float32, k, v Rows, pos []int32) *attnRun {
	return &attnRun{
		a: *a, q: q, k: k, v: v, pos: pos,
		group: a.group(), queries: a.queries(), padD: a.padD(), ld: a.ld(), tile: a.ISA.tileRows(), panels: a.ISA.tilePanels(),
		scale: float32(1 / math.Sqrt(float64(a.D))),
	}
}

// tile is a query tile: rows = queries*group, row r is position t0 + r/group of head kv*group + r%group.
type attnTile struct{ b, kv, t0, queries, rows int }

// start is pos[b], or the nearest position that makes no more difference.
func (r *attnRun) start(b int) int { return min(max(int(r.pos[b]), -r.a.T), r.a.S) }

// seen is the number of columns that position t of batch b sees.
func (r *attnRun) seen(b, t int) int { return min(max(r.start(b)+t+1, 0), r.a.S) }

// firstSeeing is the first row of the tile that sees column j.
func (r *attnRun) firstSeeing(t attnTile, j int) int {
	return min(max(0, j-r.start(t.b)-t.t0)*r.group, t.rows)
}

// at is the offset of row row of the tile in q and out.
func (r *attnRun) at(t attnTile, row int) int {
	pos, head := t.t0+row/r.group, t.kv*r.group+row%r.group
	return ((t.b*r.a.T+pos)*r.a.H + head) * r.a.D
}

// key is the offset of column j in k and v.
func (r *attnRun) key(b, kv, j int) int { return ((b*r.a.S+j)*r.a.KV + kv) * r.a.D }

func (r *attnRun) forward(lo, hi int) {
	slot, area := r.slots.take()
	defer r.slots.give(slot)
	tiles := ceilDiv(r.a.T, r.queries)
	for item := lo; item < hi; item++ {
		t := attnTile{b: item / tiles / r.a.KV, kv: item / tiles % r.a.KV, t0: item % tiles * r.queries}
		t.queries = min(r.queries, r.a.T-t.t0)
		t.rows = t.queries * r.group
		r.forwardTile(t, area)
	}
}

func (r *attnRun) forwardTile(t attnTile, area []float32) {
	q, keys, scores := area[r.l.q:r.l.keys], area[r.l.keys:r.l.scores], area[r.l.scores:r.l.values]
	values, out, inv := area[r.l.values:r.l.out], area[r.l.out:r.l.inv], area[r.l.inv:r.l.wide]
	wide := area[r.l.wide:r.l.end]
	r.gather(q, r.q, t)
	columns := r.seen(t.b, t.t0+t.queries-1)
	panels := r.panels
	if t.rows < r.tile {
		panels = 4
	}
	for j := 0; j < columns; j += panels * panelCols {
		n := min(panels, ceilDiv(columns-j, panelCols))
		for p := range n {
			c := j + p*panelCols
			count := min(panelCols, columns-c)
			rows, ld := r.k.widen(wide, r.key(t.b, t.kv, c), r.a.KV*r.a.D, count, r.a.D)
			packRows(keys[p*panelCols*r.a.D:], rows, ld, r.a.D, count)
		}
		r.scoreTile(scores, q, keys, t, j, n)
	}
	for row := range t.rows {
		inv[row] = r.softmax(scores[row*r.ld:], t, row)
	}
	r.weigh(out, scores, values, wide, t, columns)
	for row := range t.rows {
		attnScale(r.out[r.at(t, row):], out[row*r.padD:], r.a.D, inv[row])
	}
}

// gather copies the tile's rows of src, laid out as q is, to [rows,D]. The heads of a group lie together.
func (r *attnRun) gather(dst, src []float32, t attnTile) {
	position := r.group * r.a.D
	packRowsA(dst, position, src[r.at(t, 0):], r.a.H*r.a.D, position, t.queries)
}

// scoreTile multiplies the rows that see column j by packed panels of keys (or, going back, of values).
func (r *attnRun) scoreTile(scores, q, keys []float32, t attnTile, j, panels int) {
	first := r.firstSeeing(t, j) / r.tile * r.tile
	s := strip{
		isa: r.a.ISA, rows: t.rows - first, cols: panels * panelCols, k: r.a.D, ldc: r.ld,
		rs: r.a.D, cs: 1, tile: r.tile * r.a.D, ldp: panelCols * r.a.D, first: true,
	}
	s.run(scores[first*r.ld+j:], q[first*r.a.D:], keys)
}

// tileColumns is the number of columns that some row of row's tile of the micro-kernel sees.
func (r *attnRun) tileColumns(t attnTile, row int) int {
	last := min(row/r.tile*r.tile+r.tile, t.rows) - 1
	return r.seen(t.b, t.t0+last/r.group)
}

// softmax turns a row of scores into exponentials, zero in the columns that only its neighbors see, and returns one
// over their sum.
func (r *attnRun) softmax(x []float32, t attnTile, row int) float32 {
	n := r.seen(t.b, t.t0+row/r.group)
	width := roundUp(r.tileColumns(t, row)+r.tile, 8)
	sum := r.exp(x, n, width)
	if n == 0 {
		return 0
	}
	return 1 / sum
}

// exp turns n scores into exponentials and the rest of width into zeros, and returns the sum.
func (r *attnRun) exp(x []float32, n, width int) float32 {
	top := attnMax(x, n)
	if r.a.ISA == AVX512 {
		return attnExp512(x, n, width, r.scale, top)
	}
	return attnExp(x, n, width, r.scale, top)
}

// weigh adds up the values, a run of columns at a time: out [rows, padD].
func (r *attnRun) weigh(out, p, values, wide []float32, t attnTile, columns int) {
	if columns == 0 {
		clear(out[:t.rows*r.padD])
	}
	for j := 0; j < columns; j += attnKeys {
		n := min(attnKeys, columns-j)
		rows, ld := r.v.widen(wide, r.key(t.b, t.kv, j), r.a.KV*r.a.D, n, r.a.D)
		packWide(values, rows, ld, n, r.a.D)
		r.weighRun(out, p, values, t, j, n, n*panelCols)
	}
}

// weighRun adds n columns from j: out += p[:, j:j+n] values, values in panels ldp apart.
func (r *attnRun) weighRun(out, p, values []float32, t attnTile, j, n, ldp int) {
	step := r.panels * panelCols
	if t.rows < r.tile {
		step = r.padD
	}
	for d := 0; d < r.padD; d += step {
		for row := 0; row < t.rows; row += r.tile {
			k := min(r.tileColumns(t, row)-j, n)
			if k <= 0 && j > 0 {
				continue
			}
			s := strip{
				isa: r.a.ISA, rows: min(r.tile, t.rows-row), cols: min(step, r.padD-d), k: max(k, 0), ldc: r.padD,
				rs: r.ld, cs: 1, ldp: ldp, first: j == 0,
			}
			s.run(out[row*r.padD+d:], p[row*r.ld+j:], values[d/panelCols*ldp:])
		}
	}
}

// packWide packs k rows of cols columns, ld apart, as panels of 16 columns, the last one padded with zeros.
func packWide(dst, src []float32, ld, k, cols int) {
	full := cols / panelCols
	if full > 0 {
		packCopy16(dst, k*panelCols, src, ld, k, full)
	}
	if tail := cols % panelCols; tail > 0 {
		packCols(dst[full*k*panelCols:], src[full*panelCols:], ld, k, tail)
	}
}
