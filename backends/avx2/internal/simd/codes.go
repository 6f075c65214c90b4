package simd

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
	if !c.ternary() {
		c.panelsRef(dst, lo, hi, k0, k)
		return
	}
	for p := lo; p < hi; {
		group := p * panelCols / c.Group
		n := min(hi, ((group+1)*c.Group)/panelCols) - p // panels of this group
		ternaryPanels(dst[(p-lo)*panelCols*k:], panelCols*k, c.Codes[k0*c.K/4+p*panelCols/4:], c.K/4,
			c.Scales[k0*c.StrideScales+group:], c.StrideScales, k, n)
		p += n
	}
}

// ternary reports whether the assembly takes the weight.
func (c *Codes) ternary() bool {
	return c.Bits == 2 && len(c.Levels) == 3 && c.Levels[0] == -1 && c.Levels[1] == 0 && c.Levels[2] == 1 &&
		c.Group%panelCols == 0 && c.K%panelCols == 0
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
