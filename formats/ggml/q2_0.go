package ggml

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// A Q2_0 block is an f16 scale and 64 two-bit codes, code j in bits 2(j%4) of
// byte j/4: the order of tensor.U2. A weight is (code-1) * scale, so the
// levels are -1, 0, 1, 2 (ggml-common.h block_q2_0, QK2_0 = 64;
// dequantize_row_q2_0).
const (
	q2Block = 64
	q2Codes = q2Block / 4
	q2Bytes = 2 + q2Codes
)

// Group sizes that are no number of weights, for DecodeQ2_0; the
// values are those of framework.GroupRow and framework.GroupTensor.
const (
	PerRow    = -1 // one scale a row
	PerTensor = -2 // one scale in all
)

// WriterQ2_0 returns what writes EncodeQ2_0's bytes, a row at a time.
func WriterQ2_0(codes, scales *tensor.Tensor) (func(io.Writer) error, error) {
	q, err := newPacker(codes, scales)
	if err != nil {
		return nil, err
	}
	return q.write, nil
}

// EncodeQ2_0 returns the Q2_0 bytes of codes u2[M,K] (code = level + 1) and
// scales f32[M,K/group], f32[M,1] for a scale a row, or a single scale (f32[],
// f32[1] or f32[1,1]) for one in all. K and the group must be multiples of 64
// and every scale an f16 value, so that nothing is lost: ErrLossy if not.
// Shapes and types that do not fit are ErrType.
func EncodeQ2_0(codes, scales *tensor.Tensor) ([]byte, error) {
	q, err := newPacker(codes, scales)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, q.rows*q.k/q2Block*q2Bytes)
	for r := range q.rows {
		out = q.appendRow(out, r)
	}
	return out, nil
}

// packer turns codes and scales into blocks.
type packer struct {
	rows, k int
	group   int // weights that share a scale, within a row
	stride  int // scales to go on from row to row; 0 with one in all
	codes   []byte
	scales  []float32
}

func newPacker(codes, scales *tensor.Tensor) (*packer, error) {
	if codes.DType != tensor.U2 || len(codes.Shape) != 2 {
		return nil, errors.Wrapf(ErrType, "codes are %v, not u2[M,K]", codes.Type)
	}
	if scales.DType != tensor.F32 {
		return nil, errors.Wrapf(ErrType, "scales are %v, not f32", scales.Type)
	}
	if len(codes.Data) != codes.Bytes() || len(scales.Data) != scales.Bytes() {
		return nil, errors.Wrapf(ErrType, "codes %v hold %d bytes, scales %v %d", codes.Type, len(codes.Data), scales.Type, len(scales.Data))
	}
	q := &packer{rows: codes.Shape[0], k: codes.Shape[1], codes: codes.Data, scales: scales.F32()}
	switch s := scales.Shape; {
	case s.Numel() == 1:
		q.group = q.k
	case len(s) == 2 && s[0] == q.rows && s[1] > 0 && q.k%s[1] == 0:
		q.group, q.stride = q.k/s[1], s[1]
	default:
		return nil, errors.Wrapf(ErrType, "scales %v do not fit codes %v", scales.Type, codes.Type)
	}
	if q.k%q2Block != 0 || q.group%q2Block != 0 {
		return nil, errors.WithHint(errors.Wrapf(ErrLossy, "codes %v with a scale for each %d weights: Q2_0 has one for each %d", codes.Type, q.group, q2Block),
			"train with a group that is a multiple of 64, or export as F16")
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
	for j := 0; j < q.k; j += q2Block {
		s := q.scales[r*q.stride+j/q.group]
		out = binary.LittleEndian.AppendUint16(out, tensor.F32ToF16(s))
		out = append(out, row[j/4:j/4+q2Codes]...)
	}
	return out
}

func (q *packer) write(w io.Writer) error {
	buf := make([]byte, 0, q.k/q2Block*q2Bytes)
	for r := range q.rows {
		if _, err := w.Write(q.appendRow(buf, r)); err != nil {
			return err
		}
	}
	return nil
}

// DecodeQ2_0 splits the Q2_0 bytes of an [m,k] matrix into codes u2[m,k] (code
// = level + 1, so 3 is level 2) and scales f32[m,k/group], f32[m,1] for PerRow
// or f32[1,1] for PerTensor. The blocks of a group must have the same scale:
// ErrLossy if not. A group that is no multiple of 64 or does not divide k is
// ErrType, data of another length or a scale that is not finite ErrFormat.
func DecodeQ2_0(data []byte, m, k, group int) (codes, scales *tensor.Tensor, err error) {
	size, err := Q2_0.Bytes(tensor.Shape{m, k})
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) != size {
		return nil, nil, malformed("Q2_0 [%d,%d] is %d bytes, not %d", m, k, len(data), size)
	}
	rows, span := m, group // span: weights of a row that share a scale
	switch {
	case group == PerRow:
		span = k
	case group == PerTensor:
		rows, span = 1, k
	case group <= 0 || group%q2Block != 0 || k%group != 0:
		return nil, nil, errors.WithHint(errors.Wrapf(ErrType, "a group of %d does not divide rows of %d, or is no multiple of %d", group, k, q2Block),
			"use the group size that the model was trained with, as the file's metadata gives it")
	}
	codes = tensor.New(tensor.T(tensor.U2, m, k))
	scales = tensor.New(tensor.T(tensor.F32, rows, k/span))
	out := scales.F32()
	for b := range m * k / q2Block {
		block := data[b*q2Bytes : (b+1)*q2Bytes]
		copy(codes.Data[b*q2Codes:], block[2:])
		s := tensor.F16ToF32(binary.LittleEndian.Uint16(block))
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return nil, nil, malformed("block %d: its scale is %v", b, s)
		}
		g := 0 // the block's scale among scales
		if group != PerTensor {
			g = b * q2Block / span
		}
		if b*q2Block%span == 0 && (b == 0 || group != PerTensor) {
			out[g] = s
		} else if math.Float32bits(out[g]) != math.Float32bits(s) {
			return nil, nil, errors.WithHint(errors.Wrapf(ErrLossy, "block %d: its scale %v is not its group's %v", b, s, out[g]),
				"read the tensor with a smaller group, at the least 64")
		}
	}
	return codes, scales, nil
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
