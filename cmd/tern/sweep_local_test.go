package main

import (
	"testing"

	"github.com/ternlm/tern/sweep"
)

func TestTrialsOnADeviceRunOneByOne(t *testing.T) {
	plan := func(backends ...string) *sweep.Dir {
		d := &sweep.Dir{}
		for _, b := range backends {
			d.Plan.Trials = append(d.Plan.Trials, sweep.Trial{Settings: map[string]string{"backend": b}})
		}
		return d
	}
	for name, c := range map[string]struct {
		d    *sweep.Dir
		jobs int
		want int
	}{
		"on the processor":          {plan("avx2", "scalar"), 0, 0},
		"on the processor, so many": {plan("avx2"), 3, 3},
		"on a device":               {plan("gpu"), 0, 1},
		"on a device, with options": {plan("gpu:device=1,precision=f32"), 0, 1},
		"some of them":              {plan("avx2", "gpu"), 0, 1},
		"on a device, one by one":   {plan("gpu"), 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			jobs, _, err := shareOut(c.d, c.jobs)
			if err != nil || jobs != c.want {
				t.Errorf("%d at once, error %v, want %d", jobs, err, c.want)
			}
		})
	}
}
