package simd

//go:generate go run -C ../../_gen ./ternary512 -out ../internal/simd/ternary512_amd64.s -stubs ../internal/simd/ternary512_stub_amd64.go -pkg simd

const (
	// vnniTile is the number of tokens that the largest kernels take.
	vnniTile = 12
	// vnniPairTokens is the number of tokens from which two row blocks at a time pay. Two tokens are as fast with one, and
	// twice as many streams of weights are slower from the third-level cache.
	vnniPairTokens = 3
)

// vnni says whether the kernels of AVX-512 are used. Their tokens have offsets of 32 bits.
func (t *Ternary) vnni() bool { return t.ISA == AVX512 }

// multiply512 is MatMul of tokens lo to hi by row blocks rowLo to rowHi, w being those.
func (c *ternaryCall) multiply512(w []byte, rowLo, rowHi, lo, hi int) {
	size := c.t.rowBlockBytes
	chunk := rowHi - rowLo
	if hi-lo > vnniTile { // the weights of a chunk stay in the cache from one tile of tokens to the next
		chunk = max(2, weightBytes/size&^1)
	}
	for ; rowLo < rowHi; rowLo += chunk {
		end := min(rowLo+chunk, rowHi)
		for i := lo; i < hi; {
			n := evenTile(hi - i)
			c.tile512(w[:(end-rowLo)*size], rowLo, end, i, n)
			i += n
		}
		w = w[(end-rowLo)*size:]
	}
}

// evenTile takes from n tokens the first of as few tiles as possible, of nearly one size.
func evenTile(n int) int {
	tiles := (n + vnniTile - 1) / vnniTile
	return (n + tiles - 1) / tiles
}

// tile512 multiplies n <= 12 tokens from token first by pairs of whole row blocks, and what is left by fewer tokens at a time.
func (c *ternaryCall) tile512(w []byte, rowLo, rowHi, first, n int) {
	t, k := c.t, c.k
	if pairs := (min(rowHi, t.M/RowBlock) - rowLo) / 2; n >= vnniPairTokens && pairs > 0 {
		vnniPairs(c.y[first*c.ldY+rowLo*RowBlock:], c.ldY, w, t.rowBlockBytes, k.Q[first*k.StrideQ:], k.StrideQ,
			k.Offsets[first*k.StrideOffsets:], k.StrideOffsets, k.Scales[first:first+n], pairs, t.groups, t.per, t.steps)
		rowLo += 2 * pairs
		w = w[2*pairs*t.rowBlockBytes:]
	}
	if rowLo == rowHi {
		return
	}
	for end := first + n; first < end; {
		few := fewTokens(end - first)
		c.few(w, rowLo, rowHi, first, few)
		first += few
	}
}

// extendOffsets makes int32 of offsets in the low 16 bits.
func extendOffsets(offsets []int32) {
	for i, o := range offsets {
		offsets[i] = int32(int16(o))
	}
}
