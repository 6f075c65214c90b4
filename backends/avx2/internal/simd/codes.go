package simd

import "math"

//go:generate go run -C ../../_gen ./codes -out ../internal/simd/codes_amd64.s -stubs ../internal/simd/codes_stub_amd64.go -pkg simd

// Codes describes a weight [M, K] of codes: element r,c is Levels[code] * Scales[r*StrideScales + c/Group]. Codes of 1,
// 2, 4 or 8 bits stand in rows of whole bytes, low bits first; bytes are their own levels,
// but for -128, which stands for nothing.
type Codes struct {
	M, K, Group  int
	Bits         int
	Levels       []int8
	Codes        []byte
	Scales       []float32
	StrideScales int // 0 where all rows share theirs
}

// Panels writes steps k0 to k0+k-1 of panels lo to hi-1 of the weight as the right operand [M, K] of a product: it is a
// PanelSource. Step r of a panel is 16 columns of row r.
func (c *Codes) Panels(dst []float32, lo, hi, k0, k int) {
	if k <= 0 || lo >= hi {
		return
	}
	if c.Group%panelCols != 0 || c.K%panelCols != 0 {
		c.panelsRef(dst, lo, hi, k0, k)
		return
	}
	var values [16]float32 // by code, over and over; codes beyond the book count as zero
	for i := range values {
		if code := i & (1<<c.Bits - 1); code < len(c.Levels) {
			values[i] = float32(c.Levels[code])
		}
	}
	row := c.K * c.Bits / 8
	for p := lo; p < hi; {
		group := p * panelCols / c.Group
		n := min(hi, ((group+1)*c.Group)/panelCols) - p // panels of this group
		out, codes, scales := dst[(p-lo)*panelCols*k:], c.Codes[k0*row+p*panelCols*c.Bits/8:], c.Scales[k0*c.StrideScales+group:]
		bookPanels(c.Bits, out, panelCols*k, codes, row, scales, c.StrideScales, k, n, &values)
		p += n
	}
}

// panelsRef is the definition, for codes of any kind.
func (c *Codes) panelsRef(dst []float32, lo, hi, k0, k int) {
	row := (c.K*c.Bits + 7) / 8
	for p := lo; p < hi; p++ {
		panel := dst[(p-lo)*panelCols*k : (p-lo+1)*panelCols*k]
		cols := min(panelCols, c.K-p*panelCols)
		for l := range k {
			codes, scales := c.Codes[(k0+l)*row:(k0+l+1)*row], c.Scales[(k0+l)*c.StrideScales:]
			out := panel[l*panelCols : (l+1)*panelCols]
			clear(out[cols:])
			for j := range cols {
				at := p*panelCols + j
				out[j] = c.level(codes, at) * scales[at/c.Group]
			}
		}
	}
}

// level is the value of the code of column at in a row. A code beyond the code book counts as zero.
func (c *Codes) level(row []byte, at int) float32 {
	if c.Bits == 8 {
		if row[at] == 0x80 {
			return 0
		}
		return float32(int8(row[at]))
	}
	bit := at * c.Bits
	code := int(row[bit/8]>>(bit%8)) & (1<<c.Bits - 1)
	if code >= len(c.Levels) {
		return 0
	}
	return float32(c.Levels[code])
}

// EncodeTernary writes the two-bit codes of the levels -1, 0 and 1 nearest to x, four a byte, low bits first: 2 over
// 1/2, 1 over -1/2, else 0, for NaN as well and for what is so far away that float64 has it equally near to all. len(x) is
// 4*len(dst).
func EncodeTernary(dst []byte, x []float32) {
	x = x[:4*len(dst)]
	whole := len(dst) &^ 7
	if encodeTernaryVec(dst[:whole], x[:4*whole]) {
		whole = 0
	}
	encodeTernaryRef(dst[whole:], x[4*whole:])
}

// wildest is the magnitude from which on distances to levels are no longer exact, so that which is nearest is a matter of
// rounding.
const wildest = 1 << 20

// Encoder finds the codes, of one bit or of four, of the levels of a book.
type Encoder struct {
	levels []int8
	bits   int
	over   [16]float32 // over[i] is the largest value whose code is at most i
}

// NewEncoder returns the encoder of a book of levels that ascend, in codes of one or four bits; false for others.
func NewEncoder(levels []int8, bits int) (*Encoder, bool) {
	if len(levels) == 0 || bits != 1 && bits != 4 || len(levels) > 1<<bits {
		return nil, false
	}
	e := &Encoder{levels: levels, bits: bits}
	for i := range e.over {
		e.over[i] = float32(math.Inf(1))
	}
	for i := range len(levels) - 1 {
		if levels[i] >= levels[i+1] {
			return nil, false
		}
		e.over[i] = e.threshold(byte(i))
	}
	return e, true
}

// threshold is the largest value between level i and the next that is encoded as i. That is half way, but where half way
// is 0: numbers that are tiny against the levels are as near to one as to the other.
func (e *Encoder) threshold(i byte) float32 {
	lo, hi := ordered(float32(e.levels[i])), ordered(float32(e.levels[i+1]))
	for lo+1 < hi { // lo is encoded as i, hi is not
		if mid := lo + (hi-lo)/2; e.nearest(unordered(mid)) <= i {
			lo = mid
		} else {
			hi = mid
		}
	}
	return unordered(lo)
}

// ordered numbers floats as they ascend; unordered is its inverse.
func ordered(v float32) int64 {
	bits := math.Float32bits(v)
	if bits>>31 != 0 {
		return -int64(bits &^ (1 << 31))
	}
	return int64(bits)
}

func unordered(n int64) float32 {
	if n < 0 {
		return -math.Float32frombits(uint32(-n))
	}
	return math.Float32frombits(uint32(n))
}

// nearest is the definition: the first of the levels that are nearest in float64, 0 for what has no distance.
func (e *Encoder) nearest(v float32) byte { return nearest(v, e.levels) }

func nearest(v float32, levels []int8) byte {
	best, distance := 0, math.Inf(1)
	for i, l := range levels {
		if d := math.Abs(float64(v) - float64(l)); d < distance {
			best, distance = i, d
		}
	}
	return byte(best)
}

// Encode writes the codes of x, as many a byte as it holds, low bits first. len(x) is that many times len(dst).
func (e *Encoder) Encode(dst []byte, x []float32) {
	per := 8 / e.bits
	x = x[:per*len(dst)]
	const block = 64 // bytes that are done again where a value is wild
	for len(dst) >= 16 {
		n := min(block, len(dst)&^15)
		if e.encode(dst[:n], x[:per*n]) {
			e.encodeRef(dst[:n], x[:per*n])
		}
		dst, x = dst[n:], x[per*n:]
	}
	e.encodeRef(dst, x)
}

// encode is Encode of whole sixteens of bytes, unless it reports that a value was wild.
func (e *Encoder) encode(dst []byte, x []float32) (wild bool) {
	if e.bits == 1 {
		return encodeBitsVec(dst, x, &e.over)
	}
	return encodeBookVec(dst, x, &e.over)
}

// encodeRef is the definition of Encode.
func (e *Encoder) encodeRef(dst []byte, x []float32) {
	for i := range dst {
		dst[i] = 0
		for f := 0; f < 8; f += e.bits {
			dst[i] |= e.nearest(x[0]) << f
			x = x[1:]
		}
	}
}

// EncodeLevels sets dst to the whole numbers from -127 to 127 nearest to x, the lower of equally near ones; -127 for NaN.
func EncodeLevels(dst []int8, x []float32) {
	x = x[:len(dst)]
	whole := len(dst) &^ 31
	encodeLevelsVec(dst[:whole], x[:whole])
	encodeLevelsRef(dst[whole:], x[whole:])
}
