package graph_test

import (
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Codes of type i8 are levels, so that a book beside them is a mistake.
func TestBytesAreTheirOwnLevels(t *testing.T) {
	trace := func(levels []int8) error {
		_, err := graph.Trace(func(b *graph.Builder) {
			codes := b.Encode(b.Input("x", tensor.F32, 3, 4), tensor.I8, levels)
			b.Output("y", b.CodeBookMatMul(b.Input("z", tensor.F32, 2, 4), codes, b.Input("s", tensor.F32, 3, 1), graph.LinearAttr{Levels: levels, ActBits: 8}))
		})
		return err
	}
	if err := trace(nil); err != nil {
		t.Error(err)
	}
	if err := trace([]int8{-1, 1}); err == nil || !strings.Contains(err.Error(), "2 levels for i8 codes") {
		t.Errorf("got %v", err)
	}
}
