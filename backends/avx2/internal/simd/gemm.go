package simd

//go:generate go run -C ../../_gen ./gemm -out ../internal/simd/gemm_amd64.s -stubs ../internal/simd/gemm_amd64.go -pkg simd
//go:generate go run -C ../../_gen ./gemm512 -out ../internal/simd/gemm512_amd64.s -stubs ../internal/simd/gemm512_stub_amd64.go -pkg simd
//go:generate go run -C ../../_gen ./attention512 -out ../internal/simd/attention512_amd64.s -stubs ../internal/simd/attention512_stub_amd64.go -pkg simd
//go:generate go run -C ../../_gen ./attention -out ../internal/simd/attention_amd64.s -stubs ../internal/simd/attention_amd64.go -pkg simd

import (
	"fmt"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

const (
	panelCols = 16 // columns of a packed panel
	fewRows   = 24 // rows up to which a panel that an item makes, or its copy of A, is used too little to widen the item
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
	if g.Packed || g.itemPanels() {
		return 0
	}
	return PackedBLen(g.N, g.K)
}

func (g *Gemm) workers() int { return min(max(g.Workers, 1), maxSlots) }

// copiesA says that an item copies its part of A before use: transposed, because a tile would touch a line for every
// step of k; otherwise for the sake of the cache and the translation buffer, if there is enough to reuse.
//
// AVX-512 has tiles twice as high, which read a row half as often: the copy pays only where the rows of a tile would all
// fall into one set of the first-level cache, which has fewer ways than they are.
func (g *Gemm) copiesA() bool {
	if g.TransA || g.M < g.ISA.tileRows() || g.N < 4*panelCols {
		return g.TransA
	}
	return g.ISA == AVX2 || g.K%1024 == 0 && tileRows512 > l1Ways
}

// l1Ways is how many lines of a set the first-level cache holds: its sets are told apart by the bits of an address within
// a page of 4 KB, so that a page fills one way.
var l1Ways = cpuid.CPU.Cache.L1D >> 12

// itemPanels says that items make their panels: there is a source, or AVX-512 has so many rows to multiply by a panel in
// one item that it can be made where it is used, in the second-level cache, rather than beforehand.
func (g *Gemm) itemPanels() bool {
	if g.Source != nil || g.Packed || g.ISA == AVX2 {
		return g.Source != nil
	}
	rows, panels := g.blocks()
	return g.rowBlocks(rows, panels)*rows >= min(g.M, 512)
}

// source makes the panels of items.
func (g *Gemm) source(b []float32) PanelSource {
	switch {
	case g.Source != nil || !g.itemPanels():
		return g.Source
	case g.TransB:
		return columnPanels(b, g.N, g.K)
	default:
		return RowPanels(b, g.N)
	}
}

// strideA is the distance of A's copied rows: odd in cache lines, so that a tile's rows fall into different sets.
func (g *Gemm) strideA() int { return (roundUp(g.kc(), panelCols)/panelCols | 1) * panelCols }

// slotLen is the number of floats one running item needs, for its copy of A and for the panels that it makes.
func (g *Gemm) slotLen() int {
	rows, panels := g.blocks()
	n := 0
	if g.copiesA() {
		n = roundUp(rows, g.ISA.tileRows()) * g.strideA()
	}
	if g.itemPanels() {
		n += panels * panelCols * g.kc()
	}
	return n
}

// blockSizes are those of AVX2 where A is copied: an item is wide then, and its panels are to stay in the second-level cache.
func (g *Gemm) blockSizes() blockSizes {
	if g.copiesA() {
		return gemmSizes[AVX2].blocks
	}
	return gemmSizes[g.ISA].blocks
}

// kc is the length of a pass over k. A few rows take all of k at once: their panels are streamed, not reused.
func (g *Gemm) kc() int {
	if g.M < g.ISA.tileRows() && !g.itemPanels() {
		return g.K
	}
	passes := max(1, ceilDiv(g.K, g.blockSizes().k))
	return min(g.K, roundUp(ceilDiv(g.K, passes), 8))
}

// blocks is the size of a work item: rows (a multiple of a tile, or all) and panels.
func (g *Gemm) blocks() (rows, panels int) {
	tile, most := g.ISA.tileRows(), g.blockSizes().rows
	rows = max(g.M, 1)
	if g.M > most {
		rows = roundUp(ceilDiv(g.M, ceilDiv(g.M, most)), tile)
	}
	const work = 1 << 22 // multiply-adds of an item: about 0.1 ms of AVX2
	all, k, least := ceilDiv(g.N, panelCols), max(g.K, 1), 4
	if rows > fewRows {
		least = 16 // so often is a copied element of A used
	}
	panels = min(max(work/(rows*k*panelCols), least), 32)
	panels = max(4, roundUp(ceilDiv(all, max(1, ceilDiv(all, panels))), 4))
	// A large product copies A less often: while every worker has enough items left.
	for g.Source == nil && g.copiesA() && rows > fewRows && panels < 64 && ceilDiv(g.M, rows)*ceilDiv(all, 2*panels) >= 4*g.workers() {
		panels *= 2
	}
	for rows > 2*fewRows && rows*panels*panelCols*k > work/4 &&
		ceilDiv(g.M, rows)*ceilDiv(all, panels) < 2*g.workers() {
		rows = roundUp(ceilDiv(rows, 2), tile)
	}
	return rows, panels
}

// rowBlocks is the number of row blocks of an item: one, but where the item makes its panels it makes them for as many
// rows as leave every worker something to do. AVX-512 always takes as many, so that a panel comes from memory once.
func (g *Gemm) rowBlocks(rows, panels int) int {
	if g.Source == nil && g.ISA == AVX2 {
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
	r.source = g.source(b)
	r.colBlocks = ceilDiv(g.N, r.panels*panelCols)
	rest := floats(scratch)
	var phases []Phase
	if n := g.packLen(); n > 0 {
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
	rowBlocks                   int         // of an item
	source                      PanelSource // makes the panels of an item; nil if b has all
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
	if cols = r.upTo(last, p, cols); cols == 0 {
		return
	}
	panels, area := r.cutArea(area)
	for k0 := 0; k0 == 0 || k0 < g.K; k0 += max(r.kc, 1) { // K 0 is one empty pass
		k := min(r.kc, g.K-k0)
		ldp, b := g.K*panelCols, panels
		if r.source != nil {
			ldp = k * panelCols
			r.source(panels, p, p+ceilDiv(cols, panelCols), k0, k)
		} else {
			b = r.b[p*panelCols*g.K+k0*panelCols:]
		}
		for i := first; i < last; i += r.rows {
			rows := min(r.rows, last-i)
			s := strip{isa: g.ISA, rows: rows, cols: r.upTo(i+rows, p, cols), k: k, ldc: g.N, ldp: ldp, first: k0 == 0 && !g.Accumulate}
			s.run(r.c[i*g.N+p*panelCols:], r.takeA(&s, area, i, k0), b)
		}
	}
}

// upTo is how many of the columns from panel p on rows before last need: of a symmetric product those up to the diagonal.
func (r *gemmRun) upTo(last, p, cols int) int {
	if r.plan.Symmetric {
		cols = min(cols, roundUp(max(last-p*panelCols, 0), panelCols))
	}
	return cols
}

// cutArea cuts an item's area into the place for its panels and that for its copy of A.
func (r *gemmRun) cutArea(area []float32) (panels, a []float32) {
	if r.source == nil {
		return nil, area
	}
	n := r.panels * panelCols * r.kc
	return area[:n], area[n:]
}

// takeA sets the strides of the strip's rows, which start at row i0 and step k0 of op(A), and returns them, copied into
// the area if that pays.
func (r *gemmRun) takeA(s *strip, area []float32, i0, k0 int) []float32 {
	g, tile := &r.plan, r.plan.ISA.tileRows()
	switch {
	case g.TransA:
		s.rs, s.cs, s.tile = 1, tile, tile*s.k
		packA(area, r.a[k0*g.M+i0:], g.M, s.k, s.rows, tile)
		return area
	case len(area) > 0:
		s.rs, s.cs, s.tile = r.strideA, 1, tile*r.strideA
		packRowsA(area, r.strideA, r.a[i0*g.K+k0:], g.K, s.k, s.rows)
		return area
	default:
		s.rs, s.cs, s.tile = g.K, 1, tile*g.K
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
