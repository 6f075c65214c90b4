package simd

//go:generate go run -C ../../_gen ./repack -out ../internal/simd/repack_amd64.s -stubs ../internal/simd/repack_stub_amd64.go -pkg simd

import (
	"encoding/binary"
	"unsafe"
)

// RowBlock is the number of rows the ternary kernels work on together; a packed matrix is padded to a multiple of it.
const RowBlock = 16

const (
	// maxSteps is the widest block in steps of 16 columns: the 16-bit sums are proven for 128.
	maxSteps = 8
	// cacheBytes is a matrix size beyond which the one-token kernel prefetches. It is well below the second-level cache:
	// by the next token, a model's other weights have pushed a matrix out of there. Where it is near, that costs little.
	cacheBytes = 96 << 10
	// weightBytes is the part of a matrix that a few tokens pass over together.
	weightBytes = 256 << 10
)

// Ternary describes a matrix [M, K] of levels -1, 0, 1 with one float32 scale for each Group columns of a row. The
// product with a token's int8 activations q and their scale a is, for row r,
//
//	acc = 0; for g ascending: acc = fma(float32(sum of level*q over the group), scale[r,g], acc); y[r] = acc*a
//
// and every kernel gives just these bits, for one token as for many.
//
// Source layout: codes [M, K/4] bytes, four two-bit codes (level+1) a byte, low bits first; scales [M, K/Group].
// Packed layout (R16): blocks of 16 rows and 16*steps columns, row blocks outermost; a block is 64*steps bytes of codes
// and 16 float32 scales. A dword of codes is one row; its byte c holds columns c, 4+c, 8+c and 12+c, low bits first.
type Ternary struct {
	M, K, Group   int
	ISA           ISA
	steps         int // 16-column steps in a block
	groups, per   int // groups in a row, blocks in a group
	blockBytes    int
	rowBlockBytes int
}

// NewTernary describes a matrix of m rows and k columns; ok is false unless group is a multiple of 32 that divides k.
func NewTernary(m, k, group int) (t Ternary, ok bool) {
	if m < 0 || k <= 0 || group <= 0 || group%32 != 0 || k%group != 0 {
		return Ternary{}, false
	}
	steps := maxSteps
	for group/16%steps != 0 {
		steps--
	}
	t = Ternary{M: m, K: k, Group: group, steps: steps, groups: k / group, per: group / 16 / steps}
	t.blockBytes = 64*steps + 64
	t.rowBlockBytes = t.groups * t.per * t.blockBytes
	return t, true
}

// RowBlocks is the number of row blocks: the items over which packing and multiplying may be split.
func (t *Ternary) RowBlocks() int { return (t.M + RowBlock - 1) / RowBlock }

// PackedBytes is the size of the packed matrix.
func (t *Ternary) PackedBytes() int { return t.RowBlocks() * t.rowBlockBytes }

func (t *Ternary) blocks() int { return t.groups * t.per }

// Repack writes row blocks lo to hi of the packed matrix dst from the source layout. Rows beyond M become zeros.
func (t *Ternary) Repack(dst, codes []byte, scales []float32, lo, hi int) {
	for rb := lo; rb < hi; rb++ {
		block := dst[rb*t.rowBlockBytes : (rb+1)*t.rowBlockBytes]
		if (rb+1)*RowBlock <= t.M && t.steps%2 == 0 {
			rows := codes[rb*RowBlock*(t.K/4) : (rb+1)*RowBlock*(t.K/4)]
			if t.steps == maxSteps {
				ternaryBlocks(block, t.blockBytes, rows, t.K/4, t.blocks())
			} else {
				t.repackRows(block, rows)
			}
			t.repackScales(block, scales[rb*RowBlock*t.groups:])
			continue
		}
		for r := range RowBlock {
			if row := rb*RowBlock + r; row < t.M {
				t.repackRow(block[4*r:], codes[row*(t.K/4):(row+1)*(t.K/4)], scales[row*t.groups:(row+1)*t.groups])
			} else {
				t.clearRow(block[4*r:])
			}
		}
	}
}

// repackRows writes the codes of a whole row block, the dwords of two steps of each row at a time, so that what it writes
// is adjacent. Steps are even in number.
func (t *Ternary) repackRows(dst, codes []byte) {
	col, row := 0, t.K/4
	for range t.blocks() {
		for range t.steps / 2 {
			out := dst[:128:128]
			for r := range RowBlock {
				x := transposeFields2(presentFields2(binary.LittleEndian.Uint64(codes[r*row+col:])))
				binary.LittleEndian.PutUint32(out[4*r:], uint32(x))
				binary.LittleEndian.PutUint32(out[64+4*r:], uint32(x>>32))
			}
			dst, col = dst[128:], col+8
		}
		dst = dst[64:]
	}
}

// repackScales writes the scales of a whole row block.
func (t *Ternary) repackScales(dst []byte, scales []float32) {
	for b := range t.blocks() {
		out := dst[b*t.blockBytes+64*t.steps:]
		for r := range RowBlock {
			storeFloat(out[4*r:], scales[r*t.groups+b/t.per])
		}
	}
}

// repackRow writes one row; dst starts at its first dword, successive dwords being 64 bytes apart.
func (t *Ternary) repackRow(dst, codes []byte, scales []float32) {
	at, step := 0, 0
	for i := 0; i < len(codes); i += 4 {
		storeDword(dst[at:], transposeFields(presentFields(loadDword(codes[i:]))))
		at += 64
		if step++; step == t.steps {
			group := (i + 4) / 4 * 16
			storeFloat(dst[at:], scales[(group-1)/t.Group])
			at += 64
			step = 0
		}
	}
}

// clearRow makes a row of zero levels.
func (t *Ternary) clearRow(dst []byte) {
	at := 0
	for range t.blocks() {
		for range t.steps {
			storeDword(dst[at:], 0x55555555)
			at += 64
		}
		storeDword(dst[at:], 0)
		at += 64
	}
}

// presentFields makes codes of 3, which no level has, codes of the level 0. The sums' bounds rely on it.
func presentFields(x uint32) uint32 { return x &^ ((x & (x >> 1) & 0x55555555) << 1) }

// transposeFields turns four bytes of four successive codes into a dword whose byte c has column 4f+c in field f: a 4x4
// transpose of two-bit fields in two exchanges, and its own inverse.
func transposeFields(x uint32) uint32 {
	t := (x ^ x>>6) & 0x00cc00cc
	x ^= t ^ t<<6
	t = (x ^ x>>12) & 0x0000f0f0
	return x ^ t ^ t<<12
}

// presentFields2 and transposeFields2 do two dwords at once: no bit crosses from one to the other.
func presentFields2(x uint64) uint64 { return x &^ ((x & (x >> 1) & 0x5555555555555555) << 1) }

func transposeFields2(x uint64) uint64 {
	t := (x ^ x>>6) & 0x00cc00cc00cc00cc
	x ^= t ^ t<<6
	t = (x ^ x>>12) & 0x0000f0f00000f0f0
	return x ^ t ^ t<<12
}

// Tokens are quantized activations: Q is [n, StrideQ] of which K columns count, Offsets [n, StrideOffsets], Scales [n].
// Abs has the magnitudes of Q, laid out alike, for kernels that move signs, and Tables what Shuffle looks up.
type Tokens struct {
	Q, Abs        []int8
	Tables        []byte
	Offsets       []int32
	Scales        []float32
	StrideQ       int
	StrideOffsets int
}

// strides of a token. Rows of a power of two would fall on the same sets of the first-level cache, hence the pad.
func (t *Ternary) tokenStrides() (q, offsets int) {
	return roundUp(t.K, 64) + 64, roundUp(t.blocks(), 16)
}

// TokenBytes is the size of the memory that n quantized tokens need.
func (t *Ternary) TokenBytes(n int) int {
	q, offsets := t.tokenStrides()
	return n*(q+4*offsets) + 4*n
}

// Tokens lays n tokens out in area, TokenBytes(n) bytes aligned for float32.
func (t *Ternary) Tokens(area []byte, n int) Tokens {
	q, offsets := t.tokenStrides()
	area = area[:t.TokenBytes(n)]
	if n == 0 {
		return Tokens{StrideQ: q, StrideOffsets: offsets}
	}
	base := unsafe.Pointer(unsafe.SliceData(area))
	return Tokens{
		Q:             unsafe.Slice((*int8)(base), n*q),
		Offsets:       unsafe.Slice((*int32)(unsafe.Add(base, n*q)), n*offsets),
		Scales:        unsafe.Slice((*float32)(unsafe.Add(base, n*q+4*n*offsets)), n),
		StrideQ:       q,
		StrideOffsets: offsets,
	}
}

// Quantize sets token i of k from its K activations x, as QuantizeRow does. Offsets are minus the sums of the blocks'
// activations: their low 16 bits, or all 32 for the kernels of AVX-512.
func (t *Ternary) Quantize(k *Tokens, i int, x []float32) {
	x = x[:t.K]
	q, offsets := k.Q[i*k.StrideQ:][:t.K], k.Offsets[i*k.StrideOffsets:][:t.blocks()]
	if t.steps == maxSteps {
		if t.vnni() {
			k.Scales[i] = quantizeToken512(q, offsets, x)
		} else {
			k.Scales[i] = quantizeTokenVec(q, offsets, x)
		}
		if k.Scales[i] != 0 {
			return
		}
	}
	k.Scales[i] = QuantizeRow(q, x)
	blockOffsetsVec(offsets, q, 16*t.steps)
	if t.vnni() {
		extendOffsets(offsets)
	}
}
