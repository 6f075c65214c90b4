package ggml

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// Codes are the integers of a quantized matrix [m,k]: weight [i,j] is
//
//	Levels[Codes[i,j]] * Scales[i,j/group] - Mins[i,j/group]
//
// and with these operations has the bits that Dequantize gives it. The group is
// k divided by the columns of Scales.
type Codes struct {
	Codes  *tensor.Tensor // u2, u4 or i8 [m,k]
	Scales *tensor.Tensor // f32 [m,k/group], finite
	Mins   *tensor.Tensor // f32 [m,k/group], finite; nil where all are zero
	Levels []int8         // by code; nil for i8, whose codes are the levels
}

// groups says how DecodeCodes splits the blocks of a type.
type groups struct {
	dtype  tensor.DType
	levels []int8
	mins   bool
	// split fills the codes of a block and the scales and minima of its groups of
	// 32.
	split func(codes []byte, scales, mins []float32, block []byte)
}

var splitters = map[Type]groups{
	Q4_0: {tensor.U4, []int8{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}, false, splitQ4_0},
	Q4_1: {tensor.U4, []int8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, true, splitQ4_1},
	Q4_K: {tensor.U4, []int8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, true, splitQ4_K},
	Q8_0: {tensor.I8, nil, false, splitQ8_0},
}

// DecodeCodes splits the bytes of an [m,k] matrix into codes and scales, without
// computing weights:
//
//	type          codes  levels                          group  mins
//	Q4_0          u4     -8 to 7                         32
//	Q4_1          u4     0 to 15                         32     yes
//	Q4_K          u4     0 to 15                         32     yes
//	Q8_0          i8     -127 to 127                     32
//	Q2_0          u2     -1 to 2, or to 1 if none is 2   64
//	TQ1_0, TQ2_0  u2     -1 to 1                         256
//
// Other types are ErrType. ErrFormat are data of another length, k that is no
// multiple of the type's block, scales that are not finite, and code 3 in TQ2_0.
// A level of -128 in Q8_0 is ErrLossy: kernels of int8 take levels from -127 on,
// and Dequantize is the way to read it.
func DecodeCodes(t Type, data []byte, m, k int) (Codes, error) {
	return DecodeCodesTo(nil, t, data, m, k)
}

// DecodeCodesTo is DecodeCodes with the codes in dst, where that is as long as
// they are: who converts many weights needs memory for one at a time.
func DecodeCodesTo(dst []byte, t Type, data []byte, m, k int) (Codes, error) {
	if EncodesTwoBit(t) {
		return decodeTwoBit(dst, t, data, m, k)
	}
	g, ok := splitters[t]
	if !ok {
		return Codes{}, errors.WithHint(errors.Wrapf(ErrType, "%v has no codes with a scale for each group", t), "dequantize the tensor")
	}
	if err := t.holds(data, m, k); err != nil {
		return Codes{}, err
	}
	c := Codes{Codes: codesIn(dst, g.dtype, m, k), Scales: tensor.New(tensor.T(tensor.F32, m, k/32)), Levels: slices.Clone(g.levels)}
	scales, mins := c.Scales.F32(), []float32(nil)
	if g.mins {
		c.Mins = tensor.New(c.Scales.Type)
		mins = c.Mins.F32()
	}
	if err := g.decode(t, c.Codes.Data, scales, mins, data); err != nil {
		return Codes{}, err
	}
	if i := firstMin8(c.Codes.Data); t == Q8_0 && i >= 0 {
		return Codes{}, errors.WithHint(errors.Wrapf(ErrLossy, "weight %d of %v [%d,%d] has level -128", i, t, m, k), "dequantize the tensor")
	}
	return c, nil
}

// codesIn returns a tensor [m,k] in dst, or in new memory if dst has another size.
func codesIn(dst []byte, d tensor.DType, m, k int) *tensor.Tensor {
	if typ := tensor.T(d, m, k); len(dst) == typ.Bytes() {
		return &tensor.Tensor{Type: typ, Data: dst}
	}
	return tensor.New(tensor.T(d, m, k))
}

// holds returns ErrFormat if data are not those of an [m,k] matrix.
func (t Type) holds(data []byte, m, k int) error {
	size, err := t.Bytes(tensor.Shape{m, k})
	if err == nil && int64(len(data)) != size {
		err = malformed("%v [%d,%d] is %d bytes, not %d", t, m, k, size, len(data))
	}
	return err
}

// decode splits all blocks of data; mins may be nil.
func (g groups) decode(t Type, codes []byte, scales, mins []float32, data []byte) error {
	info, d := types[t], decoders[t]
	per := info.block / 32
	bytes := len(codes) / (len(data) / info.bytes)
	for b := range len(data) / info.bytes {
		block := data[b*info.bytes:][:info.bytes]
		if err := d.check(b, block); err != nil {
			return err
		}
		var minima []float32
		if g.mins {
			minima = mins[b*per:][:per]
		}
		g.split(codes[b*bytes:][:bytes], scales[b*per:][:per], minima, block)
	}
	return nil
}

func splitQ4_0(codes []byte, scales, _ []float32, block []byte) {
	scales[0] = half(block)
	splitNibbles(codes[:8], codes[8:], block[2:])
}

// splitQ4_1 negates the minimum, which ggml adds.
func splitQ4_1(codes []byte, scales, mins []float32, block []byte) {
	scales[0], mins[0] = half(block), -half(block[2:])
	splitNibbles(codes[:8], codes[8:], block[4:])
}

func splitQ8_0(codes []byte, scales, _ []float32, block []byte) {
	scales[0] = half(block)
	*(*[32]byte)(codes) = [32]byte(block[2:])
}

func splitQ4_K(codes []byte, scales, mins []float32, block []byte) {
	d, dmin := half(block), half(block[2:])
	for j := range 8 {
		scales[j], mins[j] = superScale(d, dmin, j, block)
	}
	for j := range 4 { // 32 bytes are 64 weights, of which 32 are in the high nibbles
		splitNibbles(codes[32*j:][:16], codes[32*j+16:][:16], block[16+32*j:][:32])
	}
}

func decodeTwoBit(dst []byte, t Type, data []byte, m, k int) (Codes, error) {
	as, err := of(t)
	if err != nil {
		return Codes{}, err
	}
	if err := t.holds(data, m, k); err != nil {
		return Codes{}, err
	}
	c := Codes{Codes: codesIn(dst, tensor.U2, m, k), Scales: tensor.New(tensor.T(tensor.F32, m, k/as.block)), Levels: []int8{-1, 0, 1}}
	threes, err := as.decode(c.Codes.Data, c.Scales.F32(), data, 1)
	if err != nil {
		return Codes{}, err
	}
	if threes {
		err := CheckTernary(c.Codes)
		if t != Q2_0 {
			return Codes{}, err
		}
		c.Levels = append(c.Levels, 2)
	}
	return c, nil
}
