package diagnose_test

import (
	"bytes"
	"strings"
	"testing"

	_ "github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// Code 1 is the zero of ternary weights and a level of int8.
func TestCodesOfAnInt8HeadAreNotThoseOfTheLinears(t *testing.T) {
	c := config("standard")
	c.Dim, c.FFN, c.Quant, c.Head = 32, 32, "ternary:group=32", "int8"
	m := must(model.New(c))
	be := must(framework.Backends.Open("scalar"))
	defer be.Close()
	s := must(be.NewStore())
	defer s.Close()
	put := func(linear, head byte) {
		for _, n := range must(m.LossOf(1, 1, model.Pass{Packed: true})).States {
			if !strings.HasSuffix(n.Name(), ".codes") {
				continue
			}
			x := tensor.New(n.Out[0])
			copy(x.Data, bytes.Repeat([]byte{map[bool]byte{true: head, false: linear}[x.DType == tensor.I8]}, len(x.Data)))
			if err := s.Put(t.Context(), n.Name(), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	codes := must(diagnose.NewCodes(m))
	put(0b01010101, 3) // zeros all
	if zeros, flips, err := codes.Run(t.Context(), s); zeros != 1 || flips != nil || err != nil {
		t.Errorf("zeros %v, flips %v, %v", zeros, flips, err)
	}
	put(0b01010110, 1) // a level of one weight in four is 1
	if zeros, flips, err := codes.Run(t.Context(), s); zeros != 0.75 || flips == nil || *flips != 0.25 || err != nil {
		t.Errorf("zeros %v, flips %v, %v", zeros, flips, err)
	}
}
