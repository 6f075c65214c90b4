package simd

const (
	tileRows    = 6  // rows of the largest micro-kernel of AVX2
	tileRows512 = 12 // rows of the largest micro-kernel of AVX-512
)

// gemmSizes are the sizes of the largest micro-kernel and of the blocks of each instruction set. A block of A, rows by a
// run of k, stays in the second-level cache. With AVX2 the run is so short that a panel of it stays in the first-level
// cache; with AVX-512 two panels would not fit, so they come from the second level, and the run is long: every pass
// reads and writes C.
var gemmSizes = [...]struct {
	tileRows, tilePanels int
	blocks               blockSizes
}{
	AVX2:   {tileRows: tileRows, tilePanels: 1, blocks: blockSizes{rows: 192, k: 384}},
	AVX512: {tileRows: tileRows512, tilePanels: 2, blocks: blockSizes{rows: 96, k: 768}},
}

// blockSizes are the most rows and steps of k of a block of A.
type blockSizes struct{ rows, k int }

func (i ISA) tileRows() int   { return gemmSizes[i].tileRows }
func (i ISA) tilePanels() int { return gemmSizes[i].tilePanels }

// strip is a product of some rows with some adjacent packed panels, over one run of k:
// c[i,j] = chain of fma(a[i,l], b[l,j]) over l, from zero if first, else from c[i,j].
type strip struct {
	isa        ISA
	rows, cols int
	k          int
	ldc        int
	rs, cs     int // a's row r, step l within a tile of isa.tileRows(): r*rs + l*cs
	tile       int // from one tile of a to the next
	ldp        int // from one panel of b to the next
	first      bool
}

// run does the strip; c, a and b start at its first element.
func (s *strip) run(c, a, b []float32) {
	if s.isa == AVX512 {
		s.run512(c, a, b)
		return
	}
	full := s.cols / panelCols
	if s.rows < tileRows {
		s.fewRows(c, a, b, s.rows, full)
	} else {
		tiles := s.rows / tileRows
		rest := s.rows % tileRows
		for p := range full {
			next := b[min(p+1, full-1)*s.ldp:]
			gemm6x16(c[p*panelCols:], s.ldc, a, s.rs, s.cs, b[p*s.ldp:], s.k, tiles, s.tile, next, s.first)
			if rest > 0 {
				s.rowsOf(rest, c[tiles*tileRows*s.ldc+p*panelCols:], s.ldc, a[tiles*s.tile:], b[p*s.ldp:])
			}
		}
	}
	if tail := s.cols % panelCols; tail > 0 {
		s.tail(c[full*panelCols:], a, b[full*s.ldp:], tail)
	}
}

// fewRows does one ragged tile over whole panels, several panels at once where the accumulators would otherwise wait
// for each other.
func (s *strip) fewRows(c, a, b []float32, rows, panels int) {
	p := 0
	switch rows {
	case 1:
		for ; p+4 <= panels; p += 4 {
			gemm1x64(c[p*panelCols:], s.ldc, a, s.rs, s.cs, b[p*s.ldp:], s.ldp, s.k, s.first)
		}
	case 2:
		for ; p+2 <= panels; p += 2 {
			gemm2x32(c[p*panelCols:], s.ldc, a, s.rs, s.cs, b[p*s.ldp:], s.ldp, s.k, s.first)
		}
	case 3:
		for ; p+2 <= panels; p += 2 {
			gemm3x32(c[p*panelCols:], s.ldc, a, s.rs, s.cs, b[p*s.ldp:], s.ldp, s.k, s.first)
		}
	}
	for ; p < panels; p++ {
		s.rowsOf(rows, c[p*panelCols:], s.ldc, a, b[p*s.ldp:])
	}
}

// rowsOf does one tile of 1 to 6 rows and one panel.
func (s *strip) rowsOf(rows int, c []float32, ldc int, a, b []float32) {
	switch rows {
	case 1:
		gemm1x16(c, ldc, a, s.rs, s.cs, b, s.k, s.first)
	case 2:
		gemm2x16(c, ldc, a, s.rs, s.cs, b, s.k, s.first)
	case 3:
		gemm3x16(c, ldc, a, s.rs, s.cs, b, s.k, s.first)
	case 4:
		gemm4x16(c, ldc, a, s.rs, s.cs, b, s.k, s.first)
	case 5:
		gemm5x16(c, ldc, a, s.rs, s.cs, b, s.k, s.first)
	default:
		gemm6x16(c, ldc, a, s.rs, s.cs, b, s.k, 1, 0, b, s.first)
	}
}

// tail does the last panel when fewer than panelCols of its columns exist, through a tile of its own.
func (s *strip) tail(c, a, b []float32, cols int) {
	var tile [tileRows * panelCols]float32
	for i := 0; i < s.rows; i += tileRows {
		rows := min(tileRows, s.rows-i)
		if !s.first {
			for r := range rows {
				copy(tile[r*panelCols:r*panelCols+cols], c[(i+r)*s.ldc:])
			}
		}
		s.rowsOf(rows, tile[:], panelCols, a[i/tileRows*s.tile:], b)
		for r := range rows {
			copy(c[(i+r)*s.ldc:][:cols], tile[r*panelCols:])
		}
	}
}
