package framework

import "testing"

func TestNearestName(t *testing.T) {
	for _, c := range []struct {
		name  string
		known []string
		want  string
	}{
		{"tinny", []string{"nano-125m", "stories", "tiny"}, "tiny"},
		{"nano", []string{"nano-125m", "stories", "tiny"}, "nano-125m"},
		{"mhc", []string{"scaled", "mhclite", "standard"}, "mhclite"},
		{"matrix-rl", []string{"matrix-decay", "matrix-lr"}, "matrix-lr"},
		{"matrix", []string{"matrix-decay", "matrix-lr"}, "matrix-lr"}, // the shorter of two beginnings
		{"scale", []string{"stale", "scaled"}, "scaled"},               // a beginning before a slip
		{"zzzz", []string{"scaled", "mhclite"}, ""},
		{"", []string{"scaled"}, ""},
		{"x", nil, ""},
	} {
		if got := Nearest(c.name, c.known); got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.name, c.known, got, c.want)
		}
	}
}
