package simd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/ternlm/tern/framework/tensor"
)

// A book of every kind, by name.
var codeBooks = []struct {
	name   string
	bits   int
	levels []int8
	kind   bookKind
}{
	{"binary", 1, []int8{-1, 1}, bookLinear},
	{"binary, far apart", 1, []int8{127, -127}, bookLinear},
	{"binary, one level", 1, []int8{5}, bookLinear},
	{"ternary", 2, []int8{-1, 0, 1}, bookLinear},
	{"two bits, equally spaced", 2, []int8{-127, -43, 41, 125}, bookLinear},
	{"two bits, near", 2, []int8{-5, 11, 0, 1}, bookEight},
	{"two bits, three without zero", 2, []int8{-4, -1, 5}, bookEight},
	{"two bits, half range", 2, []int8{-64, 65, 0, 1}, bookOne},
	{"two bits, far apart", 2, []int8{-127, 127, 3, 2}, bookSigned},
	{"int4", 4, []int8{-7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}, bookLinear},
	{"int4, all codes, spaced", 4, []int8{-120, -104, -88, -72, -56, -40, -24, -8, 8, 24, 40, 56, 72, 88, 104, 120}, bookLinear},
	{"four bits, ternary", 4, []int8{-1, 0, 1}, bookLinear},
	{"four bits, near", 4, []int8{-8, 8, 0, 1, 7, 6, 5, 4, 3, 2, -1, -2, -3, -4, -5, -6}, bookEight},
	{"four bits, few without zero", 4, []int8{12, 1, 4, 9}, bookEight},
	{"four bits, half range", 4, []int8{-64, 65, 0, 1, 7, 6, 5, 4, 3, 2, -1, -2, -3, -4, -5, -6}, bookOne},
	{"four bits, low half", 4, []int8{-128, 1, 0, -1}, bookOne},
	{"four bits, normal float", 4, []int8{-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127}, bookSigned},
	{"four bits, far apart", 4, []int8{-127, 127, 126}, bookSigned},
	{"bytes", 8, nil, bookSigned},
	{"two bits, one beyond near", 2, []int8{-8, 9, 0}, bookOne},
	{"two bits, one beyond half range", 2, []int8{-65, 65, 0}, bookSigned},
	{"four bits, one beyond near", 4, []int8{-8, 9, 0}, bookOne},
	{"four bits, one beyond half range", 4, []int8{-65, 65, 0}, bookSigned},
}

// bookMatrix is a matrix of codes in both layouts.
type bookMatrix struct {
	c      Codebook
	bits   int
	levels []int8
	codes  []byte
	scales []float32
	packed []byte
}

// newBookMatrix has random codes, those without a level included.
func newBookMatrix(tb testing.TB, r *rand.Rand, isa ISA, m, k, group, bits int, levels []int8) *bookMatrix {
	tb.Helper()
	c, ok := NewCodebook(m, k, group, bits, levels)
	if !ok {
		tb.Fatalf("no kernel for %dx%d in groups of %d, levels %v in %d bits", m, k, group, levels, bits)
	}
	c.ISA = isa
	x := &bookMatrix{c: c, bits: bits, levels: levels, codes: make([]byte, m*((k*bits+7)/8)), scales: make([]float32, m*k/group)}
	for i := range x.codes {
		x.codes[i] = byte(r.Uint32())
	}
	for i := range x.scales {
		x.scales[i] = float32(r.NormFloat64())
	}
	x.pack()
	return x
}

// pack writes the packed layout between guards, at an odd address.
func (x *bookMatrix) pack() {
	all := slices.Repeat([]byte{0xaa}, x.c.PackedBytes()+2)
	x.packed = all[1 : len(all)-1 : len(all)-1]
	half := x.c.RowBlocks() / 2
	x.c.Repack(x.packed, x.codes, x.scales, half, x.c.RowBlocks())
	x.c.Repack(x.packed, x.codes, x.scales, 0, half)
}

func (x *bookMatrix) want(k *Tokens, i, row int) float32 {
	bytes, per := (x.c.K*x.bits+7)/8, x.c.K/x.c.Group
	q := make([]int8, x.c.K)
	for c := range q {
		q[c] = k.Q[i*k.StrideQ+c/x.c.Group*x.c.width+c%x.c.Group]
	}
	return codebookRef(x.codes[row*bytes:(row+1)*bytes], x.bits, x.levels, x.scales[row*per:(row+1)*per], x.c.Group, q, k.Scales[i])
}

// tokens quantizes n random rows; of each four the second is all +-1 and the third all ones, which give extreme sums.
func (x *bookMatrix) tokens(r *rand.Rand, n int) *Tokens {
	k := x.c.Tokens(make([]byte, x.c.TokenBytes(n)), n)
	row := make([]float32, x.c.K)
	for i := range n {
		for j := range row {
			switch i % 4 {
			case 1:
				row[j] = float32(1 - 2*(j&1))
			case 2:
				row[j] = float32(3 - 2*(i/4%2*2))
			default:
				row[j] = float32(r.NormFloat64())
			}
		}
		x.c.Quantize(&k, i, row)
	}
	return &k
}

// check multiplies and compares every bit with the definition, and what is around the result with what it was.
func (x *bookMatrix) check(t testing.TB, k *Tokens, rowLo, rowHi, lo, hi int) {
	t.Helper()
	n, ld := len(k.Scales), x.c.M+3
	y := slices.Repeat([]float32{fence}, n*ld)
	x.c.MatMul(y, ld, x.packed, k, rowLo, rowHi, lo, hi)
	for i := range n {
		for r := range ld {
			want := fence
			if i >= lo && i < hi && r >= rowLo*RowBlock && r < min(rowHi*RowBlock, x.c.M) {
				want = x.want(k, i, r)
			}
			if got := y[i*ld+r]; !same(got, want) {
				t.Fatalf("%dx%d group %d, %d bits, levels %v, tokens %d-%d, row blocks %d-%d: token %d row %d is %x, want %x",
					x.c.M, x.c.K, x.c.Group, x.bits, x.levels, lo, hi, rowLo, rowHi, i, r, got, want)
			}
		}
	}
}

// eachBook runs do for every book with every instruction set.
func eachBook(t *testing.T, do func(t *testing.T, r *rand.Rand, isa ISA, bits int, levels []int8)) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		for i, b := range codeBooks {
			t.Run(b.name, func(t *testing.T) { do(t, rand.New(rand.NewPCG(40, uint64(i))), isa, b.bits, b.levels) })
		}
	})
}

func TestCodebookTakesTheFastestKindThatItsLevelsAllow(t *testing.T) {
	for _, b := range codeBooks {
		c, ok := NewCodebook(16, 64, 32, b.bits, b.levels)
		if !ok || c.kind != b.kind {
			t.Errorf("%s: kind %d (%v), want %d", b.name, c.kind, ok, b.kind)
		}
	}
}

func TestCodebookMatMulEqualsItsDefinition(t *testing.T) {
	eachBook(t, func(t *testing.T, r *rand.Rand, isa ISA, bits int, levels []int8) {
		for _, s := range []struct{ m, k, group int }{
			{16, 32, 32},
			{1, 128, 128},
			{33, 256, 128},
			{40, 96, 32},
			{31, 33, 33},
			{17, 9, 3},
			{18, 300, 50},
			{48, 2304, 1152},
		} {
			x := newBookMatrix(t, r, isa, s.m, s.k, s.group, bits, levels)
			k := x.tokens(r, 9)
			for n := range 9 {
				x.check(t, k, 0, x.c.RowBlocks(), 0, n+1)
			}
			if isa == AVX512 && s.k < 1000 {
				k = x.tokens(r, 31)
				x.check(t, k, 0, x.c.RowBlocks(), 0, 31)
				x.check(t, k, 0, x.c.RowBlocks(), 4, 18)
			}
			x.check(t, k, x.c.RowBlocks()/2, x.c.RowBlocks(), 3, 9)
			x.check(t, k, 0, (x.c.RowBlocks()+1)/2, 2, 8)
			x.check(t, k, 1, 1, 0, 9)
		}
	})
}

func TestCodebookMatMulOfRandomShapesAndLevels(t *testing.T) {
	needVectors(t)
	draws := 600
	if testing.Short() {
		draws = 60
	}
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(41, uint64(isa)))
		for range draws {
			bits := []int{1, 2, 4, 8}[r.IntN(4)]
			m, k := 1+r.IntN(300), 1+r.IntN(300)
			group := k
			for d := 1 + r.IntN(12); d > 1; d-- {
				if k%d == 0 {
					group = k / d
					break
				}
			}
			x := newBookMatrix(t, r, isa, m, k, group, bits, randomLevels(r, bits))
			n := 1 + r.IntN(9)*(1+2*int(isa))
			x.check(t, x.tokens(r, n), 0, x.c.RowBlocks(), 0, n)
		}
	})
}

// randomLevels are up to 2^bits levels of a random range.
func randomLevels(r *rand.Rand, bits int) []int8 {
	if bits == 8 {
		return nil
	}
	levels := make([]int8, 1+r.IntN(1<<bits))
	top := []int{1, 7, 8, 64, 127}[r.IntN(5)]
	for i := range levels {
		levels[i] = int8(r.IntN(2*top+1) - top)
	}
	return levels
}

// The largest sums: all codes of the highest, of the lowest, of alternating levels; all activations +-127 or 0.
func TestCodebookExtremesDoNotOverflow(t *testing.T) {
	eachBook(t, func(t *testing.T, r *rand.Rand, isa ISA, bits int, levels []int8) {
		for _, group := range []int{32, 4096} {
			x := newBookMatrix(t, r, isa, 16, 4096, group, bits, levels)
			lo, hi := 0x81, 0x7f
			if bits < 8 {
				lo, hi = slices.Index(levels, slices.Min(levels)), slices.Index(levels, slices.Max(levels))
			}
			k := x.tokens(r, 7)
			for i, sign := range [][2]float32{{1, 1}, {-1, -1}, {1, -1}, {0, 0}} {
				row := make([]float32, x.c.K)
				for j := range row {
					row[j] = sign[j%2]
				}
				x.c.Quantize(k, i, row)
			}
			for _, pair := range [][2]int{{lo, lo}, {hi, hi}, {lo, hi}} {
				for i := range x.codes {
					x.codes[i] = 0
					for f := 0; f < 8; f += bits {
						x.codes[i] |= byte(pair[f/bits%2] << f)
					}
				}
				x.pack()
				for _, n := range []int{1, 2, 4, 7} {
					x.check(t, k, 0, 1, 0, n)
				}
				x.check(t, k, 0, 1, 1, 2)
			}
		}
	})
}

// Kernels against the reference loop over packed blocks: this covers the packed layout as it is documented.
func TestCodebookKernelsEqualTheReferenceLoopOverPackedBlocks(t *testing.T) {
	eachBook(t, func(t *testing.T, r *rand.Rand, isa ISA, bits int, levels []int8) {
		x := newBookMatrix(t, r, isa, 48, 320, 160, bits, levels)
		sizes := bookTokens[:]
		if isa == AVX512 {
			sizes = bookTokens512[:]
		}
		k := x.tokens(r, sizes[0])
		for _, n := range sizes {
			got, want := newFenced((n-1)*50+48, 3), newFenced((n-1)*50+48, 3)
			a := bookArgs{
				w: &x.packed[0], q: &k.Q[0], abs: &k.Q[0], o: &k.Offsets[0], act: &k.Scales[0], book: &x.c.book[0],
				ldY: 4 * 50, ldQ: k.StrideQ, ldO: 4 * k.StrideOffsets, rows: 3, groups: 2, chunks: 5, step: x.c.step, tokens: n, block: x.c.rowBlock,
			}
			if isa == AVX512 {
				a.book = &x.c.fields[0][0]
			}
			if x.c.signs() {
				a.abs = &k.Abs[0]
			}
			a.y = &want.x[0]
			x.c.bookBlocksRef(&a, n)
			a.y = &got.x[0]
			x.c.kernel(&a, n)
			compare(t, "kernel", [][]float32{got.x}, [][]float32{want.x})
			got.check(t, "kernel")
		}
	})
}

func TestCodebookArgsLieWhereTheAssemblyReadsThem(t *testing.T) {
	var a bookArgs
	got := []uintptr{
		unsafe.Offsetof(a.y), unsafe.Offsetof(a.w), unsafe.Offsetof(a.q), unsafe.Offsetof(a.abs), unsafe.Offsetof(a.o),
		unsafe.Offsetof(a.act), unsafe.Offsetof(a.book), unsafe.Offsetof(a.ldY), unsafe.Offsetof(a.ldQ), unsafe.Offsetof(a.ldO),
		unsafe.Offsetof(a.rows), unsafe.Offsetof(a.groups), unsafe.Offsetof(a.chunks), unsafe.Offsetof(a.step),
		unsafe.Offsetof(a.tokens), unsafe.Offsetof(a.block),
	}
	for i, at := range got {
		if at != uintptr(8*i) && unsafe.Sizeof(uintptr(0)) == 8 {
			t.Errorf("field %d at %d", i, at)
		}
	}
}

func TestCodebookPaddingOfTokensIsZeroAndStaysSo(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(43, 1))
		x := newBookMatrix(t, r, isa, 3, 99, 33, 4, codeBooks[16].levels)
		area := make([]byte, x.c.TokenBytes(2))
		for i := range area {
			area[i] = 0x7f
		}
		k := x.c.Tokens(area, 2)
		row := random(r, 99)
		x.c.Quantize(&k, 0, row)
		x.c.Quantize(&k, 1, row)
		for i := range 2 {
			for c, v := range k.Q[i*k.StrideQ:][:3*64] {
				if c%64 >= 33 && v != 0 {
					t.Errorf("token %d column %d is %d", i, c, v)
				}
				if isa == AVX2 && k.Abs[i*k.StrideQ+c] != max(v, -v) {
					t.Errorf("token %d column %d is %d, magnitude %d", i, c, v, k.Abs[i*k.StrideQ+c])
				}
			}
		}
		x.check(t, &k, 0, 1, 0, 2)
	})
}

// Of the widest groups the sums of level less the lowest times activation do not fit in 32 bits: 255 * 127 * 131,040 is
// nearly 2^32. The group's sum does.
func TestCodebookSumsOfTheWidestGroupWrapExactly(t *testing.T) {
	needVectors(t)
	const group = maxGroup - chunkCols
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(45, 1))
		for _, book := range []struct {
			bits   int
			levels []int8
			codes  byte
		}{
			{8, nil, 0x7f},
			{8, nil, 0x81},
			{4, []int8{-127, 3, 127}, 0x22},
			{4, []int8{-127, 3, 127}, 0x00},
			{2, []int8{-127, 3, 127}, 0xaa},
			{1, []int8{-127, 127}, 0xff},
			{1, []int8{-127, 127}, 0x00},
		} {
			x := newBookMatrix(t, r, isa, 1, group, group, book.bits, book.levels)
			for i := range x.codes {
				x.codes[i] = book.codes
			}
			x.pack()
			k := x.tokens(r, 7) // tokens 2 and 6 are 127 and -127 throughout
			x.check(t, k, 0, 1, 0, 7)
			x.check(t, k, 0, 1, 2, 3)
			x.check(t, k, 0, 1, 6, 7)
		}
	})
}

func TestMagnitudes(t *testing.T) {
	needVectors(t)
	q := make([]int8, 8*32+1)
	for i := range q {
		q[i] = int8(i)
	}
	for n := 0; n < len(q); n += 32 {
		got, want := slices.Repeat([]int8{-3}, n+1), slices.Repeat([]int8{-3}, n+1)
		magnitudesVec(got[:n], q[1:1+n])
		magnitudesRef(want[:n], q[1:1+n])
		if !slices.Equal(got, want) {
			t.Errorf("%d bytes: %v, want %v", n, got, want)
		}
	}
}

func TestCodebookTransposesEveryBit(t *testing.T) {
	for _, bits := range []int{1, 2, 4, 8} {
		c := Codebook{Bits: bits}
		for i := range 32 {
			column, bit := i/bits, i%bits
			want := uint32(1) << (8*(column%4) + column/4*bits + bit)
			if got := c.transpose(1 << i); got != want {
				t.Errorf("%d bits: bit %d moves to %#x, want %#x", bits, i, got, want)
			}
		}
	}
}

func TestNewCodebookRefusesWhatTheKernelsCannotDo(t *testing.T) {
	ok := []int8{-1, 1}
	for _, s := range []struct {
		m, k, group, bits int
		levels            []int8
	}{
		{-1, 32, 32, 1, ok},
		{1, 0, 32, 1, ok},
		{1, 32, 0, 1, ok},
		{1, 32, 24, 1, ok},
		{1, 32, 32, 3, ok},
		{1, 32, 32, 8, ok},
		{1, 32, 32, 16, nil},
		{1, 32, 32, 1, nil},
		{1, 32, 32, 1, []int8{1, 2, 3}},
		{1, 32, 32, 4, []int8{-128, 127, 3}},
		{1, 1 << 18, 1 << 18, 4, ok},
	} {
		if _, ok := NewCodebook(s.m, s.k, s.group, s.bits, s.levels); ok {
			t.Errorf("%v was accepted", s)
		}
	}
}

func TestCodebookDoesNotAllocate(t *testing.T) {
	eachBook(t, func(t *testing.T, r *rand.Rand, isa ISA, bits int, levels []int8) {
		x := newBookMatrix(t, r, isa, 20, 256, 128, bits, levels)
		k := x.tokens(r, 7)
		y, row := make([]float32, 7*20), random(r, 256)
		if n := testing.AllocsPerRun(10, func() {
			x.c.MatMul(y, 20, x.packed, k, 0, 2, 0, 7)
			x.c.MatMul(y, 20, x.packed, k, 0, 2, 0, 1)
			x.c.Quantize(k, 0, row)
		}); n != 0 {
			t.Errorf("%g allocations", n)
		}
	})
}

// FuzzCodebook draws a shape, a book and all bytes from its inputs.
func FuzzCodebook(f *testing.F) {
	f.Add(uint16(16), uint16(64), uint8(2), uint8(2), []byte{0x81, 0x7f, 0, 3}, []byte{1, 2, 3, 0xff}, uint64(1))
	f.Add(uint16(3), uint16(33), uint8(1), uint8(0), []byte{1, 0xff}, []byte{0x55}, uint64(2))
	f.Add(uint16(20), uint16(96), uint8(3), uint8(1), []byte{0xff, 0, 1}, []byte{0xff}, uint64(3))
	f.Fuzz(func(t *testing.T, m, k uint16, split, width uint8, levels, codes []byte, seed uint64) {
		needVectors(t)
		bits := 1 << (width % 4)
		rows, cols := int(m%300)+1, int(k%300)+1
		groups := int(split%16) + 1
		for cols%groups != 0 {
			groups--
		}
		if bits == 8 {
			levels = nil
		}
		if len(codes) == 0 {
			return
		}
		book := make([]int8, min(len(levels), 1<<bits))
		for i := range book {
			book[i] = int8(levels[i])
		}
		if _, ok := NewCodebook(rows, cols, cols/groups, bits, book); !ok {
			return
		}
		for _, isa := range []ISA{AVX2, AVX512} {
			needISA(t, isa)
			r := rand.New(rand.NewPCG(seed, 1))
			x := newBookMatrix(t, r, isa, rows, cols, cols/groups, bits, book)
			for i := range x.codes {
				x.codes[i] = codes[i%len(codes)]
			}
			x.pack()
			n := 1 + int(seed%7)
			x.check(t, x.tokens(r, n), 0, x.c.RowBlocks(), 0, n)
		}
	})
}

func BenchmarkCodebook(b *testing.B) {
	needVectors(b)
	for _, isa := range []ISA{AVX2, AVX512} {
		for _, i := range []int{0, 3, 9, 12, 14, 16, 18} {
			for _, n := range []int{1, 2, 4, 8, 32} {
				for _, size := range []int{128, 512, 1024, 2048, 4096} {
					if n > 1 && size != 1024 {
						continue
					}
					b.Run(fmt.Sprintf("isa=%s/%s/tokens=%d/%dx%d", isa, codeBooks[i].name, n, size, size), func(b *testing.B) {
						needISA(b, isa)
						benchBook(b, isa, codeBooks[i].bits, codeBooks[i].levels, n, size)
					})
				}
			}
		}
	}
}

// benchBook multiplies n tokens by a square matrix.
func benchBook(b *testing.B, isa ISA, bits int, levels []int8, n, size int) {
	r := rand.New(rand.NewPCG(44, 1))
	x := newBookMatrix(b, r, isa, size, size, 128, bits, levels)
	x.packed = append(tensor.AlignedBytes(len(x.packed))[:0], x.packed...) // as weights lie
	rows, y := random(r, n*size), make([]float32, n*size)
	k := x.tokens(r, n)
	gopsOf(b, isa, size, size, n, func() {
		for i := range n {
			x.c.Quantize(k, i, rows[i*size:(i+1)*size])
		}
		x.c.MatMul(y, size, x.packed, k, 0, x.c.RowBlocks(), 0, n)
	})
}
