package ggml

import (
	"bytes"
	"math"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

func TestQ8_0IsWrittenFromCodesToTheBytesOfGGML(t *testing.T) {
	data, _ := golden(t, Q8_0)
	m := len(floats(load(t, "rows.f32"))) / 64 // what follows is random bytes, levels of -128 too
	data = data[:m*2*Q8_0.BlockBytes()]
	c, err := DecodeCodes(Q8_0, data, m, 64)
	if err != nil {
		t.Fatal(err)
	}
	write, err := Writer(Q8_0, c.Codes, c.Scales)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a tensor is written twice: for its checksum, and to the file
		var out bytes.Buffer
		if err := write(&out); err != nil || !bytes.Equal(out.Bytes(), data) {
			t.Fatalf("%v, or the blocks differ", err)
		}
	}
}

func TestWriterOfQ8_0RefusesLoss(t *testing.T) {
	codes := tensor.New(tensor.T(tensor.I8, 2, 64))
	scales := tensor.New(tensor.T(tensor.F32, 2, 2))
	lowest := codes.Clone()
	lowest.Data[77] = 0x80
	scale := func(v float32) *tensor.Tensor {
		s := scales.Clone()
		s.F32()[3] = v
		return s
	}
	for name, c := range map[string]struct {
		codes, scales *tensor.Tensor
		want          error
	}{
		"level -128":               {lowest, scales, ErrLossy},
		"scale between f16 values": {codes, scale(1 + 1.0/4096), ErrLossy},
		"scale too large":          {codes, scale(70000), ErrLossy},
		"infinite scale":           {codes, scale(float32(math.Inf(1))), ErrLossy},
		"scale not a number":       {codes, scale(float32(math.NaN())), ErrLossy},
		"group of 64":              {codes, tensor.New(tensor.T(tensor.F32, 2, 1)), ErrLossy},
		"one scale":                {codes, tensor.New(tensor.T(tensor.F32, 1, 1)), ErrLossy},
		"rows of 48":               {tensor.New(tensor.T(tensor.I8, 2, 48)), tensor.New(tensor.T(tensor.F32, 2, 1)), ErrLossy},
		"codes of two bits":        {tensor.New(tensor.T(tensor.U2, 2, 64)), scales, ErrType},
		"f16 scales":               {codes, tensor.New(tensor.T(tensor.F16, 2, 2)), ErrType},
		"codes cut short":          {&tensor.Tensor{Type: codes.Type, Data: codes.Data[:100]}, scales, ErrType},
	} {
		if _, err := Writer(Q8_0, c.codes, c.scales); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
