package avx2_test

import (
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/framework"
)

// eachISA runs f with the spec of a backend of each instruction set.
func eachISA(t *testing.T, f func(t *testing.T, spec string)) {
	t.Helper()
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
	for _, isa := range []string{"avx2", "avx512"} {
		t.Run(isa, func(t *testing.T) {
			spec := "avx2:isa=" + isa
			be, err := framework.Backends.Open(spec)
			if isa != "avx2" && errors.Is(err, framework.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = be.Close()
			f(t, spec)
		})
	}
}

// open opens a backend for the test.
func open(t *testing.T, spec string) framework.Backend {
	t.Helper()
	be, err := framework.Backends.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = be.Close() })
	return be
}
