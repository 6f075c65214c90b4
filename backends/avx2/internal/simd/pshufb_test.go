package simd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// lookUp is a matrix packed for the look-up kernel and, for comparison, for the multiplying one.
type lookUp struct {
	s      Shuffle
	x      *matrix
	packed []byte
}

func newLookUp(tb testing.TB, r *rand.Rand, m, k, group int) *lookUp {
	tb.Helper()
	s, ok := NewShuffle(m, k, group)
	if !ok {
		tb.Fatalf("no kernel for %dx%d in groups of %d", m, k, group)
	}
	l := &lookUp{s: s, x: newMatrix(tb, r, m, k, group)}
	l.pack()
	return l
}

func (l *lookUp) pack() {
	l.x.pack()
	all := slices.Repeat([]byte{0xaa}, l.s.PackedBytes()+2)
	l.packed = all[1 : len(all)-1 : len(all)-1]
	half := l.s.RowBlocks() / 2
	l.s.Repack(l.packed, l.x.codes, l.x.scales, 0, half)
	l.s.Repack(l.packed, l.x.codes, l.x.scales, half, l.s.RowBlocks())
}

// check compares rows of blocks rowLo to rowHi with the definition, for all tokens, and what is around with a fence.
func (l *lookUp) check(t *testing.T, rows [][]float32, rowLo, rowHi int) {
	t.Helper()
	m, n := l.s.t.M, len(rows)
	k := l.s.Tokens(make([]byte, l.s.TokenBytes(n)), n)
	for i, row := range rows {
		l.s.Quantize(&k, i, row)
	}
	ld := m + 3
	y := slices.Repeat([]float32{fence}, n*ld)
	l.s.MatMul(y, ld, l.packed, &k, rowLo, rowHi, 0, n)
	for i := range n {
		for r := range ld {
			want := fence
			if r >= rowLo*ShuffleRows && r < min(rowHi*ShuffleRows, m) {
				codes, scales := l.x.row(r)
				want = ternaryRef(codes, scales, l.s.t.Group, k.Q[i*k.StrideQ:], k.Scales[i])
			}
			if got := y[i*ld+r]; !same(got, want) {
				t.Fatalf("%dx%d group %d: token %d row %d is %x, want %x", m, l.s.t.K, l.s.t.Group, i, r, got, want)
			}
		}
	}
}

func TestShuffleEqualsTheDefinitionOfTernary(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(50, 1))
	for range 100 {
		m, group := 1+r.IntN(300), 32*(1+r.IntN(10))
		k := group * (1 + r.IntN(4))
		l := newLookUp(t, r, m, k, group)
		l.x.randomize(r)
		l.pack()
		rows := [][]float32{random(r, k), random(r, k), random(r, k)}
		l.check(t, rows, 0, l.s.RowBlocks())
		l.check(t, rows[:1], l.s.RowBlocks()/2, l.s.RowBlocks())
		l.check(t, rows[:1], 0, l.s.RowBlocks()/2)
	}
}

func TestShuffleExtremesDoNotOverflow(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(51, 1))
	for _, group := range []int{128, 4096} {
		l := newLookUp(t, r, 32, 4096, group)
		rows := make([][]float32, 4)
		for i, sign := range [][2]float32{{1, 1}, {-1, -1}, {1, -1}, {0, 0}} {
			rows[i] = make([]float32, 4096)
			for j := range rows[i] {
				rows[i][j] = sign[j%2]
			}
		}
		for _, code := range []byte{0x00, 0x55, 0xaa, 0x88, 0x22} {
			for i := range l.x.codes {
				l.x.codes[i] = code
			}
			l.pack()
			l.check(t, rows, 0, 1)
		}
	}
}

func TestShuffleKernelsEqualTheirReferenceLoops(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(52, 1))
	for _, s := range []struct{ k, group int }{{96, 32}, {256, 128}, {512, 256}, {192, 192}} {
		l := newLookUp(t, r, 96, s.k, s.group)
		q := make([]int8, s.k)
		for i := range q {
			q[i] = int8(r.IntN(255) - 127)
		}
		tables, want := make([]byte, l.s.tableBytes()), make([]byte, l.s.tableBytes())
		shuffleTables(tables, q)
		shuffleTablesRef(want, q)
		if !slices.Equal(tables, want) {
			t.Fatalf("tables of %d columns differ", s.k)
		}
		got, ref := newFenced(96, 5), make([]float32, 96)
		act := []float32{0.75}
		shuffleRows(got.x, l.packed, tables, act, l.s.t.groups, l.s.t.per, 4*l.s.t.steps)
		shuffleRowsRef(ref, l.packed, tables, act, l.s.t.groups, l.s.t.per, 4*l.s.t.steps)
		compare(t, "look-up kernel", [][]float32{got.x}, [][]float32{ref})
		got.check(t, "look-up kernel")
	}
}

// All three kernels of ternary weights: a code without a level counts as zero in each.
func TestTernaryKernelsTakeACodeWithoutALevelAsZero(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(53, 1))
	l := newLookUp(t, r, 40, 256, 128)
	for i := range l.x.codes {
		l.x.codes[i] = byte(r.Uint32())
	}
	l.pack()
	row := random(r, 256)
	book := newBookMatrix(t, r, AVX2, 40, 256, 128, 2, []int8{-1, 0, 1})
	book.codes, book.scales = l.x.codes, l.x.scales
	book.pack()
	var results [3][]float32
	for i := range results {
		results[i] = make([]float32, 40)
	}
	k := l.s.Tokens(make([]byte, l.s.TokenBytes(1)), 1)
	l.s.Quantize(&k, 0, row)
	l.s.MatMul(results[0], 40, l.packed, &k, 0, l.s.RowBlocks(), 0, 1)
	l.x.t.MatMul(results[1], 40, l.x.packed, &k, 0, l.x.t.RowBlocks(), 0, 1)
	k = book.c.Tokens(make([]byte, book.c.TokenBytes(1)), 1)
	book.c.Quantize(&k, 0, row)
	book.c.MatMul(results[2], 40, book.packed, &k, 0, book.c.RowBlocks(), 0, 1)
	for i, got := range results {
		for row := range got {
			if want := book.want(&k, 0, row); !same(got[row], want) {
				t.Fatalf("kernel %d: row %d is %x, want %x", i, row, got[row], want)
			}
		}
	}
}

func BenchmarkShuffle(b *testing.B) {
	needVectors(b)
	for _, size := range []int{128, 256, 512, 1024, 2048, 4096} {
		b.Run(fmt.Sprintf("%dx%d", size, size), func(b *testing.B) {
			r := rand.New(rand.NewPCG(54, 1))
			l := newLookUp(b, r, size, size, 128)
			k := l.s.Tokens(make([]byte, l.s.TokenBytes(1)), 1)
			row, y := random(r, size), make([]float32, size)
			gops(b, size, size, 1, func() {
				l.s.Quantize(&k, 0, row)
				l.s.MatMul(y, size, l.packed, &k, 0, l.s.RowBlocks(), 0, 1)
			})
		})
	}
}
