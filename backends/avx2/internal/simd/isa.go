package simd

// ISA is the instruction set that a plan's kernels use. All sets give the same bits: they differ in how many elements a
// register holds, never in the order in which one element is computed. Whoever makes a plan knows what the processor has.
type ISA uint8

const (
	AVX2   ISA = iota // AVX2, FMA3 and F16C
	AVX512            // AVX-512 F, BW, DQ, VL, VNNI and VBMI, and GFNI besides
)

// String is the set's name.
func (i ISA) String() string { return [...]string{"avx2", "avx512"}[i] }
