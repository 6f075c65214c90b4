package avx2

import (
	"runtime"
	"testing"

	"github.com/ternlm/tern/framework/graph"
)

func freq(d int, theta float64) []float64 { return graph.RoPEAttr{Theta: theta}.Frequencies(d) }

func TestTablesOfAnglesAreSharedByPositionsAlone(t *testing.T) {
	var s shared
	pos, other := make([]int32, 2, 4), make([]int32, 2)
	a := s.angles(pos, 3, freq(8, 1e4))
	if s.angles(pos, 3, freq(8, 1e4)) != a {
		t.Error("the same positions have a table of their own")
	}
	for name, b := range map[string]*angles{
		"positions elsewhere": s.angles(other, 3, freq(8, 1e4)), "more positions": s.angles(pos[:4], 3, freq(8, 1e4)),
		"another length": s.angles(pos, 4, freq(8, 1e4)), "another width": s.angles(pos, 3, freq(16, 1e4)), "another base": s.angles(pos, 3, freq(8, 1e5)),
	} {
		if b == a {
			t.Errorf("%s: shares a table", name)
		}
	}
	// No positions, as a batch of none has them, are no reason to share.
	if s.angles(nil, 1, freq(8, 1e4)); len(s.angles(nil, 1, freq(8, 1e4)).pos) != 0 {
		t.Error("positions of none")
	}
	runtime.KeepAlive(pos)
}

// What the table holds is that of the positions of now, however often they move.
func TestAnglesFollowThePositions(t *testing.T) {
	var s shared
	pos := []int32{5}
	a := s.angles(pos, 1, freq(8, 1e4))
	a.fill(pos)
	at5 := append([]float32{}, a.cos...)
	pos[0] = 6
	a.fill(pos)
	at6 := append([]float32{}, a.cos...)
	pos[0] = 5
	a.fill(pos)
	for i := range at5 {
		if a.cos[i] != at5[i] || at5[0] == at6[0] {
			t.Fatalf("cosines %v at 5, %v again, %v at 6", at5, a.cos, at6)
		}
	}
}
