package avx2

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/cpuid/v2"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/framework"
)

// features are what a processor must have for an instruction set.
func features(isa simd.ISA) []cpuid.FeatureID {
	f := []cpuid.FeatureID{cpuid.AVX2, cpuid.FMA3, cpuid.F16C}
	if isa == simd.AVX512 {
		f = append(f, cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI, cpuid.AVX512VBMI, cpuid.GFNI)
	}
	return f
}

// lacks lists the features that a processor must have for an instruction set
// and has not.
func lacks(isa simd.ISA, has func(cpuid.FeatureID) bool) []string {
	var names []string
	for _, f := range features(isa) {
		if !has(f) {
			names = append(names, f.String())
		}
	}
	return names
}

// chooseISA finds the instruction set that the option isa asks for, of a
// processor that has at least AVX2.
func chooseISA(option string, has func(cpuid.FeatureID) bool) (simd.ISA, error) {
	missing := lacks(simd.AVX512, has)
	switch {
	case option == simd.AVX2.String() || option == autoISA && len(missing) > 0:
		return simd.AVX2, nil
	case len(missing) > 0:
		err := errors.Wrapf(framework.ErrUnsupported, "isa=%s: processor %q lacks %s", option, cpuid.CPU.BrandName, strings.Join(missing, ", "))
		return simd.AVX2, errors.WithHint(err, "leave isa out, which takes what the processor has")
	}
	return simd.AVX512, nil
}

// autoISA is the option's default: the largest set that the processor has.
const autoISA = "auto"

// isaNames are the values of the option isa, the default first.
var isaNames = slices.Concat([]string{autoISA}, []string{simd.AVX2.String(), simd.AVX512.String()})
