// Package simd holds the vector kernels of the AVX2 backend: plain functions over slices.
//
// None of them starts a goroutine or allocates; scratch memory comes from the caller, who also splits work over
// threads. On amd64 they are assembly written by the generators in _gen and need AVX2, FMA and F16C: the caller asks the
// processor first. Everywhere else, and with the tag purego, the same names are the Go reference loops, which give the
// same bits.
//
// The result for an element does not depend on where it lies in a slice or how a slice is split; a reduction's order is a
// function of the row's length alone. Lengths are the caller's duty: a function takes its length from its first
// argument and slices the others to it. Unless said otherwise, a destination may be exactly the memory of an input but
// must not overlap one partly.
package simd

//go:generate go run -C ../../_gen ./vector -out ../internal/simd/vector_amd64.s -stubs ../internal/simd/vector_stub_amd64.go -pkg simd
//go:generate go run -C ../../_gen ./ternary -out ../internal/simd/ternary_amd64.s -stubs ../internal/simd/ternary_stub_amd64.go -pkg simd
