package main

import (
	"context"
	"math"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

// Codes times scales are within half a gap of levels of what was drawn.
func TestABookTakesTheNearestLevels(t *testing.T) {
	be := openTest(t, "scalar")
	for name, c := range map[string]struct {
		levels []int
		code   tensor.DType
	}{
		"two":     {[]int{-127, 127}, tensor.U1},
		"four":    {[]int{-127, -20, 3, 90}, tensor.U2},
		"five":    {[]int{-127, -20, 3, 90, 127}, tensor.U4},
		"sixteen": {normalBook, tensor.U4},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := newBook(c.levels)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.Format().Code(); got != c.code {
				t.Fatalf("codes %v, want %v", got, c.code)
			}
			states, err := packRandom(context.Background(), be, b, 3, 256)
			if err != nil {
				t.Fatal(err)
			}
			w := make([]float32, 3*256)
			drawNormal(w, "w", 0, 1)
			width := b.Format().Bits
			for i, x := range w {
				largest := 0.0
				for _, y := range w[i/128*128 : i/128*128+128] {
					largest = max(largest, math.Abs(float64(y)))
				}
				scale := float64(states["scales"].F32()[i/128])
				if math.Abs(scale-largest/127) > 1e-6*largest {
					t.Fatalf("scale %d is %v, want %v", i/128, scale, largest/127)
				}
				code := int(states["codes"].Data[i*width/8]) >> (i * width % 8) & (1<<width - 1)
				best := math.Inf(1)
				for _, l := range c.levels {
					best = min(best, math.Abs(float64(x)/scale-float64(l)))
				}
				if off := math.Abs(float64(x)/scale - float64(c.levels[code])); off > best+1e-4 {
					t.Fatalf("weight %d is %v off its level, the nearest is %v off", i, off, best)
				}
			}
		})
	}
}
