package ggml

import (
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// Quantize writes the blocks of src into dst: the bytes of ggml's
// quantize_row_*_ref functions (ggml-quants.c) and of its conversions to F16 and
// BF16. len(src) must be a multiple of the type's block and dst that many blocks,
// ErrFormat if not. A value that is not finite, or that becomes infinite or has an
// infinite scale in the type, is ErrLossy with its place; what dst holds then is
// not defined. Types other than F32, F16, BF16, Q8_0, TQ1_0, TQ2_0 and Q2_0 are
// ErrType. It allocates nothing.
//
// Where the largest magnitude of a block is so small that one over the scale
// overflows (below 2^-128; times 127 for Q8_0), ggml's result is not defined by C;
// here all levels are zero.
func (t Type) Quantize(dst []byte, src []float32) error {
	if !t.quantizes() {
		return errors.WithHint(errors.Wrapf(ErrType, "%v cannot be written from float32 values", t),
			"choose F32, F16, BF16, Q8_0, TQ1_0, TQ2_0 or Q2_0")
	}
	if err := t.fits(len(src), len(dst)); err != nil {
		return err
	}
	if t.plain() {
		return t.narrow(dst, src)
	}
	info := types[t]
	for i := 0; i < len(src); i += info.block {
		x := src[i : i+info.block]
		largest, place := magnitude(x)
		if !t.quantBlock(dst[i/info.block*info.bytes:][:info.bytes], x, largest) {
			return t.tooLarge(i+place, x[place])
		}
	}
	return nil
}

func (t Type) quantizes() bool {
	switch t {
	case F32, F16, BF16, Q8_0, TQ1_0, TQ2_0, Q2_0:
		return true
	}
	return false
}

func (t Type) tooLarge(place int, v float32) error {
	return errors.WithHint(errors.Wrapf(ErrLossy, "value %d is %v, which %v cannot hold", place, v, t),
		"choose BF16 or F32 where it is finite; else look for what made the weights diverge")
}

// narrow converts to a float type.
func (t Type) narrow(dst []byte, src []float32) error {
	for i, v := range src {
		finite := true
		switch t {
		case F32:
			finite = math.Float32bits(v)&0x7f800000 != 0x7f800000
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		case F16:
			h := tensor.F32ToF16(v)
			finite = finite16(h)
			le.PutUint16(dst[2*i:], h)
		case BF16:
			h := tensor.F32ToBF16(v)
			finite = h&0x7f80 != 0x7f80
			le.PutUint16(dst[2*i:], h)
		}
		if !finite {
			return t.tooLarge(i, v)
		}
	}
	return nil
}

// magnitude returns the largest magnitude of x and its place, where NaN counts as
// larger than all numbers.
func magnitude(x []float32) (largest float32, place int) {
	var m uint32
	for i, v := range x {
		if b := math.Float32bits(v) &^ (1 << 31); b > m {
			m, place = b, i
		}
	}
	return math.Float32frombits(m), place
}

// quantBlock writes one block; it reports whether the scale is finite, which it is
// for finite values that are not too large.
func (t Type) quantBlock(block []byte, x []float32, largest float32) bool {
	switch t {
	case Q8_0:
		d := largest / 127
		inverse := reciprocal(d)
		for i, v := range x {
			block[2+i] = byte(int8(nearest(float32(v * inverse))))
		}
		return putScale(block, d)
	case Q2_0:
		var codes [16]byte
		codesOf(codes[:], x, largest)
		packQ2(block, codes[:])
		return putScale(block[q2.scale:], largest)
	}
	var codes [64]byte
	codesOf(codes[:], x, largest)
	if t == TQ1_0 {
		packTQ1(block, codes[:])
		return putScale(block[tq1.scale:], largest)
	}
	packTQ2(block, codes[:])
	return putScale(block[tq2.scale:], largest)
}

func putScale(dst []byte, d float32) bool {
	h := tensor.F32ToF16(d)
	le.PutUint16(dst, h)
	return finite16(h)
}

// codesOf writes codes u2 of x, whose largest magnitude is level 1.
func codesOf(codes []byte, x []float32, largest float32) {
	inverse := reciprocal(largest)
	for i := range codes {
		var c byte
		for j, v := range x[4*i : 4*i+4] {
			c |= byte(nearest(float32(v*inverse))+1) << (2 * j)
		}
		codes[i] = c
	}
}

// reciprocal returns 1/d, and zero where that is infinite.
func reciprocal(d float32) float32 {
	if r := 1 / d; r <= math.MaxFloat32 {
		return r
	}
	return 0
}

// nearest rounds half away from zero, as C's roundf; v is small.
func nearest(v float32) int32 {
	// In float64 the sum is exact, or so near to a half that it rounds to it.
	if v < 0 {
		return int32(float64(v) - 0.5)
	}
	return int32(float64(v) + 0.5)
}
