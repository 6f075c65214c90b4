package ggml

import (
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// Dequantize writes the float32 values of the elements of data into dst: those
// that ggml's dequantize_row functions (ggml-quants.c) compute, bit for bit.
// Elements that no float32 equals (F64, I32, I64) are rounded to the nearest.
// len(dst) must be a multiple of the type's block and data that many blocks: it
// is ErrFormat if not, or if a block's scale is infinite or NaN. What elements of
// float types are is the caller's concern. Types other than F32, F16, BF16, F64,
// I8, I16, I32, I64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, TQ1_0, TQ2_0
// and Q2_0 are ErrType. It allocates nothing.
func (t Type) Dequantize(dst []float32, data []byte) error {
	d, packed := decoders[t]
	if !packed && !t.plain() {
		return errors.WithHint(errors.Wrapf(ErrType, "%v cannot be dequantized", t),
			"convert the file to another type, such as Q8_0 or F16")
	}
	if err := t.fits(len(dst), len(data)); err != nil {
		return err
	}
	if !packed {
		t.widen(dst, data)
		return nil
	}
	info := types[t]
	for b := range len(dst) / info.block {
		block := data[b*info.bytes:][:info.bytes]
		if err := d.check(b, block); err != nil {
			return err
		}
		d.run(dst[b*info.block:][:info.block], block)
	}
	return nil
}

// plain reports whether t has one number an element.
func (t Type) plain() bool { return types[t].block == 1 }

// fits returns ErrFormat if size bytes are not n elements.
func (t Type) fits(n, size int) error {
	if info := types[t]; n%info.block != 0 || size%info.bytes != 0 || n/info.block != size/info.bytes {
		return malformed("%d elements of %v in %d bytes: blocks have %d elements and %d bytes", n, t, size, info.block, info.bytes)
	}
	return nil
}

// decoder says how to dequantize the blocks of a type.
type decoder struct {
	scales []int // where f16 scales lie
	run    func(dst []float32, block []byte)
}

var decoders = map[Type]decoder{
	Q4_0:  {[]int{0}, dequantQ4_0},
	Q4_1:  {[]int{0, 2}, dequantQ4_1},
	Q5_0:  {[]int{0}, dequantQ5_0},
	Q5_1:  {[]int{0, 2}, dequantQ5_1},
	Q8_0:  {[]int{0}, dequantQ8_0},
	Q4_K:  {[]int{0, 2}, dequantQ4_K},
	Q5_K:  {[]int{0, 2}, dequantQ5_K},
	Q6_K:  {[]int{208}, dequantQ6_K},
	TQ1_0: {[]int{tq1.scale}, dequantTQ1_0},
	TQ2_0: {[]int{tq2.scale}, dequantTQ2_0},
	Q2_0:  {[]int{q2.scale}, dequantQ2_0},
}

// check returns ErrFormat if a scale of block number b is not finite.
func (d decoder) check(b int, block []byte) error {
	for _, at := range d.scales {
		if h := le.Uint16(block[at:]); !finite16(h) {
			return malformed("block %d: its scale is %v", b, tensor.F16ToF32(h))
		}
	}
	return nil
}

// half returns the f16 value that b begins with, which is finite.
func half(b []byte) float32 {
	h := uint32(le.Uint16(b))
	// The fields of f16, moved up, are those of the value times 2^-112.
	return math.Float32frombits(h>>15<<31 | math.Float32bits(float32(math.Float32frombits(h&0x7fff<<13)*0x1p112)))
}

// widen converts the numbers of a plain type; they are as many as dst has.
func (t Type) widen(dst []float32, data []byte) {
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(data[4*i:]))
		}
	case F16:
		for i := range dst {
			if b := data[2*i:]; finite16(le.Uint16(b)) {
				dst[i] = half(b)
			} else {
				dst[i] = tensor.F16ToF32(le.Uint16(b))
			}
		}
	case BF16:
		for i := range dst {
			dst[i] = tensor.BF16ToF32(le.Uint16(data[2*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(data[8*i:])))
		}
	default:
		t.widenInts(dst, data)
	}
}

func (t Type) widenInts(dst []float32, data []byte) {
	switch t {
	case I8:
		for i := range dst {
			dst[i] = float32(int8(data[i]))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(data[2*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(data[4*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(data[8*i:])))
		}
	}
}
