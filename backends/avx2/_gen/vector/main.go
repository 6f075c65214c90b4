// Command vector writes the elementwise, row and quantization assembly of
// package simd.
package main

import b "github.com/mmcloughlin/avo/build"

func main() {
	b.ConstraintExpr("amd64,!purego")
	arithmetic()
	transcendental()
	reductions()
	rows()
	streams()
	halves()
	quantization()
	b.Generate()
}
