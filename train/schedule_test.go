package train

import (
	"math"
	"testing"
)

func TestFactorFollowsTheSchedule(t *testing.T) {
	wsd := Recipe{Steps: 1000, Schedule: "wsd", Warmup: 100, Stable: 0.8, Floor: 0.1}
	cosine := Recipe{Steps: 1000, Schedule: "cosine", Warmup: 100, Floor: 0}
	for _, c := range []struct {
		name string
		r    Recipe
		step int
		want float64
	}{
		{"first step of the warm-up", wsd, 0, 0.01},
		{"last step of the warm-up", wsd, 99, 1},
		{"stable", wsd, 500, 1},
		{"start of the decay", wsd, 800, 1},
		{"middle of the decay", wsd, 900, 0.55},
		{"end of the decay", wsd, 1000, 0.1},
		{"beyond the end", wsd, 5000, 0.1},
		{"cosine's middle", cosine, 550, 0.5},
		{"cosine's end", cosine, 1000, 0},
	} {
		if got := c.r.Factor(c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
