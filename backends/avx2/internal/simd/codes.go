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
	ternary := c.ternary()
	if !ternary && c.Bits != 4 || c.Group%panelCols != 0 || c.K%panelCols != 0 {
		c.panelsRef(dst, lo, hi, k0, k)
		return
	}
	var values [16]float32 // codes beyond the book count as zero
	for i, l := range c.Levels {
		values[i] = float32(l)
	}
	row := c.K * c.Bits / 8
	for p := lo; p < hi; {
		group := p * panelCols / c.Group
		n := min(hi, ((group+1)*c.Group)/panelCols) - p // panels of this group
		out, codes, scales := dst[(p-lo)*panelCols*k:], c.Codes[k0*row+p*panelCols*c.Bits/8:], c.Scales[k0*c.StrideScales+group:]
		if ternary {
			ternaryPanels(out, panelCols*k, codes, row, scales, c.StrideScales, k, n)
		} else {
			bookPanels(out, panelCols*k, codes, row, scales, c.StrideScales, k, n, &values)
		}
		p += n
	}
}

// ternary reports whether the codes are those of two bits over -1, 0 and 1.
func (c *Codes) ternary() bool {
	return c.Bits == 2 && len(c.Levels) == 3 && c.Levels[0] == -1 && c.Levels[1] == 0 && c.Levels[2] == 1
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
// 1/2, 1 over -1/2, else 0 (for NaN as well). len(x) is 4*len(dst).
func EncodeTernary(dst []byte, x []float32) {
	x = x[:4*len(dst)]
	whole := len(dst) &^ 7
	encodeTernaryVec(dst[:whole], x[:4*whole])
	encodeTernaryRef(dst[whole:], x[4*whole:])
}

// wildest is the magnitude from which on distances to levels are no longer exact, so that which is nearest is a matter of
// rounding.
const wildest = 1 << 20

// Encoder finds the four-bit codes of the levels of a book.
type Encoder struct {
	levels []int8
	over   [16]float32 // over[i] is the largest value whose code is at most i
}

// NewEncoder returns the encoder of a book of at most 16 levels that ascend; false for others.
func NewEncoder(levels []int8) (*Encoder, bool) {
	if len(levels) == 0 || len(levels) > 16 {
		return nil, false
	}
	e := &Encoder{levels: levels}
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
func (e *Encoder) nearest(v float32) byte {
	best, distance := 0, math.Inf(1)
	for i, l := range e.levels {
		if d := math.Abs(float64(v) - float64(l)); d < distance {
			best, distance = i, d
		}
	}
	return byte(best)
}

// Encode writes the codes of x, two a byte, low bits first. len(x) is 2*len(dst).
func (e *Encoder) Encode(dst []byte, x []float32) {
	x = x[:2*len(dst)]
	const block = 64 // bytes that are done again where a value is wild
	for len(dst) >= 16 {
		n := min(block, len(dst)&^15)
		if encodeBookVec(dst[:n], x[:2*n], &e.over) {
			e.encodeRef(dst[:n], x[:2*n])
		}
		dst, x = dst[n:], x[2*n:]
	}
	e.encodeRef(dst, x)
}

// encodeRef is the definition of Encode.
func (e *Encoder) encodeRef(dst []byte, x []float32) {
	for i := range dst {
		dst[i] = e.nearest(x[2*i]) | e.nearest(x[2*i+1])<<4
	}
}
