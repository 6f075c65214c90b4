package avx2

import (
	"math"
	"testing"
)

func TestTernaryCodeIsTheNearestLevel(t *testing.T) {
	for _, c := range []struct {
		v    float32
		want byte
	}{
		{-1, 0},
		{0, 1},
		{1, 2},
		{float32(math.Copysign(0, -1)), 1},
		{0.5, 1},
		{-0.5, 1},
		{0.50001, 2},
		{-0.50001, 0},
		{3, 2},
		{-3, 0},
		{1e-30, 1},
		{float32(math.Inf(1)), 2},
		{float32(math.Inf(-1)), 0},
		{math.MaxFloat32, 2},
	} {
		if got := ternaryCode(c.v); got != c.want {
			t.Errorf("%v has code %d, want %d", c.v, got, c.want)
		}
	}
}
