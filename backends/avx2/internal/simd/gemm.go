package simd

//go:generate go run -C ../../_gen ./gemm -out ../internal/simd/gemm_amd64.s -stubs ../internal/simd/gemm_amd64.go -pkg simd
//go:generate go run -C ../../_gen ./attention -out ../internal/simd/attention_amd64.s -stubs ../internal/simd/attention_amd64.go -pkg simd

import (
	"fmt"
	"unsafe"
)

const (
	tileRows  = 6   // rows of the largest micro-kernel
	panelCols = 16  // columns of a packed panel
	blockRows = 192 // rows of a work item: with blockK columns they stay in the second-level cache
	blockK    = 384 // longest run of k in one pass: a panel of it stays in the first-level cache
)

// Phase is one loop over independent items of a kernel: Do(lo, hi) does items lo..hi-1, Grain is how many of them are
// worth handing to another thread at once. Phases of a kernel run in order; within one, the split does not change bits.
type Phase struct {
	Items, Grain int
	Do           func(lo, hi int)
}

// PanelSource writes steps k0 to k0+k-1 of panels lo to hi-1 of op(B) to dst: one panel after another, each [k][16], the
// columns beyond N zero. It is called by several goroutines at once.
type PanelSource func(dst []float32, lo, hi, k0, k int)

// Gemm is the plan of a row-major product C[M,N] = op(A) op(B), where op transposes if TransA or TransB says so: A is
// [M,K] or [K,M], B is [K,N] or [N,K].
//
// Element C[i,j] is one chain of fused multiply-adds over ascending k from zero (or, see Accumulate, from what it holds).
// Its bits depend on row i of op(A) and column j of op(B) only: not on M, N, the tile it falls into, nor on how the work
// is split.
type Gemm struct {
	M, N, K        int
	TransA, TransB bool
	Packed         bool // b was packed by PackB; TransB is then of no importance
	Workers        int  // how many goroutines may run a phase at once; 0 counts as 1
	ISA            ISA
	// Symmetric says that C is symmetric: M = N, and op(B) is op(A) transposed, bit for bit. Only what lies on and under the
	// diagonal is then computed; the rest is copied, which gives the same bits.
	Symmetric bool
	// Source, if set, makes the panels of op(B) as they are needed, block by block: b is then nil. So a weight that is
	// stored as codes never stands in memory as floats.
	Source PanelSource
	// Accumulate continues the chains that C holds: products over successive runs of k, the first of which does not
	// accumulate, give the bits of one product over all of k.
	Accumulate bool
}

// ScratchBytes is the size of the scratch memory that Phases needs.
func (g *Gemm) ScratchBytes() int {
	return 4 * (g.packLen() + g.slotLen()*g.workers())
}

// packLen is the number of floats of the packed copy of b, if one is made.
func (g *Gemm) packLen() int {
	if g.Packed || g.Source != nil {
		return 0
	}
	return PackedBLen(g.N, g.K)
}

func (g *Gemm) workers() int { return min(max(g.Workers, 1), maxSlots) }

// copiesA says that an item copies its part of A before use: transposed, because a tile would touch a line for every
// step of k; otherwise for the sake of the cache and the translation buffer, if there is enough to reuse.
func (g *Gemm) copiesA() bool { return g.TransA || g.M >= tileRows && g.N >= 4*panelCols }

// strideA is the distance of A's copied rows: odd in cache lines, so that a tile's rows fall into different sets.
func (g *Gemm) strideA() int { return (roundUp(g.kc(), panelCols)/panelCols | 1) * panelCols }

// slotLen is the number of floats one running item needs, for its copy of A and for the panels that it makes.
func (g *Gemm) slotLen() int {
	rows, panels := g.blocks()
	n := 0
	if g.copiesA() {
		n = roundUp(rows, tileRows) * g.strideA()
	}
	if g.Source != nil {
		n += panels * panelCols * g.kc()
	}
	return n
}

// kc is the length of a pass over k. A few rows take all of k at once: their panels are streamed, not reused.
func (g *Gemm) kc() int {
	if g.M < tileRows && g.Source == nil {
		return g.K
	}
	passes := max(1, ceilDiv(g.K, blockK))
	return min(g.K, roundUp(ceilDiv(g.K, passes), 8))
}

// blocks is the size of a work item: rows (a multiple of a tile, or all) and panels.
func (g *Gemm) blocks() (rows, panels int) {
	rows = max(g.M, 1)
	if g.M > blockRows {
		rows = roundUp(ceilDiv(g.M, ceilDiv(g.M, blockRows)), tileRows)
	}
	const work = 1 << 22 // multiply-adds of an item: about 0.1 ms
	all, k, least := ceilDiv(g.N, panelCols), max(g.K, 1), 4
	if rows > 4*tileRows {
		least = 16 // so often is a copied element of A used
	}
	panels = min(max(work/(rows*k*panelCols), least), 32)
	panels = max(4, roundUp(ceilDiv(all, max(1, ceilDiv(all, panels))), 4))
	// A large product copies A less often: while every worker has enough items left.
	for g.Source == nil && rows > 4*tileRows && panels < 64 && ceilDiv(g.M, rows)*ceilDiv(all, 2*panels) >= 4*g.workers() {
		panels *= 2
	}
	for rows > 8*tileRows && rows*panels*panelCols*k > work/4 &&
		ceilDiv(g.M, rows)*ceilDiv(all, panels) < 2*g.workers() {
		rows = roundUp(ceilDiv(rows, 2), tileRows)
	}
	return rows, panels
}

// rowBlocks is the number of row blocks of an item: one, but where the item makes its panels it makes them for as many
// rows as leave every worker something to do.
func (g *Gemm) rowBlocks(rows, panels int) int {
	if g.Source == nil {
		return 1
	}
	all, cols := ceilDiv(g.M, rows), ceilDiv(ceilDiv(g.N, panelCols), panels)
	parts := min(all, ceilDiv(2*g.workers(), max(1, cols)))
	return ceilDiv(max(all, 1), max(parts, 1))
}

// Phases binds the plan to its operands. a, b (packed or not) and c must have at least the lengths that the plan
// implies, scratch at least ScratchBytes, aligned to 4 bytes. Nothing is allocated after this call. It panics if an
// operand is too short, which is a mistake of the caller.
func (g *Gemm) Phases(a, b, c []float32, scratch []byte) []Phase {
	bLen := g.K * g.N
	switch {
	case g.Source != nil:
		bLen = 0
	case g.Packed:
		bLen = PackedBLen(g.N, g.K)
	}
	if len(a) < g.M*g.K || len(b) < bLen || len(c) < g.M*g.N || len(scratch) < g.ScratchBytes() {
		panic(fmt.Sprintf("simd: gemm %dx%dx%d: operand too short: a %d, b %d, c %d, scratch %d bytes",
			g.M, g.N, g.K, len(a), len(b), len(c), len(scratch)))
	}
	r := &gemmRun{plan: *g, a: a, b: b, c: c, kc: g.kc(), strideA: g.strideA()}
	r.rows, r.panels = g.blocks()
	r.rowBlocks = g.rowBlocks(r.rows, r.panels)
	r.colBlocks = ceilDiv(g.N, r.panels*panelCols)
	rest := floats(scratch)
	var phases []Phase
	if n := g.packLen(); !g.Packed && g.Source == nil {
		r.b, rest = rest[:n], rest[n:]
		phases = append(phases, Phase{
			Items: ceilDiv(g.N, panelCols),
			Grain: max(1, (1<<16)/max(1, g.K*panelCols)),
			Do:    func(lo, hi int) { PackB(r.b, b, g.N, g.K, g.TransB, lo, hi) },
		})
	}
	r.slots.init(g.workers(), g.slotLen(), rest)
	if g.M > 0 && g.N > 0 {
		phases = append(phases, Phase{Items: ceilDiv(ceilDiv(g.M, r.rows), r.rowBlocks) * r.colBlocks, Grain: 1, Do: r.do})
	}
	if g.Symmetric {
		phases = append(phases, Phase{Items: ceilDiv(g.N, mirrorRows), Grain: 1, Do: r.mirror})
	}
	return phases
}

// gemmRun is a plan bound to its operands; b is packed.
type gemmRun struct {
	plan                        Gemm
	a, b, c                     []float32
	rows, panels, kc, colBlocks int
	rowBlocks                   int // of an item
	strideA                     int
	slots                       slots
}

func (r *gemmRun) do(lo, hi int) {
	slot, area := r.slots.take()
	defer r.slots.give(slot)
	for item := lo; item < hi; item++ {
		r.item(item/r.colBlocks, item%r.colBlocks, area)
	}
}

// item computes one block of C: row blocks row*r.rowBlocks.., panels col*r.panels...
func (r *gemmRun) item(row, col int, area []float32) {
	g := &r.plan
	first, p := row*r.rowBlocks*r.rows, col*r.panels
	last, cols := min(first+r.rowBlocks*r.rows, g.M), min(r.panels*panelCols, g.N-p*panelCols)
	if g.Symmetric { // as far as the diagonal
		cols = min(cols, roundUp(max(last-p*panelCols, 0), panelCols))
	}
	if cols == 0 {
		return
	}
	panels, area := r.cutArea(area)
	for k0 := 0; k0 == 0 || k0 < g.K; k0 += max(r.kc, 1) { // K 0 is one empty pass
		k := min(r.kc, g.K-k0)
		ldp, b := g.K*panelCols, panels
		if g.Source != nil {
			ldp = k * panelCols
			g.Source(panels, p, p+ceilDiv(cols, panelCols), k0, k)
		} else {
			b = r.b[p*panelCols*g.K+k0*panelCols:]
		}
		for i := first; i < last; i += r.rows {
			s := strip{rows: min(r.rows, last-i), cols: cols, k: k, ldc: g.N, ldp: ldp, first: k0 == 0 && !g.Accumulate}
			s.run(r.c[i*g.N+p*panelCols:], r.takeA(&s, area, i, k0), b)
		}
	}
}

// cutArea cuts an item's area into the place for its panels and that for its copy of A.
func (r *gemmRun) cutArea(area []float32) (panels, a []float32) {
	if r.plan.Source == nil {
		return nil, area
	}
	n := r.panels * panelCols * r.kc
	return area[:n], area[n:]
}

// takeA sets the strides of the strip's rows, which start at row i0 and step k0 of op(A), and returns them, copied into
// the area if that pays.
func (r *gemmRun) takeA(s *strip, area []float32, i0, k0 int) []float32 {
	g := &r.plan
	switch {
	case g.TransA:
		s.rs, s.cs, s.tile = 1, tileRows, tileRows*s.k
		packA(area, r.a[k0*g.M+i0:], g.M, s.k, s.rows)
		return area
	case len(area) > 0:
		s.rs, s.cs, s.tile = r.strideA, 1, tileRows*r.strideA
		packRowsA(area, r.strideA, r.a[i0*g.K+k0:], g.K, s.k, s.rows)
		return area
	default:
		s.rs, s.cs, s.tile = g.K, 1, tileRows*g.K
		return r.a[i0*g.K+k0:]
	}
}

// floats views scratch bytes as float32.
func floats(b []byte) []float32 {
	if len(b) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
func roundUp(a, b int) int { return ceilDiv(a, b) * b }

// mirrorRows is the side of the squares in which a symmetric product is copied.
const mirrorRows = 32

// mirror sets what lies above the diagonal in squares lo to hi-1 of each row of squares.
func (r *gemmRun) mirror(lo, hi int) {
	n, c := r.plan.N, r.c
	for i0 := lo * mirrorRows; i0 < min(hi*mirrorRows, n); i0 += mirrorRows {
		for j0 := i0; j0 < n; j0 += mirrorRows {
			for i := i0; i < min(i0+mirrorRows, n); i++ {
				for j := max(j0, i+1); j < min(j0+mirrorRows, n); j++ {
					c[i*n+j] = c[j*n+i]
				}
			}
		}
	}
}
