package simd

//go:generate go run -C ../../_gen ./panel -out ../internal/simd/panel_amd64.s -stubs ../internal/simd/panel_stub_amd64.go -pkg simd

const (
	// panelTokens is the number of tokens from which codes are unpacked first.
	panelTokens = 24
	// panelBytes is the size of an unpacked piece of a row block: half of the first-level cache.
	panelBytes = 16 << 10
	// tokenBytes is the part of the tokens that all row blocks meet together: a part of the second-level cache.
	tokenBytes = 160 << 10
	// tileTokens is the number of tokens that the largest panel kernel takes.
	tileTokens = 6
)

// panelsPay says whether n tokens are worth unpacking for. Groups wider than a panel keep to the other kernels.
func (t *Ternary) panelsPay(n int) bool {
	return havePanels && n >= panelTokens && RowBlock*t.Group <= panelBytes
}

// panels multiplies tokens lo to hi by whole row blocks from rowLo on, w being those, through unpacked panels.
func (c *ternaryCall) panels(w []byte, rowLo, rowHi, lo, hi int) {
	t := c.t
	var area [panelBytes + 64]byte
	panel := aligned(area[:])
	piece := panelBytes / (RowBlock * t.Group) // groups
	some := max(tileTokens, tokenBytes/(piece*t.Group+64)/tileTokens*tileTokens)
	for ; lo < hi; lo += some {
		end := min(lo+some, hi)
		for rb := rowLo; rb < rowHi; rb++ {
			block := w[(rb-rowLo)*t.rowBlockBytes : (rb-rowLo+1)*t.rowBlockBytes]
			for g := 0; g < t.groups; g += piece {
				c.piece(panel, block, rb, g, min(piece, t.groups-g), lo, end)
			}
		}
	}
}

// piece multiplies tokens lo to hi by groups g to g+n-1 of one row block.
func (c *ternaryCall) piece(panel, block []byte, rb, g, n, lo, hi int) {
	t, k := c.t, c.k
	block = block[g*t.per*t.blockBytes:]
	unpackPanel(panel, block, n*t.per, t.steps)
	ends := 0
	if g == 0 {
		ends = 1
	}
	if g+n == t.groups {
		ends |= 2
	}
	for i := lo; i < hi; {
		few, tile := tiles(hi - i)
		panelKernel(c.y[i*c.ldY+rb*RowBlock:], c.ldY, panel, block[64*t.steps:], t.per*t.blockBytes,
			k.Q[i*k.StrideQ+g*t.Group:], k.StrideQ, k.Offsets[i*k.StrideOffsets+g*t.per:], k.StrideOffsets,
			k.Scales[i:i+few], n, t.per, t.steps, ends, tile)
		i += few
	}
}

// tiles takes from n tokens some that are whole tiles: of the largest size, but without leaving a few for the end where
// tiles one smaller come out even.
func tiles(n int) (tokens, tile int) {
	const small = tileTokens - 1
	short := (tileTokens - n%tileTokens) % tileTokens // as many small tiles make n even
	switch {
	case n < tileTokens:
		return n, n
	case small*short > n || short == 0:
		return n / tileTokens * tileTokens, tileTokens
	case small*short == n:
		return n, small
	}
	return n - small*short, tileTokens
}

// aligned is b from its first multiple of 64 bytes on.
func aligned(b []byte) []byte {
	return b[-addressOf(b)&63:]
}
