package simd

// MatMul sets y[n*ldY+r] for tokens lo to hi of k and the rows of row blocks rowLo to rowHi: the product of the packed
// matrix w with the tokens. Rows beyond M are not written. Results do not depend on how the work is split.
func (t *Ternary) MatMul(y []float32, ldY int, w []byte, k *Tokens, rowLo, rowHi, lo, hi int) {
	if rowLo >= rowHi || lo >= hi {
		return
	}
	c := ternaryCall{t: t, y: y, ldY: ldY, k: k}
	if t.vnni() {
		c.multiply512(w[rowLo*t.rowBlockBytes:rowHi*t.rowBlockBytes], rowLo, rowHi, lo, hi)
		return
	}
	if hi-lo == 1 {
		c.few(w[rowLo*t.rowBlockBytes:rowHi*t.rowBlockBytes], rowLo, rowHi, lo, 1)
		return
	}
	if t.panelsPay(hi - lo) {
		if whole := min(rowHi, t.M/RowBlock); whole > rowLo {
			c.panels(w[rowLo*t.rowBlockBytes:whole*t.rowBlockBytes], rowLo, whole, lo, hi)
			rowLo = whole
		}
	}
	// The weights of a chunk stay in the cache from one group of tokens to the next.
	chunk := max(1, weightBytes/t.rowBlockBytes)
	for ; rowLo < rowHi; rowLo += chunk {
		end := min(rowLo+chunk, rowHi)
		part := w[rowLo*t.rowBlockBytes : end*t.rowBlockBytes]
		for n := lo; n < hi; {
			few := fewTokens(hi - n)
			c.few(part, rowLo, end, n, few)
			n += few
		}
	}
}

// fewTokens takes from n tokens a group of at most four, avoiding a last group of one.
func fewTokens(n int) int {
	switch n {
	case 5, 6, 9:
		return 3
	}
	return min(n, 4)
}

// ternaryCall is what the parts of one MatMul share.
type ternaryCall struct {
	t   *Ternary
	y   []float32
	ldY int
	k   *Tokens
}

// few multiplies n <= 4 tokens from token first by whole row blocks, the last of which may lack rows.
func (c *ternaryCall) few(w []byte, rowLo, rowHi, first, n int) {
	t := c.t
	whole := min(rowHi, t.M/RowBlock)
	if whole > rowLo {
		c.kernel(c.y[first*c.ldY+rowLo*RowBlock:], c.ldY, w, first, n, whole-rowLo)
	}
	if whole = max(whole, rowLo); whole == rowHi {
		return
	}
	c.lastRows(w[(whole-rowLo)*t.rowBlockBytes:], whole, first, n)
}

// lastRows multiplies by the row block that lacks rows, through memory of its own.
func (c *ternaryCall) lastRows(w []byte, rowBlock, first, n int) {
	var rest [4 * RowBlock]float32
	c.kernel(rest[:], RowBlock, w, first, n, 1)
	for i := range n {
		copy(c.y[(first+i)*c.ldY+rowBlock*RowBlock:(first+i)*c.ldY+c.t.M], rest[i*RowBlock:])
	}
}

func (c *ternaryCall) kernel(y []float32, ldY int, w []byte, first, n, rowBlocks int) {
	t, k := c.t, c.k
	q, ldQ := k.Q[first*k.StrideQ:], k.StrideQ
	o, ldO := k.Offsets[first*k.StrideOffsets:], k.StrideOffsets
	act := k.Scales[first : first+n]
	if t.vnni() {
		vnniKernel(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, t.groups, t.per, t.steps)
		return
	}
	if n == 1 && t.steps == maxSteps {
		c.gemv(y[:rowBlocks*RowBlock], w, q, o, act)
		return
	}
	tokensKernel(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, t.groups, t.per, t.steps)
}

func (c *ternaryCall) gemv(y []float32, w []byte, q []int8, o []int32, act []float32) {
	t := c.t
	beyond := t.PackedBytes() > cacheBytes
	switch {
	case t.per == 1 && !beyond:
		gemv128(y, w, q, o, act, t.groups, 1)
	case t.per == 1:
		gemv128Prefetch(y, w, q, o, act, t.groups, 1)
	case !beyond:
		gemv128Long(y, w, q, o, act, t.groups, t.per)
	default:
		gemv128LongPrefetch(y, w, q, o, act, t.groups, t.per)
	}
}
