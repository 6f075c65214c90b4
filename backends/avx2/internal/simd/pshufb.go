package simd

// ShuffleRows is the number of rows that the look-up kernel works on together.
const ShuffleRows = 32

// pairBytes is the size of the table of a pair of columns.
const pairBytes = 32

// Shuffle is a Ternary whose products are looked up instead of multiplied: for each pair of columns VPSHUFB finds, in a
// table made of the token's two activations, the sum that the two weights of a row give. The results are those of
// Ternary to the bit.
//
// The source layout is that of Ternary. Packed layout: blocks of 32 rows; in them groups, each a vector of 32 bytes for
// every 4 columns and then 32 float32 scales. Byte 2i of a vector is the source's byte of row i, byte 2i+1 that of row
// 16+i, for i < 16.
type Shuffle struct{ t Ternary }

// NewShuffle describes a matrix of m rows and k columns; ok is false unless group is a multiple of 32 that divides k.
func NewShuffle(m, k, group int) (s Shuffle, ok bool) {
	t, ok := NewTernary(m, k, group)
	return Shuffle{t}, ok
}

// RowBlocks is the number of row blocks: the items over which packing and multiplying may be split.
func (s *Shuffle) RowBlocks() int { return (s.t.M + ShuffleRows - 1) / ShuffleRows }

// PackedBytes is the size of the packed matrix.
func (s *Shuffle) PackedBytes() int { return s.RowBlocks() * s.rowBlock() }

func (s *Shuffle) rowBlock() int { return ShuffleRows * (s.t.K/4 + 4*s.t.groups) }

// Repack writes row blocks lo to hi of the packed matrix dst from the source layout. Rows beyond M become zeros.
func (s *Shuffle) Repack(dst, codes []byte, scales []float32, lo, hi int) {
	for rb := lo; rb < hi; rb++ {
		block := dst[rb*s.rowBlock() : (rb+1)*s.rowBlock()]
		for r := range ShuffleRows {
			if row := rb*ShuffleRows + r; row < s.t.M {
				s.repackRow(block, r, codes[row*s.t.K/4:(row+1)*s.t.K/4], scales[row*s.t.groups:(row+1)*s.t.groups])
			} else {
				s.clearRow(block, r)
			}
		}
	}
}

// shuffleByte is the place of row r in a vector.
func shuffleByte(r int) int { return r%16*2 + r/16 }

func (s *Shuffle) repackRow(block []byte, r int, codes []byte, scales []float32) {
	steps := s.t.Group / 4
	for g, scale := range scales {
		for j, v := range codes[g*steps : (g+1)*steps] {
			block[j*ShuffleRows+shuffleByte(r)] = byte(presentFields(uint32(v)))
		}
		block = block[steps*ShuffleRows:]
		storeFloat(block[4*r:], scale)
		block = block[4*ShuffleRows:]
	}
}

// clearRow makes a row of zero levels.
func (s *Shuffle) clearRow(block []byte, r int) {
	steps := s.t.Group / 4
	for range s.t.groups {
		for j := range steps {
			block[j*ShuffleRows+shuffleByte(r)] = 0x55
		}
		block = block[steps*ShuffleRows:]
		storeDword(block[4*r:], 0)
		block = block[4*ShuffleRows:]
	}
}

// TokenBytes is the size of the memory that n quantized tokens and their tables need.
func (s *Shuffle) TokenBytes(n int) int { return s.t.TokenBytes(n) + n*s.tableBytes() }

func (s *Shuffle) tableBytes() int { return s.t.K / 2 * pairBytes }

// Tokens lays n tokens out in area, TokenBytes(n) bytes aligned for float32.
func (s *Shuffle) Tokens(area []byte, n int) Tokens {
	at := s.t.TokenBytes(n)
	k := s.t.Tokens(area[:at], n)
	k.Tables = area[at : at+n*s.tableBytes()]
	return k
}

// Quantize sets token i of k from its K activations x, as QuantizeRow does, and makes its tables.
func (s *Shuffle) Quantize(k *Tokens, i int, x []float32) {
	s.t.Quantize(k, i, x)
	shuffleTables(k.Tables[i*s.tableBytes():(i+1)*s.tableBytes()], k.Q[i*k.StrideQ:][:s.t.K])
}

// MatMul sets y[n*ldY+r] for tokens lo to hi of k and the rows of row blocks rowLo to rowHi: the product of the packed
// matrix w with the tokens, one by one. Rows beyond M are not written.
func (s *Shuffle) MatMul(y []float32, ldY int, w []byte, k *Tokens, rowLo, rowHi, lo, hi int) {
	if rowLo >= rowHi {
		return
	}
	t := &s.t
	whole := max(min(rowHi, t.M/ShuffleRows), rowLo)
	for i := lo; i < hi; i++ {
		tables, act := k.Tables[i*s.tableBytes():(i+1)*s.tableBytes()], k.Scales[i:i+1]
		shuffleRows(y[i*ldY+rowLo*ShuffleRows:i*ldY+whole*ShuffleRows], w[rowLo*s.rowBlock():], tables, act, t.groups, t.per, 4*t.steps)
		if whole < rowHi {
			var rest [ShuffleRows]float32
			shuffleRows(rest[:], w[whole*s.rowBlock():], tables, act, t.groups, t.per, 4*t.steps)
			copy(y[i*ldY+whole*ShuffleRows:i*ldY+t.M], rest[:])
		}
	}
}
