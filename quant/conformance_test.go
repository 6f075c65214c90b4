package quant_test

import (
	"testing"

	_ "github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/quanttest"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{
		"none", "ternary", "ternary:group=256", "ternary:group=row", "ternary:group=tensor", "ternary:group=32,scale=f32",
		"binary", "binary:group=row", "binary:group=tensor,scale=f32",
		"int8", "int8:group=row,scale=f32", "int8:group=tensor",
		"int4", "int4:group=32", "int4:group=row,scale=f32", "int4:group=tensor",
	} {
		t.Run(spec, func(t *testing.T) {
			quanttest.Run(t, quanttest.Options{
				Open:    func() (framework.Quantizer, error) { return framework.Quantizers.Open(spec) },
				Backend: func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
			})
		})
	}
}
