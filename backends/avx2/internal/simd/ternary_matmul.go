package simd

import "unsafe"

// ScratchBytes is the scratch memory one call of MatMul needs: 64-bit aligned, not shared between concurrent calls.
const ScratchBytes = RowBlock*panelColumns + 2*4*RowBlock*panelTokens

// MatMul sets y[n*ldY+r] for tokens lo to hi of k and the rows of row blocks rowLo to rowHi: the product of the packed
// matrix w with the tokens. Rows beyond M are not written. Results do not depend on how the work is split.
func (t *Ternary) MatMul(y []float32, ldY int, w []byte, k *Tokens, rowLo, rowHi, lo, hi int, scratch []byte) {
	if rowLo >= rowHi || lo >= hi {
		return
	}
	c := ternaryCall{t: t, y: y, ldY: ldY, k: k}
	if hi-lo >= panelFrom {
		c.panels(w, rowLo, rowHi, lo, hi, scratch)
		return
	}
	chunk := rowHi - rowLo
	if hi-lo > 1 { // the weights of a chunk stay in the cache from one few tokens to the next
		chunk = max(1, weightBytes/t.rowBlockBytes)
	}
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

// fewTokens splits n < panelFrom tokens into groups of at most four, avoiding a last group of one.
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
	var rest [4 * RowBlock]float32
	c.kernel(rest[:], RowBlock, w[(whole-rowLo)*t.rowBlockBytes:], first, n, 1)
	for i := range n {
		copy(c.y[(first+i)*c.ldY+whole*RowBlock:(first+i)*c.ldY+t.M], rest[i*RowBlock:])
	}
}

func (c *ternaryCall) kernel(y []float32, ldY int, w []byte, first, n, rowBlocks int) {
	t, k := c.t, c.k
	q, ldQ := k.Q[first*k.StrideQ:], k.StrideQ
	o, ldO := k.Offsets[first*k.StrideOffsets:], k.StrideOffsets
	act := k.Scales[first : first+n]
	if n == 1 && t.steps == maxSteps {
		c.gemv(y[:rowBlocks*RowBlock], w, q, o, act)
		return
	}
	tokensKernel(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, t.groups, t.per, t.steps)
}

func (c *ternaryCall) gemv(y []float32, w []byte, q []int8, o []int32, act []float32) {
	t := c.t
	beyond := len(y)/RowBlock*t.rowBlockBytes > cacheBytes
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

// panels multiplies many tokens: 16 rows by up to 1,024 columns are unpacked to bytes, which then serve up to 96 tokens,
// six at a time.
func (c *ternaryCall) panels(w []byte, rowLo, rowHi, lo, hi int, scratch []byte) {
	scratch = scratch[:ScratchBytes]
	panel := scratch[:RowBlock*panelColumns]
	tile := unsafe.Slice((*float32)(unsafe.Pointer(&scratch[len(panel)])), RowBlock*panelTokens)
	sums := unsafe.Slice((*int32)(unsafe.Pointer(&scratch[len(panel)+4*len(tile)])), RowBlock*panelTokens)
	t := c.t
	for ; lo < hi; lo += panelTokens {
		n := min(panelTokens, hi-lo)
		for rb := rowLo; rb < rowHi; rb++ {
			clear(tile[:RowBlock*n])
			clear(sums[:RowBlock*n])
			c.rowBlock(w[rb*t.rowBlockBytes:(rb+1)*t.rowBlockBytes], panel, tile[:RowBlock*n], sums[:RowBlock*n], lo)
			rows := min(RowBlock, t.M-rb*RowBlock)
			for i := range n {
				mulSVec(c.y[(lo+i)*c.ldY+rb*RowBlock:][:rows], tile[RowBlock*i:][:rows], c.k.Scales[lo+i])
			}
		}
	}
}

// rowBlock adds one row block's products to tile, a group or (where groups are single blocks) a panel at a time.
func (c *ternaryCall) rowBlock(w, panel []byte, tile []float32, sums []int32, lo int) {
	t := c.t
	widest := panelColumns / (16 * t.steps)
	for at, blocks := 0, t.blocks(); at < blocks; {
		n := min(widest, blocks-at)
		if t.per > 1 {
			n = min(n, t.per-at%t.per)
		}
		part := w[at*t.blockBytes : (at+n)*t.blockBytes]
		unpackBlocks(panel, part, n, t.steps)
		for i, tokens := 0, len(tile)/RowBlock; i < tokens; {
			few := min(6, tokens-i)
			q := c.k.Q[(lo+i)*c.k.StrideQ+16*t.steps*at:]
			o := c.k.Offsets[(lo+i)*c.k.StrideOffsets+at:]
			if t.per == 1 {
				panelKernel(few, tile[RowBlock*i:], panel, q, c.k.StrideQ, o, c.k.StrideOffsets, part, n, t.steps)
			} else {
				panelKernelLong(few, sums[RowBlock*i:], panel, q, c.k.StrideQ, o, c.k.StrideOffsets, part, n, t.steps)
			}
			i += few
		}
		if at += n; t.per > 1 && at%t.per == 0 {
			foldTile(tile, sums, part[len(part)-4*RowBlock:])
		}
	}
}

