package simd

import "unsafe"

//go:generate go run -C ../../_gen ./codebook -out ../internal/simd/codebook_amd64.s -stubs ../internal/simd/codebook_stub_amd64.go -pkg simd
//go:generate go run -C ../../_gen ./codebook512 -out ../internal/simd/codebook512_amd64.s -stubs ../internal/simd/codebook512_stub_amd64.go -pkg simd

const (
	// chunkCols is the number of columns that the code-book kernels add before they widen.
	chunkCols = 32
	// maxGroup keeps a group's sum of level*q within 31 bits.
	maxGroup = 1 << 17
)

// bookKind names the arithmetic that the levels of a code book allow with AVX2. The bounds are proven in _gen/codebook.
// AVX-512 has one kind for all.
type bookKind uint8

const (
	bookLinear bookKind = iota // levels in arithmetic progression
	bookEight                  // a range of at most 16
	bookOne                    // a range of at most 129
	bookSigned                 // any levels but -128
)

const (
	rangeEight = 16
	rangeOne   = 129
)

// Codebook describes a matrix [M, K] of codes of 1, 2 or 4 bits that stand for int8 levels, or of such levels as bytes,
// with one float32 scale for each Group columns of a row. The product with a token's int8 activations q and their scale a is, for row r,
//
//	acc = 0; for g ascending: acc = fma(float32(sum of level*q over the group), scale[r,g], acc); y[r] = acc*a
//
// and every kernel gives just these bits, for one token as for many. A code without a level, or a byte of
// -128, stands for 0.
//
// Source layout: codes [M, bytes of K codes], low bits first; scales [M, K/Group]. The packed layout is described in
// docs/kernels.md; groups are padded to a multiple of 32 columns there and in the tokens, whose padding is zero.
type Codebook struct {
	M, K, Group int
	Bits        int
	ISA         ISA
	kind        bookKind
	low, step   int32
	levels      [16]int8    // by code
	book        [32]byte    // what the AVX2 kernels look up
	lowest      int32       // of all levels
	fields      [4][64]byte // what the AVX-512 kernels look up for each field: levels less the lowest, by the low six bits of a byte of codes
	remap       *[256]byte  // replaces codes without a level in a byte of codes, nil if there are none
	groups      int
	width       int // columns of a padded group
	groupBytes  int
	rowBlock    int // bytes of a row block
}

// NewCodebook describes a matrix of m rows and k columns of codes of so many bits, 8 having no levels; ok is false if no
// kernel takes it.
func NewCodebook(m, k, group, bits int, levels []int8) (c Codebook, ok bool) {
	if m < 0 || k <= 0 || group <= 0 || group > maxGroup-chunkCols || k%group != 0 || bits != 1 && bits != 2 && bits != 4 && bits != 8 {
		return Codebook{}, false
	}
	if bits == 8 && len(levels) > 0 || bits < 8 && (len(levels) == 0 || len(levels) > 1<<bits) {
		return Codebook{}, false
	}
	c = Codebook{M: m, K: k, Group: group, Bits: bits, groups: k / group, width: roundUp(group, chunkCols)}
	c.groupBytes = c.width/chunkCols*64*bits + 64
	c.rowBlock = c.groups * c.groupBytes
	if bits == 8 {
		c.kind, c.lowest = bookSigned, -128
		for i := range c.fields[0] {
			c.fields[0][i] = 0x80 // a byte less -128 is the byte with its highest bit turned
		}
		return c, true
	}
	copy(c.levels[:], levels)
	return c, c.choose(len(levels))
}

// choose finds the kind for the first n levels, the rest being absent.
func (c *Codebook) choose(n int) bool {
	all := c.levels[:1<<c.Bits]
	if n < len(all) {
		n = c.replaceAbsent(n)
	}
	lo, hi := all[0], all[0]
	for _, l := range all[:n] {
		lo, hi = min(lo, l), max(hi, l)
	}
	span := int(hi) - int(lo)
	c.low, c.lowest = int32(lo), int32(lo)
	c.lookUp()
	switch {
	case c.progression(all[:n]):
		c.kind, c.low = bookLinear, int32(all[0])
		return true
	case span <= rangeEight:
		c.kind = bookEight
	case span <= rangeOne:
		c.kind = bookOne
	case lo > -128:
		c.kind, c.low = bookSigned, 0
	default:
		return false
	}
	for i := range c.book {
		c.book[i] = byte(int32(all[c.bookCode(i%16)]) - c.low)
	}
	return true
}

// lookUp fills what the AVX-512 kernels look up. Codes that never occur may have anything.
func (c *Codebook) lookUp() {
	for f := range min(len(c.fields), 6/c.Bits) {
		for i := range c.fields[f] {
			code := i >> (f * c.Bits) & (1<<c.Bits - 1)
			c.fields[f][i] = byte(int32(c.levels[code]) - c.lowest)
		}
	}
}

// bookCode is the code whose level stands at entry i of the book. With two bits a code stands at 4*code as well.
func (c *Codebook) bookCode(i int) int {
	if c.Bits != 2 {
		return i
	}
	if i >= 4 {
		return i / 4
	}
	return i
}

// replaceAbsent makes codes from n on a code of level 0, if there is one, and gives the number of codes that stay in
// use.
func (c *Codebook) replaceAbsent(n int) int {
	zero := -1
	for i, l := range c.levels[:n] {
		if l == 0 {
			zero = i
		}
	}
	if zero < 0 {
		return 1 << c.Bits
	}
	c.remap = new([256]byte)
	for b := range c.remap {
		for f := 0; f < 8; f += c.Bits {
			code := b >> f & (1<<c.Bits - 1)
			if code >= n {
				code = zero
			}
			c.remap[b] |= byte(code << f)
		}
	}
	return n
}

// progression reports whether the levels are equally spaced, and sets their step.
func (c *Codebook) progression(l []int8) bool {
	if len(l) > 1 {
		c.step = int32(l[1]) - int32(l[0])
	}
	for i := range l {
		if int32(l[i]) != int32(l[0])+int32(i)*c.step {
			return false
		}
	}
	return true
}

// RowBlocks is the number of row blocks: the items over which packing and multiplying may be split.
func (c *Codebook) RowBlocks() int { return (c.M + RowBlock - 1) / RowBlock }

// PackedBytes is the size of the packed matrix.
func (c *Codebook) PackedBytes() int { return c.RowBlocks() * c.rowBlock }

// columns of a token with all groups padded, and the columns that its partial sums are over.
func (c *Codebook) columns() (padded, part int) {
	part = maxSteps * 16
	for c.width%part != 0 {
		part -= 16
	}
	return c.groups * c.width, part
}

// tokenStrides: a token's magnitudes, where wanted, follow the activations of all tokens. Its partial sums follow its
// offsets.
func (c *Codebook) tokenStrides() (q, offsets int) {
	padded, part := c.columns()
	return roundUp(padded, 64) + 64, roundUp(c.groups+padded/part, 16)
}

// signs says whether the kernels move signs from activations to levels, and so want magnitudes.
func (c *Codebook) signs() bool { return c.ISA == AVX2 && c.kind == bookSigned }

// offset is what the kernels' values lack to be levels.
func (c *Codebook) offset() int32 {
	if c.ISA == AVX512 {
		return c.lowest
	}
	return c.low
}

// TokenBytes is the size of the memory that n quantized tokens need.
func (c *Codebook) TokenBytes(n int) int {
	q, offsets := c.tokenStrides()
	if c.signs() {
		q *= 2
	}
	return n*(q+4*offsets) + 4*n
}

// Tokens lays n tokens out in area, TokenBytes(n) bytes aligned for float32.
func (c *Codebook) Tokens(area []byte, n int) Tokens {
	q, offsets := c.tokenStrides()
	area = area[:c.TokenBytes(n)]
	k := Tokens{StrideQ: q, StrideOffsets: offsets}
	if n == 0 {
		return k
	}
	base := unsafe.Pointer(unsafe.SliceData(area))
	k.Q = unsafe.Slice((*int8)(base), n*q)
	at := n * q
	if c.signs() {
		k.Abs = unsafe.Slice((*int8)(unsafe.Add(base, at)), n*q)
		at += n * q
	}
	k.Offsets = unsafe.Slice((*int32)(unsafe.Add(base, at)), n*offsets)
	k.Scales = unsafe.Slice((*float32)(unsafe.Add(base, at+4*n*offsets)), n)
	return k
}

// Quantize sets token i of k from its K activations x, as QuantizeRow does.
func (c *Codebook) Quantize(k *Tokens, i int, x []float32) {
	padded, part := c.columns()
	q := k.Q[i*k.StrideQ:][:padded]
	offsets := k.Offsets[i*k.StrideOffsets:][:c.groups]
	sums := k.Offsets[i*k.StrideOffsets+c.groups:][:padded/part]
	k.Scales[i] = c.quantizeRow(q, sums, x[:c.K], part)
	low, each := c.offset(), c.width/part
	for g := range offsets {
		var minus int32
		for _, s := range sums[g*each : (g+1)*each] {
			minus += int32(int16(s))
		}
		offsets[g] = -minus * low
	}
	if c.signs() {
		magnitudesVec(k.Abs[i*k.StrideQ:][:padded], q)
	}
}

// quantizeRow fills q, padded, and sums, minus the sum of each part of it.
func (c *Codebook) quantizeRow(q []int8, sums []int32, x []float32, part int) (scale float32) {
	if c.width == c.Group && part == maxSteps*16 {
		if scale = quantizeTokenVec(q, sums, x); scale != 0 {
			return scale
		}
	}
	scale = QuantizeRow(q[:c.K], x)
	if c.width != c.Group {
		for g := c.groups - 1; g >= 0; g-- {
			copy(q[g*c.width:], q[g*c.Group:(g+1)*c.Group])
			clear(q[g*c.width+c.Group : (g+1)*c.width])
		}
	}
	blockOffsetsVec(sums, q, part)
	return scale
}
