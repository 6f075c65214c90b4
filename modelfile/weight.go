package modelfile

import (
	"encoding/binary"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
)

// weight is a tensor of another program's model, still where it comes from.
type weight struct {
	shape tensor.Shape
	// codes says how it is held as a linear layer's weight, and is not quantized
	// where it is held as floats.
	codes layers.Stored
	float tensor.DType // F16 or F32: what holds it, as floats, without loss or as nearly as its type is worth
	// readCodes and readFloats read it; the latter as float. Codes and floats are in
	// dst where that is as long as they are.
	readCodes  func(dst []byte) (ggml.Codes, error)
	readFloats func(dst []byte) (*tensor.Tensor, error)
}

// stored says how w is held: as a linear, or as a table.
func (w *weight) stored(linear bool) layers.Stored {
	if linear && w.codes.Format.Quantized() {
		return w.codes
	}
	return layers.Stored{Float: w.float}
}

// codesOf says which linears of a ggml type are held as codes. Those that were
// trained as ternary were trained with 8-bit activations, the others were not.
func codesOf(t ggml.Type) layers.Stored {
	book := func(bits int, lowest, highest, group int) framework.Format {
		f := framework.Format{Bits: bits, Group: group, F16: t != ggml.Q4_K, ActBits: 8}
		for l := lowest; l <= highest; l++ {
			f.Levels = append(f.Levels, int8(l))
		}
		return f
	}
	switch t {
	case ggml.TQ1_0, ggml.TQ2_0:
		return layers.Stored{Format: book(2, -1, 1, 256)}
	case ggml.Q2_0:
		return layers.Stored{Format: book(2, -1, 1, 64)}
	case ggml.Q4_0:
		return layers.Stored{Format: book(4, -8, 7, 32), Fine: true}
	case ggml.Q4_1, ggml.Q4_K:
		return layers.Stored{Format: book(4, 0, 15, 32), Mins: true, Fine: true}
	case ggml.Q8_0:
		return layers.Stored{Format: framework.Format{Bits: 8, Group: 32, F16: true, ActBits: 8}, Fine: true}
	}
	return layers.Stored{}
}

// floatOf is the type of floats that a tensor of type t is held as. What has
// f16 scales, or six bits and fewer, is not worth more than f16.
func floatOf(t ggml.Type) tensor.DType {
	switch t {
	case ggml.F32, ggml.BF16, ggml.F64, ggml.I8, ggml.I16, ggml.I32, ggml.I64:
		return tensor.F32
	}
	return tensor.F16
}

// source is where the bytes of a tensor lie.
type source struct {
	// view calls use with them; they are not use's to keep.
	view func(use func(data []byte) error) error
	// read fills dst, which is as long as they are.
	read func(dst []byte) error
}

// blocks is the weight that lies in bytes of a ggml type.
func blocks(t ggml.Type, s tensor.Shape, from source) *weight {
	w := &weight{shape: s, float: floatOf(t), codes: codesOf(t)}
	w.readCodes = func(dst []byte) (c ggml.Codes, err error) {
		err = from.view(func(data []byte) error {
			c, err = ggml.DecodeCodesTo(dst, t, data, s[0], s[1])
			return err
		})
		return c, err
	}
	w.readFloats = func(dst []byte) (*tensor.Tensor, error) {
		out := &tensor.Tensor{Type: tensor.Type{DType: w.float, Shape: s}, Data: dst}
		if len(dst) != out.Bytes() {
			out = tensor.New(out.Type)
		}
		if t == ggml.F16 || t == ggml.F32 {
			return out, from.read(out.Data)
		}
		return out, from.view(func(data []byte) error { return dequantize(t, data, out) })
	}
	return w
}

// dequantize fills out, F32 or F16, from blocks, for f16 a few thousand elements
// at a time.
func dequantize(t ggml.Type, data []byte, out *tensor.Tensor) error {
	size, err := t.Bytes(out.Shape)
	switch {
	case err != nil:
		return err
	case int64(len(data)) != size:
		return errors.Wrapf(ErrModel, "%d bytes, %v %v has %d", len(data), t, out.Shape, size)
	case out.DType == tensor.F32:
		return t.Dequantize(out.F32(), data)
	}
	halves, row := out.U16(), make([]float32, 16*t.Block()*max(1, 256/t.Block()))
	for at := 0; at < len(halves); at += len(row) {
		n := min(len(row), len(halves)-at)
		if err := t.Dequantize(row[:n], data[at/t.Block()*t.BlockBytes():][:n/t.Block()*t.BlockBytes()]); err != nil {
			return err
		}
		for i, v := range row[:n] {
			halves[at+i] = tensor.F32ToF16(v)
		}
	}
	return nil
}

// pairRows gives the rows of t [M,...], M rows of heads of width d, the order in
// which the two elements that rotary positions turn together are neighbors: rows
// i and i + d/2 of a head become 2i and 2i + 1.
func pairRows(t *tensor.Tensor, d int) *tensor.Tensor {
	return permuteRows(t, func(r int) int { return r/d*d + r%d/2 + r%2*(d/2) })
}

// halveRows is the inverse of pairRows.
func halveRows(t *tensor.Tensor, d int) *tensor.Tensor {
	return permuteRows(t, func(r int) int {
		if i := r % d; i < d/2 {
			return r/d*d + 2*i
		} else {
			return r/d*d + 2*(i-d/2) + 1
		}
	})
}

// permuteRows returns t [M,...] with row from(r) at r; a single row, such as one
// scale for all, stays.
func permuteRows(t *tensor.Tensor, from func(r int) int) *tensor.Tensor {
	if t.Shape[0] == 1 {
		return t
	}
	out := tensor.New(t.Type)
	bytes := len(t.Data) / t.Shape[0]
	for r := range t.Shape[0] {
		copy(out.Data[r*bytes:(r+1)*bytes], t.Data[from(r)*bytes:])
	}
	return out
}

// hasLevel2 reports whether the two-bit codes of Q2_0 blocks have a code 3.
func hasLevel2(data []byte) bool {
	const size = 18 // an f16 scale, and 16 bytes of codes
	for ; len(data) >= size; data = data[size:] {
		a, b := binary.LittleEndian.Uint64(data[2:]), binary.LittleEndian.Uint64(data[10:])
		if (a&(a>>1)|b&(b>>1))&0x5555555555555555 != 0 {
			return true
		}
	}
	return false
}

// scaled multiplies the scales of c by v.
func scaled(c ggml.Codes, v float32) ggml.Codes {
	s := tensor.New(c.Scales.Type)
	for i, x := range c.Scales.F32() {
		s.F32()[i] = x * v
	}
	c.Scales = s
	return c
}
