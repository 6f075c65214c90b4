package quant_test

import (
	"testing"

	"github.com/ternlm/tern/framework"
	_ "github.com/ternlm/tern/quant"
)

func TestSpecsParseBack(t *testing.T) {
	for spec, want := range map[string]string{
		"none":                        "none",
		"ternary":                     "ternary:group=128,scale=f16",
		"ternary:group=256":           "ternary:group=256,scale=f16",
		"ternary:group=row,scale=f32": "ternary:group=row,scale=f32",
		"ternary:group=tensor":        "ternary:group=tensor,scale=f16",
		"binary":                      "binary:group=128,scale=f16",
		"binary:group=row":            "binary:group=row,scale=f16",
		"int4":                        "int4:group=128,scale=f16",
		"int8:group=row":              "int8:group=row,scale=f16",
		"int4:group=64,scale=f32":     "int4:group=64,scale=f32",
	} {
		q, err := framework.Quantizers.Open(spec)
		if err != nil {
			t.Fatal(err)
		}
		if q.Spec() != want {
			t.Errorf("%s opens as %s, want %s", spec, q.Spec(), want)
		}
		again, err := framework.Quantizers.Open(q.Spec())
		if err != nil || again != q {
			t.Errorf("%s opens as %v, %v", q.Spec(), again, err)
		}
	}
	for _, spec := range []string{"ternary:group=0", "ternary:group=many", "ternary:scale=f8", "ternary:bits=2", "ternary:group", "binary:group=-1", "int4:scale=f64", "int4:bits=4"} {
		if _, err := framework.Quantizers.Open(spec); err == nil {
			t.Errorf("%s is accepted", spec)
		}
	}
}
