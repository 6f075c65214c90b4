package ggml

import (
	"io"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// twoBit is a type of blocks whose codes u2 holds, code = level + 1, with an f16
// scale: ggml-common.h block_q2_0, block_tq1_0 and block_tq2_0.
type twoBit struct {
	block, bytes int // weights and bytes of a block
	scale        int // where the scale lies
	ternary      bool
	// pack writes a block's codes from block/4 bytes in the order of tensor.U2:
	// code j in bits 2(j%4) of byte j/4; unpack is its inverse.
	pack, unpack func(dst, src []byte)
}

var (
	q2  = twoBit{block: 64, bytes: 18, scale: 0, pack: packQ2, unpack: unpackQ2}
	tq1 = twoBit{block: 256, bytes: 54, scale: 52, ternary: true, pack: packTQ1, unpack: unpackTQ1}
	tq2 = twoBit{block: 256, bytes: 66, scale: 64, ternary: true, pack: packTQ2, unpack: unpackTQ2}
)

// Group sizes that are no number of weights, for Decode; the values are
// those of framework.GroupRow and framework.GroupTensor.
const (
	PerRow    = -1 // one scale a row
	PerTensor = -2 // one scale in all
)

// EncodesTwoBit reports whether t is a type that codes u2 and scales become:
// Q2_0, TQ1_0 or TQ2_0.
func EncodesTwoBit(t Type) bool { return t == Q2_0 || t == TQ1_0 || t == TQ2_0 }

// Writer returns what writes the bytes of Encode, a row at a time. It takes Q8_0 too,
// of codes i8[M,K] that are levels from -127 on and scales f32[M,K/32].
func Writer(t Type, codes, scales *tensor.Tensor) (func(io.Writer) error, error) {
	if t == Q8_0 {
		q, err := newBlocksQ8(codes, scales)
		if err != nil {
			return nil, err
		}
		return q.write, nil
	}
	q, err := newPacker(t, codes, scales)
	if err != nil {
		return nil, err
	}
	return q.write, nil
}

// Encode returns the bytes of type t, Q2_0, TQ1_0 or TQ2_0, of codes u2[M,K]
// (code = level + 1) and scales f32[M,K/group], f32[M,1] for a scale a row, or a
// single scale (f32[], f32[1] or f32[1,1]) for one in all. K and the group must
// be multiples of the type's block, every scale an f16 value, and only for Q2_0
// may codes be 3, so that nothing is lost: ErrLossy if not. Shapes and types
// that do not fit are ErrType.
func Encode(t Type, codes, scales *tensor.Tensor) ([]byte, error) {
	q, err := newPacker(t, codes, scales)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, q.rows*q.k/q.as.block*q.as.bytes)
	for r := range q.rows {
		out = q.appendRow(out, r)
	}
	return out, nil
}

// packer turns codes and scales into blocks.
type packer struct {
	as      twoBit
	rows, k int
	group   int // weights that share a scale, within a row
	stride  int // scales to go on from row to row; 0 with one in all
	codes   []byte
	scales  []float32
}

// of returns the type's description; ErrType for others.
func of(t Type) (twoBit, error) {
	switch t {
	case Q2_0:
		return q2, nil
	case TQ1_0:
		return tq1, nil
	case TQ2_0:
		return tq2, nil
	}
	return twoBit{}, errors.Wrapf(ErrType, "%v has no two-bit codes", t)
}

func newPacker(t Type, codes, scales *tensor.Tensor) (*packer, error) {
	as, err := of(t)
	if err != nil {
		return nil, err
	}
	if codes.DType != tensor.U2 || len(codes.Shape) != 2 || codes.Check() != nil {
		return nil, errors.Wrapf(ErrType, "codes are %v, not u2[M,K]", codes.Type)
	}
	if err := fullScales(codes, scales); err != nil {
		return nil, err
	}
	q := &packer{as: as, rows: codes.Shape[0], k: codes.Shape[1], codes: codes.Data, scales: scales.F32()}
	switch s := scales.Shape; {
	case s.Numel() == 1:
		q.group = q.k
	case len(s) == 2 && s[0] == q.rows && s[1] > 0 && q.k%s[1] == 0:
		q.group, q.stride = q.k/s[1], s[1]
	default:
		return nil, errors.Wrapf(ErrType, "scales %v do not fit codes %v", scales.Type, codes.Type)
	}
	if q.k%as.block != 0 || q.group%as.block != 0 {
		return nil, errors.WithHintf(errors.Wrapf(ErrLossy, "codes %v with a scale for each %d weights: %v has one for each %d", codes.Type, q.group, t, as.block),
			"train with a group that is a multiple of %d, or export as F16", as.block)
	}
	if as.ternary {
		if err := CheckTernary(codes); err != nil {
			return nil, errors.Mark(err, ErrLossy)
		}
	}
	return q, halfScales(q.scales)
}

// fullScales returns ErrType for scales that are not f32, and for data of another
// length than the types say.
func fullScales(codes, scales *tensor.Tensor) error {
	if scales.DType != tensor.F32 {
		return errors.Wrapf(ErrType, "scales are %v, not f32", scales.Type)
	}
	if len(codes.Data) != codes.Bytes() || len(scales.Data) != scales.Bytes() {
		return errors.Wrapf(ErrType, "codes %v hold %d bytes, scales %v %d", codes.Type, len(codes.Data), scales.Type, len(scales.Data))
	}
	return nil
}

// halfScales returns ErrLossy for scales that a block's f16 does not hold.
func halfScales(scales []float32) error {
	for i, s := range scales {
		if tensor.F16ToF32(tensor.F32ToF16(s)) != s || math.IsInf(float64(s), 0) {
			return errors.WithHint(errors.Wrapf(ErrLossy, "scale %d is %v, which is no finite f16 value", i, s),
				"train with scales rounded to f16, as the ternary quantizer's are")
		}
	}
	return nil
}

// appendRow appends the blocks of row r.
func (q *packer) appendRow(out []byte, r int) []byte {
	codes := q.codes[r*q.k/4 : (r+1)*q.k/4]
	at, step := len(out), q.as.block/4
	out = append(out, make([]byte, q.k/q.as.block*q.as.bytes)...)
	for _, s := range q.scales[r*q.stride:][:q.k/q.group] {
		h := tensor.F32ToF16(s)
		for range q.group / q.as.block {
			block := out[at:][:q.as.bytes]
			q.as.pack(block, codes[:step])
			le.PutUint16(block[q.as.scale:], h)
			at, codes = at+q.as.bytes, codes[step:]
		}
	}
	return out
}

func (q *packer) write(w io.Writer) error {
	buf := make([]byte, 0, q.k/q.as.block*q.as.bytes)
	for r := range q.rows {
		if _, err := w.Write(q.appendRow(buf, r)); err != nil {
			return err
		}
	}
	return nil
}

// Decode splits the bytes of an [m,k] matrix of type t, Q2_0, TQ1_0 or TQ2_0,
// into codes u2[m,k] (code = level + 1, so 3 is level 2) and scales f32[m,k/group],
// f32[m,1] for PerRow or f32[1,1] for PerTensor. The blocks of a group must have
// the same scale: ErrLossy if not. A group that is no multiple of the type's
// block or does not divide k, and another type, is ErrType, data of another
// length or a scale that is not finite ErrFormat.
func Decode(t Type, data []byte, m, k, group int) (codes, scales *tensor.Tensor, err error) {
	as, err := of(t)
	if err != nil {
		return nil, nil, err
	}
	if err := t.holds(data, m, k); err != nil {
		return nil, nil, err
	}
	rows, span := m, group // span: weights of a row that share a scale
	switch {
	case group == PerRow:
		span = k
	case group == PerTensor:
		rows, span = 1, k
	case group <= 0 || group%as.block != 0 || k%group != 0:
		return nil, nil, errors.WithHint(errors.Wrapf(ErrType, "a group of %d does not divide rows of %d, or is no multiple of %d", group, k, as.block),
			"use the group size that the model was trained with, as the file's metadata gives it")
	}
	codes = tensor.New(tensor.T(tensor.U2, m, k))
	scales = tensor.New(tensor.T(tensor.F32, rows, k/span))
	per := span / as.block // blocks that share a scale
	if group == PerTensor {
		per *= m
	}
	_, err = as.decode(codes.Data, scales.F32(), data, per)
	return codes, scales, err
}

// decode fills codes, and scales with one for each per blocks. It reports whether
// a code is 3.
func (as twoBit) decode(codes []byte, scales []float32, data []byte, per int) (threes bool, err error) {
	var shared uint16 // the scale of the blocks at hand, and how many of them are left
	left := 0
	seen := uint64(0) // bits of codes 3, at even places
	for b := range len(data) / as.bytes {
		block := data[b*as.bytes:][:as.bytes]
		out := codes[b*as.block/4:][:as.block/4]
		as.unpack(out, block)
		for i := 0; i < len(out); i += 8 { // while they are near
			x := le.Uint64(out[i:])
			seen |= x & (x >> 1)
		}
		s := le.Uint16(block[as.scale:])
		if !finite16(s) {
			return false, malformed("block %d: its scale is %v", b, tensor.F16ToF32(s))
		}
		switch {
		case left == 0:
			scales[b/per] = tensor.F16ToF32(s)
			shared, left = s, per
		case s != shared:
			return false, errors.WithHintf(errors.Wrapf(ErrLossy, "block %d: its scale %v is not its group's %v", b, tensor.F16ToF32(s), tensor.F16ToF32(shared)),
				"read the tensor with a smaller group, at the least %d", as.block)
		}
		left--
	}
	return seen&0x5555555555555555 != 0, nil
}

// finite16 reports whether the f16 value is neither infinite nor NaN.
func finite16(h uint16) bool { return h&0x7c00 != 0x7c00 }

// CheckTernary returns an error if a code of u2 codes is 3, which stands for
// level 2 and is no ternary weight: ErrFormat, with the place.
func CheckTernary(codes *tensor.Tensor) error {
	i := firstThree(codes.Data)
	if i < 0 {
		return nil
	}
	return errors.WithHint(errors.Wrapf(ErrFormat, "weight %d of %v has code 3, level 2", i, codes.Type),
		"the tensor is two-bit but not ternary, or damaged")
}
