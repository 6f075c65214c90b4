package simd

// MatMul sets y[n*ldY+r] for tokens lo to hi of k and the rows of row blocks rowLo to rowHi: the product of the packed
// matrix w with the tokens. Rows beyond M are not written. Results do not depend on how the work is split.
func (c *Codebook) MatMul(y []float32, ldY int, w []byte, k *Tokens, rowLo, rowHi, lo, hi int) {
	if rowLo >= rowHi || lo >= hi {
		return
	}
	// The weights of a chunk stay in the cache from one group of tokens to the next. Kernels may take two row blocks at once.
	chunk := max(2, weightBytes/c.rowBlock&^1)
	if hi-lo == 1 {
		chunk = rowHi - rowLo
	}
	for ; rowLo < rowHi; rowLo += chunk {
		end := min(rowLo+chunk, rowHi)
		for n := lo; n < hi; {
			few := c.together(hi - n)
			c.few(y, ldY, w, k, rowLo, end, n, few)
			n += few
		}
	}
}

// bookTokens and bookTokens512 are how many tokens the kernels of an instruction set take at once.
var (
	bookTokens    = [...]int{4, 2, 1}
	bookTokens512 = [...]int{maxBookTokens, 8, 6, 4, 3, 2, 1}
)

const maxBookTokens = 12

// together is the largest number of tokens, of n, that a kernel takes.
func (c *Codebook) together(n int) int {
	sizes := bookTokens[:]
	if c.ISA == AVX512 {
		sizes = bookTokens512[:]
	}
	for _, s := range sizes {
		if s <= n {
			return s
		}
	}
	return 0
}

// few multiplies n tokens, as many as a kernel takes, from token first by row blocks, the last of which may lack rows.
func (c *Codebook) few(y []float32, ldY int, w []byte, k *Tokens, rowLo, rowHi, first, n int) {
	whole := max(min(rowHi, c.M/RowBlock), rowLo)
	if whole > rowLo {
		c.blocks(y[first*ldY+rowLo*RowBlock:(first+n-1)*ldY+whole*RowBlock], ldY, w[rowLo*c.rowBlock:whole*c.rowBlock], k, first, n, whole-rowLo)
	}
	if whole == rowHi {
		return
	}
	var rest [maxBookTokens * RowBlock]float32
	c.blocks(rest[:n*RowBlock], RowBlock, w[whole*c.rowBlock:(whole+1)*c.rowBlock], k, first, n, 1)
	for i := range n {
		copy(y[(first+i)*ldY+whole*RowBlock:(first+i)*ldY+c.M], rest[i*RowBlock:])
	}
}

// blocks multiplies n tokens by so many whole row blocks, w being those and y from their first row on.
func (c *Codebook) blocks(y []float32, ldY int, w []byte, k *Tokens, first, n, rowBlocks int) {
	q := k.Q[first*k.StrideQ : (first+n)*k.StrideQ]
	a := bookArgs{
		y: &y[0], w: &w[0], q: &q[0], abs: &q[0],
		o: &k.Offsets[first*k.StrideOffsets : (first+n)*k.StrideOffsets][0], act: &k.Scales[first : first+n][0],
		book: &c.book[0], ldY: 4 * ldY, ldQ: k.StrideQ, ldO: 4 * k.StrideOffsets,
		rows: rowBlocks, groups: c.groups, chunks: c.width / chunkCols, step: c.step, tokens: n, block: c.rowBlock,
	}
	if c.ISA == AVX512 {
		a.book = &c.fields[0][0]
	}
	if c.signs() {
		a.abs = &k.Abs[first*k.StrideQ : (first+n)*k.StrideQ][0]
	}
	c.kernel(&a, n)
}
