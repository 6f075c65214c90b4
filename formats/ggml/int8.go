package ggml

import (
	"io"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// blocksQ8 turns codes i8[M,K], which are levels, and their scales into blocks of
// Q8_0: an f16 scale, then 32 levels (ggml-common.h block_q8_0).
type blocksQ8 struct {
	k      int
	codes  []byte
	scales []float32
}

// newBlocksQ8 checks that Q8_0 holds the codes without loss: a scale for each 32
// weights of a row, every one an f16 value, and no level of -128, which DecodeCodes
// does not read. ErrLossy if not, ErrType for shapes and types that do not fit.
func newBlocksQ8(codes, scales *tensor.Tensor) (*blocksQ8, error) {
	if codes.DType != tensor.I8 || len(codes.Shape) != 2 || codes.Check() != nil {
		return nil, errors.Wrapf(ErrType, "codes are %v, not i8[M,K]", codes.Type)
	}
	if err := fullScales(codes, scales); err != nil {
		return nil, err
	}
	m, k := codes.Shape[0], codes.Shape[1]
	if s := scales.Shape; k%32 != 0 || len(s) != 2 || s[0] != m || s[1] != k/32 {
		return nil, errors.WithHint(errors.Wrapf(ErrLossy, "codes %v with scales %v: %v has one for each 32 weights", codes.Type, scales.Type, Q8_0),
			"train with a group of 32, or export as F16")
	}
	if i := firstMin8(codes.Data); i >= 0 {
		return nil, errors.Wrapf(ErrLossy, "weight %d of %v has level -128", i, codes.Type)
	}
	return &blocksQ8{k: k, codes: codes.Data, scales: scales.F32()}, halfScales(scales.F32())
}

// write writes the blocks, a row at a time.
func (q *blocksQ8) write(w io.Writer) error {
	size := Q8_0.BlockBytes()
	row := make([]byte, q.k/32*size)
	for at := 0; at < len(q.codes); at += q.k {
		for b := range q.k / 32 {
			block := row[b*size:][:size]
			le.PutUint16(block, tensor.F32ToF16(q.scales[at/32+b]))
			copy(block[2:], q.codes[at+32*b:])
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}
