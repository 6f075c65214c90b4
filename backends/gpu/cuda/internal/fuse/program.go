package fuse

// instr is an instruction. Registers are of two kinds: values v and indices x.
// Each is written once.
type instr struct {
	op      opcode
	dst     int // value or index, by op
	a, b, c int // operands; -1 for none
	arg     int // operand, result, reduction or bits, by op
	m       indexMap
	in      bounds
}

// bounds says whether lo <= (i/div) % mod < hi; a mod of 0 leaves the quotient.
type bounds struct{ div, mod, lo, hi int }

// Registers that every program has: the index of the row that is worked on, and
// in loops that of the element.
const (
	rowIndex     = 0
	elementIndex = 1
	none         = -1
)

// reduction is a sum or a maximum along the axis.
type reduction struct {
	max  bool
	loop int // in which it takes its elements
	dst  int // the value, known after that loop
}

// program computes a chain. Its rows are (outer, inner), each of n elements that
// lie inner apart; a chain without reductions has elements alone, which are then
// its rows. For each row:
//
//	rows[0], for its elements loops[0], rows[1], for its elements loops[1], ...
//
// A loop reads its operands again: a row is short enough to be in a cache. Values
// of rows hold for the loops behind.
type program struct {
	outer, n, inner int
	rows, loops     [][]instr
	reductions      []reduction
	tables          [][]uint32 // constants that are read as operands behind the others
	values, indices int        // registers
	valueHomes      []int      // of each, its number in the interpreter
	indexHomes      []int
	wide            bool    // indices need 64 bits
	alias           [][]int // of each result: operands that each element reads only where the result has it
}

// count is the number of rows.
func (p *program) count() int { return p.outer * p.inner }

// each calls fn with every instruction in order, and the loop that it is in, or -1.
func (p *program) each(fn func(loop int, in *instr)) {
	for k := range p.rows {
		for i := range p.rows[k] {
			fn(none, &p.rows[k][i])
		}
		if k < len(p.loops) {
			for i := range p.loops[k] {
				fn(k, &p.loops[k][i])
			}
		}
	}
}

// Numbers that shape how a program runs.
const (
	quad       = 4       // neighboring elements, or rows, that a thread works on
	blockSize  = 256     // threads
	warpSize   = 32      //
	tinyRow    = 8       // elements: up to here a thread reduces a row alone
	shortRow   = 256     // up to here a warp does
	longRow    = 2048    // up to here a warp does where there are manyRows
	manyRows   = 1 << 10 //
	fewThreads = 1 << 17 // below, rows are cut
	cutRow     = 128     // elements that each thread would have at least
	leastPart  = 16      // and those that each has then
	maxParts   = 1024
)

// geometry is how a program is spread over threads. It follows from the program's
// shape alone, and with it the order in which sums are added up.
//
// With a group of 0 a thread works on four neighboring rows, whose elements lie
// beside each other: a chain without reductions, or reductions along another axis
// than the last. Otherwise so many threads work on one row, four elements each at
// a time, and add up what they have in the order of a tree.
//
// Where that makes too few threads the rows are cut into parts of span elements,
// whose sums a second kernel adds up, a warp for each row. What needs a second loop
// over such rows is no chain.
type geometry struct {
	group int
	parts int
	span  int
}

func (p *program) geometry() geometry {
	g := geometry{parts: 1, span: p.n}
	if len(p.loops) == 0 {
		return g
	}
	threads := (p.count() + quad - 1) / quad
	if p.inner == 1 {
		g.group = p.group()
		threads = p.count() * g.group
	}
	each := max(1, g.group)
	if threads >= fewThreads || p.n < cutRow*each {
		return g
	}
	g.parts = min(p.n/(leastPart*each), maxParts, fewThreads/threads)
	if g.parts > 1 {
		step := quad * each
		g.span = (p.n/g.parts + step) / step * step
		g.parts = (p.n + g.span - 1) / g.span
	}
	return g
}

// group is the number of threads that work on a row whose elements lie beside
// each other.
func (p *program) group() int {
	switch {
	case p.n <= tinyRow:
		return 1
	case p.n <= shortRow, p.n <= longRow && p.count() >= manyRows:
		return warpSize
	}
	return blockSize
}

// threads is how many work at a time.
func (p *program) threads() int {
	g := p.geometry()
	if g.group == 0 {
		return (p.count() + quad - 1) / quad * g.parts
	}
	return p.count() * g.group * g.parts
}

// scratch is the number of sums of parts.
func (p *program) scratch() int {
	if g := p.geometry(); g.parts > 1 {
		return len(p.reductions) * p.count() * g.parts
	}
	return 0
}
