package simd

import (
	"testing"

	"github.com/klauspost/cpuid/v2"
)

// eachISA runs f with every instruction set that this processor has. A build without assembly has the loops of both.
func eachISA(t *testing.T, f func(t *testing.T, isa ISA)) {
	t.Helper()
	for _, isa := range []ISA{AVX2, AVX512} {
		t.Run(isa.String(), func(t *testing.T) {
			needISA(t, isa)
			f(t, isa)
		})
	}
}

// needISA skips a test or benchmark of instructions that this processor lacks.
func needISA(t testing.TB, isa ISA) {
	t.Helper()
	if isa == AVX512 && havePanels && !cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI, cpuid.AVX512VBMI, cpuid.GFNI) {
		t.Skip("this processor has no AVX-512 as of Ice Lake and Zen 4")
	}
}
