package ggml

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// twoBit is a type of blocks with two-bit codes, code = level + 1, and an f16
// scale: ggml-common.h block_q2_0 and block_tq2_0.
type twoBit struct {
	block int // weights
	codes int // where the block/4 bytes of codes begin
	scale int // where the scale lies
	// arrange copies block/4 bytes between the type's order of codes and that of
	// tensor.U2: code j in bits 2(j%4) of byte j/4.
	arrange func(dst, src []byte)
	restore func(dst, src []byte)
}

func keep(dst, src []byte) { copy(dst, src) }

var (
	// q2 has the order of tensor.U2. The levels are -1, 0, 1 and 2
	// (dequantize_row_q2_0).
	q2 = twoBit{block: 64, codes: 2, scale: 0, arrange: keep, restore: keep}
	// tq2 has weight 128h + 32n + m in bits 2n of byte 32h + m; code 3 is not
	// used (dequantize_row_tq2_0).
	tq2 = twoBit{block: 256, codes: 0, scale: 64, arrange: interleave, restore: deinterleave}
)

// bytes is the size of a block.
func (b twoBit) bytes() int { return 2 + b.block/4 }

// interleave gives 64 bytes of codes the order of TQ2_0.
func interleave(dst, src []byte) {
	for i := range 64 {
		var v byte
		for n := range 4 {
			at := i/32*128 + n*32 + i%32
			v |= src[at/4] >> (at % 4 * 2) & 3 << (2 * n)
		}
		dst[i] = v
	}
}

// deinterleave is the inverse of interleave.
func deinterleave(dst, src []byte) {
	for i := range 64 {
		var v byte
		for j := range 4 {
			at := 4*i + j
			v |= src[at/128*32+at%32] >> (at / 32 % 4 * 2) & 3 << (2 * j)
		}
		dst[i] = v
	}
}

// Group sizes that are no number of weights, for Decode; the values are
// those of framework.GroupRow and framework.GroupTensor.
const (
	PerRow    = -1 // one scale a row
	PerTensor = -2 // one scale in all
)

// EncodesTwoBit reports whether t is a type that codes and scales become: Q2_0
// or TQ2_0.
func EncodesTwoBit(t Type) bool { return t == Q2_0 || t == TQ2_0 }

// Writer returns what writes the bytes of Encode, a row at a time.
func Writer(t Type, codes, scales *tensor.Tensor) (func(io.Writer) error, error) {
	q, err := newPacker(t, codes, scales)
	if err != nil {
		return nil, err
	}
	return q.write, nil
}

// Encode returns the bytes of type t, Q2_0 or TQ2_0, of codes u2[M,K] (code =
// level + 1) and scales f32[M,K/group], f32[M,1] for a scale a row, or a single
// scale (f32[], f32[1] or f32[1,1]) for one in all. K and the group must be
// multiples of the type's block, every scale an f16 value, and for TQ2_0 no code
// 3, so that nothing is lost: ErrLossy if not. Shapes and types that do not fit
// are ErrType.
func Encode(t Type, codes, scales *tensor.Tensor) ([]byte, error) {
	q, err := newPacker(t, codes, scales)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, q.rows*q.k/q.as.block*q.as.bytes())
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
	if codes.DType != tensor.U2 || len(codes.Shape) != 2 {
		return nil, errors.Wrapf(ErrType, "codes are %v, not u2[M,K]", codes.Type)
	}
	if scales.DType != tensor.F32 {
		return nil, errors.Wrapf(ErrType, "scales are %v, not f32", scales.Type)
	}
	if len(codes.Data) != codes.Bytes() || len(scales.Data) != scales.Bytes() {
		return nil, errors.Wrapf(ErrType, "codes %v hold %d bytes, scales %v %d", codes.Type, len(codes.Data), scales.Type, len(scales.Data))
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
	if t == TQ2_0 {
		if err := CheckTernary(codes); err != nil {
			return nil, errors.Mark(err, ErrLossy)
		}
	}
	for i, s := range q.scales {
		if tensor.F16ToF32(tensor.F32ToF16(s)) != s || math.IsInf(float64(s), 0) {
			return nil, errors.WithHint(errors.Wrapf(ErrLossy, "scale %d is %v, which is no finite f16 value", i, s),
				"train with scales rounded to f16, as the ternary quantizer's are")
		}
	}
	return q, nil
}

// appendRow appends the blocks of row r.
func (q *packer) appendRow(out []byte, r int) []byte {
	row := q.codes[r*q.k/4 : (r+1)*q.k/4]
	for j := 0; j < q.k; j += q.as.block {
		at := len(out)
		out = append(out, make([]byte, q.as.bytes())...)
		s := q.scales[r*q.stride+j/q.group]
		binary.LittleEndian.PutUint16(out[at+q.as.scale:], tensor.F32ToF16(s))
		q.as.arrange(out[at+q.as.codes:][:q.as.block/4], row[j/4:])
	}
	return out
}

func (q *packer) write(w io.Writer) error {
	buf := make([]byte, 0, q.k/q.as.block*q.as.bytes())
	for r := range q.rows {
		if _, err := w.Write(q.appendRow(buf, r)); err != nil {
			return err
		}
	}
	return nil
}

// Decode splits the bytes of an [m,k] matrix of type t, Q2_0 or TQ2_0, into
// codes u2[m,k] (code = level + 1, so 3 is level 2) and scales f32[m,k/group],
// f32[m,1] for PerRow or f32[1,1] for PerTensor. The blocks of a group must have
// the same scale: ErrLossy if not. A group that is no multiple of the type's
// block or does not divide k, and another type, is ErrType, data of another
// length or a scale that is not finite ErrFormat.
func Decode(t Type, data []byte, m, k, group int) (codes, scales *tensor.Tensor, err error) {
	as, err := of(t)
	if err != nil {
		return nil, nil, err
	}
	size, err := t.Bytes(tensor.Shape{m, k})
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) != size {
		return nil, nil, malformed("%v [%d,%d] is %d bytes, not %d", t, m, k, len(data), size)
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
	return codes, scales, as.decode(codes.Data, scales.F32(), data, span, group == PerTensor)
}

// decode fills codes and scales, one for each span weights or, with single, one
// in all.
func (as twoBit) decode(codes []byte, scales []float32, data []byte, span int, single bool) error {
	for b := range len(data) / as.bytes() {
		block := data[b*as.bytes() : (b+1)*as.bytes()]
		as.restore(codes[b*as.block/4:][:as.block/4], block[as.codes:][:as.block/4])
		s := tensor.F16ToF32(binary.LittleEndian.Uint16(block[as.scale:]))
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return malformed("block %d: its scale is %v", b, s)
		}
		g := 0 // the block's scale among scales
		if !single {
			g = b * as.block / span
		}
		if b*as.block%span == 0 && (b == 0 || !single) {
			scales[g] = s
		} else if math.Float32bits(scales[g]) != math.Float32bits(s) {
			return errors.WithHintf(errors.Wrapf(ErrLossy, "block %d: its scale %v is not its group's %v", b, s, scales[g]),
				"read the tensor with a smaller group, at the least %d", as.block)
		}
	}
	return nil
}

// CheckTernary returns an error if a code of u2 codes is 3, which stands for
// level 2 and is no ternary weight: ErrFormat, with the place.
func CheckTernary(codes *tensor.Tensor) error {
	for i, b := range codes.Data {
		if b&(b>>1)&0x55 == 0 {
			continue
		}
		for j := range 4 {
			if b>>(2*j)&3 == 3 {
				return errors.WithHint(errors.Wrapf(ErrFormat, "weight %d of %v has code 3, level 2", 4*i+j, codes.Type),
					"the tensor is two-bit but not ternary, or damaged")
			}
		}
	}
	return nil
}
