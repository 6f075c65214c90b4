package simd

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
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
		randCodes(r, 4, 32, 16, 2, []int8{-3, 1, 2, 9}, false),
		randCodes(r, 6, 40, 20, 8, nil, false),
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

func TestTernaryPanelsEqualTheirReferenceLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 200 {
		rows, panels, lds := 1+r.IntN(9), 1+r.IntN(9), r.IntN(3)
		ldp, ldc := rows*panelCols+r.IntN(5), 4*panels+r.IntN(5)
		codes := make([]byte, rows*ldc)
		for i := range codes {
			codes[i] = byte(r.Uint32())
		}
		scales := randFloats(r, 1+(rows-1)*lds, 1)
		want := make([]float32, (panels-1)*ldp+rows*panelCols)
		got, check := guarded(t, len(want), 3)
		clear(got)
		ternaryPanelsRef(want, ldp, codes, ldc, scales, lds, rows, panels)
		ternaryPanels(got, ldp, codes, ldc, scales, lds, rows, panels)
		check()
		sameBits(t, fmt.Sprintf("%d rows of %d panels", rows, panels), got, want)
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
