package simd

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEncodeTernaryTakesTheNearestLevel(t *testing.T) {
	inf := float32(math.Inf(1))
	special := []float32{
		-1, 0, 1, float32(math.Copysign(0, -1)), 0.5, -0.5, 0.50001, -0.50001, 3, -3, 1e-30, inf, -inf, math.MaxFloat32, float32(math.NaN()),
	}
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 70 {
		for off := range 3 {
			x := randFloats(r, 4*n, off)
			for i := range x {
				if r.IntN(3) == 0 {
					x[i] = special[r.IntN(len(special))]
				}
			}
			got := bytes.Repeat([]byte{0xa5}, n+16)
			want := bytes.Clone(got)
			EncodeTernary(got[8:8+n], x)
			encodeTernaryRef(want[8:8+n], x)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, offset %d: %x, want %x", n, off, got, want)
			}
		}
	}
}

// randCodes draws a weight of any kind.
func randCodes(r *rand.Rand, m, k, group, bits int, levels []int8, shared bool) *Codes {
	c := &Codes{M: m, K: k, Group: group, Bits: bits, Levels: levels, StrideScales: k / group}
	c.Codes = make([]byte, m*((k*bits+7)/8))
	for i := range c.Codes {
		c.Codes[i] = byte(r.Uint32())
	}
	c.Scales = randFloats(r, m*k/group, 1)
	if shared {
		c.StrideScales = 0
	}
	return c
}

func TestPanelsAreThoseOfTheDequantizedWeight(t *testing.T) {
	ternary, int4 := []int8{-1, 0, 1}, []int8{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 127}
	r := rand.New(rand.NewPCG(2, 2))
	for _, c := range []*Codes{
		randCodes(r, 37, 256, 128, 2, ternary, false),
		randCodes(r, 5, 96, 32, 2, ternary, false),
		randCodes(r, 9, 48, 48, 2, ternary, true),
		randCodes(r, 7, 36, 12, 2, ternary, false), // a group is no whole panel
		randCodes(r, 7, 64, 64, 1, []int8{-1, 1}, false),
		randCodes(r, 7, 72, 24, 4, int4, false),
		randCodes(r, 3, 5, 5, 4, int4, false),
		randCodes(r, 37, 192, 64, 4, int4, false),
		randCodes(r, 9, 48, 48, 4, int4[3:8], true), // codes beyond the book
		randCodes(r, 5, 40, 8, 4, int4, false),      // a group is no whole panel
		randCodes(r, 4, 32, 16, 2, []int8{-3, 1, 2, 9}, false),
		randCodes(r, 6, 40, 20, 8, nil, false),
		randCodes(r, 37, 192, 64, 8, nil, false),
		randCodes(r, 9, 160, 80, 1, []int8{3}, false), // codes beyond the book
		randCodes(r, 5, 48, 16, 2, []int8{5, -7}, true),
	} {
		c.Codes[len(c.Codes)-1], c.Codes[0] = 0x80, 0x80
		t.Run(fmt.Sprintf("%dx%d group %d, %d bits", c.M, c.K, c.Group, c.Bits), func(t *testing.T) {
			b := make([]float32, c.M*c.K) // the weight as floats
			for i := range b {
				row, col := i/c.K, i%c.K
				bits := int(c.Codes[row*((c.K*c.Bits+7)/8)+col*c.Bits/8]>>(col*c.Bits%8)) & (1<<c.Bits - 1)
				level := int8(0)
				if c.Bits == 8 && c.Codes[i] != 0x80 {
					level = int8(c.Codes[i])
				} else if c.Bits < 8 && bits < len(c.Levels) {
					level = c.Levels[bits]
				}
				b[i] = float32(level) * c.Scales[row*c.StrideScales+col/c.Group]
			}
			all := ceilDiv(c.K, panelCols)
			for range 20 {
				lo := r.IntN(all)
				hi, k0 := lo+1+r.IntN(all-lo), r.IntN(c.M)
				k := 1 + r.IntN(c.M-k0)
				want := make([]float32, PackedBLen(c.K, k))
				PackB(want, b[k0*c.K:], c.K, k, false, 0, all)
				got, check := guarded(t, (hi-lo)*panelCols*k, 3)
				c.Panels(got, lo, hi, k0, k)
				check()
				sameBits(t, fmt.Sprintf("panels %d-%d, steps %d+%d", lo, hi, k0, k), got, want[lo*panelCols*k:hi*panelCols*k])
			}
		})
	}
}

func TestGemmMakesPanelsAsItNeedsThem(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, shape := range [][3]int{{1, 256, 50}, {5, 96, 7}, {6, 128, 900}, {203, 384, 431}, {700, 128, 390}, {1030, 512, 64}} {
		c := randCodes(r, shape[2], shape[1], 32, 2, []int8{-1, 0, 1}, false)
		g := Gemm{M: shape[0], N: c.K, K: c.M, Packed: true, Workers: 2}
		a := randFloats(r, g.M*g.K, 1)
		packed := make([]float32, PackedBLen(g.N, g.K))
		c.Panels(packed, 0, g.N/panelCols, 0, g.K)
		want := make([]float32, g.M*g.N)
		runGemm(r, g, a, packed, want)
		g.Packed, g.Source = false, c.Panels
		got, check := guarded(t, g.M*g.N, 5)
		runGemm(r, g, a, nil, got)
		check()
		sameBits(t, fmt.Sprint(shape), got, want)
	}
}

func TestBookPanelsEqualTheirReferenceLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		bits, rows, panels, lds := 1<<r.IntN(4), 1+r.IntN(9), 1+r.IntN(9), r.IntN(3)
		ldp, ldc := rows*panelCols+r.IntN(5), 2*bits*panels+r.IntN(5)
		codes := make([]byte, (rows-1)*ldc+2*bits*panels)
		for i := range codes {
			codes[i] = []byte{byte(r.Uint32()), 0x80}[r.IntN(9)/8]
		}
		values := [16]float32(randFloats(r, 16, 1))
		for i := 1 << min(bits, 4); i < 16; i++ {
			values[i] = values[i&(1<<bits-1)]
		}
		scales := randFloats(r, 1+(rows-1)*lds, 1)
		want := make([]float32, (panels-1)*ldp+rows*panelCols)
		got, check := guarded(t, len(want), 3)
		clear(got)
		bookPanelsRef(bits, want, ldp, codes, ldc, scales, lds, rows, panels, &values)
		bookPanels(bits, got, ldp, codes, ldc, scales, lds, rows, panels, &values)
		check()
		sameBits(t, fmt.Sprintf("%d bits, %d rows of %d panels", bits, rows, panels), got, want)
	}
}

// books are ascending levels: of NF4 and of int4, without a zero, alone, and few.
var books = [][]int8{
	{-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127},
	{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7},
	{-90, -40, -12, -5, 5, 12, 40, 90},
	{-127, 127},
	{3},
	{-3, 1, 2, 9, 100},
}

// hard are values about where a code changes, and those that have no nearest level.
func hard(levels []int8) []float32 {
	inf := float32(math.Inf(1))
	out := []float32{
		0, float32(math.Copysign(0, -1)), 1e-30, -1e-30, 1e-45, -1e-45, 1 << 19, -(1 << 19), 1<<20 - 1, 1 << 20, -(1 << 20), 1e17, 1e30, -1e30,
		math.MaxFloat32, inf, -inf, float32(math.NaN()),
	}
	for i := range len(levels) - 1 {
		half := (float32(levels[i]) + float32(levels[i+1])) / 2
		out = append(out, float32(levels[i]), half, math.Nextafter32(half, inf), math.Nextafter32(half, -inf))
	}
	return out
}

// nearestLevel is what encode means: framework/graph, op encode.
func nearestLevel(v float64, levels []int8) byte {
	best := 0
	for i := range levels {
		if math.Abs(v-float64(levels[i])) < math.Abs(v-float64(levels[best])) {
			best = i
		}
	}
	return byte(best)
}

func TestEncodeTakesTheNearestLevelOfAnyBook(t *testing.T) {
	for _, levels := range books {
		testEncoder(t, levels, 4)
		if len(levels) <= 2 {
			testEncoder(t, levels, 1)
		}
	}
}

func testEncoder(t *testing.T, levels []int8, bits int) {
	r := rand.New(rand.NewPCG(6, 6))
	e, ok := NewEncoder(levels, bits)
	if !ok {
		t.Fatalf("%v is no book", levels)
	}
	special, per := hard(levels), 8/bits
	for n := range 150 {
		for _, rare := range []int{2, 1000} { // most vectors have a wild value, or next to none
			x := randFloats(r, per*n, n%3)
			for i := range x {
				if x[i] *= 80; r.IntN(rare) == 0 {
					x[i] = special[r.IntN(len(special))]
				}
			}
			got := bytes.Repeat([]byte{0xa5}, n+16)
			want := bytes.Clone(got)
			clear(want[8 : 8+n])
			for i, v := range x {
				want[8+i/per] |= nearestLevel(float64(v), levels) << (i % per * bits)
			}
			if e.Encode(got[8:8+n], x); !bytes.Equal(got, want) {
				t.Fatalf("%v, %d bits, %d bytes: %x, want %x, of %v", levels, bits, n, got, want, x)
			}
		}
	}
}

// Every value of a coarse grid over more than the range, its neighbors, and what has no order.
func TestEncodeLevelsRoundsHalvesDown(t *testing.T) {
	inf := float32(math.Inf(1))
	x := []float32{inf, -inf, float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32, 1e-45, -1e-45, 1e-10, -1e-10, float32(math.Copysign(0, -1))}
	for v := float32(-129); v <= 129; v += 0.125 {
		x = append(x, v, math.Nextafter32(v, inf), math.Nextafter32(v, -inf))
	}
	r := rand.New(rand.NewPCG(7, 8))
	for off := range 40 {
		x := x[off:]
		r.Shuffle(len(x), func(i, j int) { x[i], x[j] = x[j], x[i] })
		got := slices.Repeat([]int8{-3}, len(x)+16)
		EncodeLevels(got[8:8+len(x)], x)
		for i, v := range x {
			want := int8(-127)
			for l := -126; l <= 127; l++ { // the first of the nearest
				if float64(v) > float64(l)-0.5 {
					want = int8(l)
				}
			}
			if got[8+i] != want {
				t.Fatalf("%v is encoded as %d, want %d", v, got[8+i], want)
			}
		}
		if !slices.Equal(got[:8], got[8+len(x):]) || got[0] != -3 {
			t.Fatal("wrote beyond its end")
		}
	}
}

func TestABookThatDoesNotAscendHasNoEncoder(t *testing.T) {
	for _, levels := range [][]int8{nil, {1, 0}, {0, 0}, make([]int8, 17)} {
		if _, ok := NewEncoder(levels, 4); ok {
			t.Errorf("%v has one", levels)
		}
	}
	for _, bits := range []int{1, 2, 8} {
		if _, ok := NewEncoder([]int8{1, 2, 3}, bits); ok {
			t.Errorf("three levels have one of %d bits", bits)
		}
	}
}

func TestEncodeBookEqualsItsReferenceLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for round := range 400 {
		levels, bits := books[round%len(books)], 4
		if len(levels) <= 2 && round%4 < 2 {
			bits = 1
		}
		e, _ := NewEncoder(levels, bits)
		n, per := 16*r.IntN(6), 8/bits
		x := randFloats(r, per*n, 1)
		for i := range x {
			x[i] *= 100
		}
		if special := hard(e.levels); n > 0 && round%2 == 0 {
			x[r.IntN(per*n)] = special[r.IntN(len(special))]
		}
		got, want := bytes.Repeat([]byte{0xa5}, n+32), bytes.Repeat([]byte{0xa5}, n+32)
		wild, wantWild := e.encode(got[16:16+n], x), encodeBookRef(bits, want[16:16+n], x, &e.over)
		if wild != wantWild || !bytes.Equal(got, want) {
			t.Fatalf("%x, %v, want %x, %v, of %v", got, wild, want, wantWild, x)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	x := randFloats(rand.New(rand.NewPCG(8, 8)), 4096, 0)
	dst, levels := make([]byte, len(x)), make([]int8, len(x))
	book, _ := NewEncoder(books[0], 4)
	binary, _ := NewEncoder(books[3], 1)
	for _, e := range []struct {
		name string
		f    func()
	}{
		{"bits=1/vector", func() { binary.Encode(dst[:len(x)/8], x) }},
		{"bits=1/reference", func() { binary.encodeRef(dst[:len(x)/8], x) }},
		{"bits=4/vector", func() { book.Encode(dst[:len(x)/2], x) }},
		{"bits=4/reference", func() { book.encodeRef(dst[:len(x)/2], x) }},
		{"bits=8/vector", func() { EncodeLevels(levels, x) }},
		{"bits=8/reference", func() { encodeLevelsRef(levels, x) }},
	} {
		b.Run(e.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				e.f()
			}
		})
	}
}

func BenchmarkBookPanels(b *testing.B) {
	for _, bits := range []int{1, 2, 4, 8} {
		c := randCodes(rand.New(rand.NewPCG(9, 9)), 128, 512, 64, bits, books[0][:min(16, 1<<bits)], false)
		dst := make([]float32, c.M*c.K)
		for name, f := range map[string]func(){
			"vector": func() { c.Panels(dst, 0, 32, 0, c.M) }, "reference": func() { c.panelsRef(dst, 0, 32, 0, c.M) },
		} {
			b.Run(fmt.Sprintf("bits=%d/%s", bits, name), func(b *testing.B) {
				b.SetBytes(int64(4 * len(dst)))
				for b.Loop() {
					f()
				}
			})
		}
	}
}
