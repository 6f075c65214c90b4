package ggml

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// random returns codes without 3 and f16 scales.
func random(m, k, rows, cols int) (codes, scales *tensor.Tensor) {
	r := rand.New(rand.NewPCG(1, 2))
	codes = tensor.New(tensor.T(tensor.U2, m, k))
	for i := range m * k {
		codes.Data[i/4] |= byte(r.IntN(3)) << (i % 4 * 2)
	}
	scales = tensor.New(tensor.T(tensor.F32, rows, cols))
	for i := range scales.F32() {
		scales.F32()[i] = tensor.F16ToF32(tensor.F32ToF16(r.Float32() + 0.01))
	}
	return codes, scales
}

func TestQ2_0RoundTrips(t *testing.T) {
	for name, c := range map[string]struct{ m, k, rows, cols, group int }{
		"group 64":   {3, 192, 3, 3, 64},
		"group 128":  {5, 768, 5, 6, 128},
		"group 256":  {2, 512, 2, 2, 256},
		"per row":    {7, 192, 7, 1, PerRow},
		"per tensor": {7, 192, 1, 1, PerTensor},
		"one block":  {1, 64, 1, 1, 64},
	} {
		codes, scales := random(c.m, c.k, c.rows, c.cols)
		data, err := Encode(Q2_0, codes, scales)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(data) != c.m*c.k/64*18 {
			t.Fatalf("%s: %d bytes", name, len(data))
		}
		gotC, gotS, err := Decode(Q2_0, data, c.m, c.k, c.group)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !gotC.Type.Equal(codes.Type) || !bytes.Equal(gotC.Data, codes.Data) {
			t.Errorf("%s: codes differ", name)
		}
		if !gotS.Type.Equal(scales.Type) || !bytes.Equal(gotS.Data, scales.Data) {
			t.Errorf("%s: scales %v %v, not %v %v", name, gotS.Type, gotS.F32(), scales.Type, scales.F32())
		}
		if err := CheckTernary(gotC); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeQ2_0RefusesLoss(t *testing.T) {
	codes, scales := random(2, 128, 2, 2)
	set := func(v float32) *tensor.Tensor {
		s := scales.Clone()
		s.F32()[3] = v
		return s
	}
	narrow, narrowScales := random(2, 96, 2, 1)
	for name, c := range map[string]struct {
		codes, scales *tensor.Tensor
		want          error
	}{
		"scale between f16 values": {codes, set(1 + 1.0/4096), ErrLossy},
		"scale too large":          {codes, set(70000), ErrLossy},
		"scale too small":          {codes, set(1e-8), ErrLossy},
		"infinite scale":           {codes, set(float32(math.Inf(1))), ErrLossy},
		"scale not a number":       {codes, set(float32(math.NaN())), ErrLossy},
		"group of 32":              {codes, tensor.New(tensor.T(tensor.F32, 2, 4)), ErrLossy},
		"rows of 96":               {narrow, narrowScales, ErrLossy},
		"scales of other rows":     {codes, tensor.New(tensor.T(tensor.F32, 3, 2)), ErrType},
		"ragged group":             {codes, tensor.New(tensor.T(tensor.F32, 2, 3)), ErrType},
		"scales f16":               {codes, tensor.New(tensor.T(tensor.F16, 2, 2)), ErrType},
		"codes u4":                 {tensor.New(tensor.T(tensor.U4, 2, 128)), scales, ErrType},
		"codes of no columns":      {tensor.New(tensor.T(tensor.U2, 2, 0)), tensor.New(tensor.T(tensor.F32)), ErrType},
		"codes of rank 1":          {tensor.New(tensor.T(tensor.U2, 128)), scales, ErrType},
		"codes cut short":          {&tensor.Tensor{Type: codes.Type, Data: codes.Data[:8]}, scales, ErrType},
	} {
		if _, err := Encode(Q2_0, c.codes, c.scales); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Writer(Q2_0, c.codes, c.scales); !errors.Is(err, c.want) {
			t.Errorf("%s, streamed: %v", name, err)
		}
	}
}

func TestDecodeQ2_0RefusesWhatDoesNotFit(t *testing.T) {
	codes, scales := random(2, 128, 2, 2)
	data, err := Encode(Q2_0, codes, scales)
	if err != nil {
		t.Fatal(err)
	}
	nan := bytes.Clone(data)
	nan[18], nan[19] = 0, 0x7e
	for name, c := range map[string]struct {
		data        []byte
		m, k, group int
		want        error
	}{
		"scales differ in a group": {data, 2, 128, 128, ErrLossy},
		"scales differ in a row":   {data, 2, 128, PerRow, ErrLossy},
		"scales differ":            {data, 2, 128, PerTensor, ErrLossy},
		"group of 32":              {data, 2, 128, 32, ErrType},
		"group of 192":             {data, 2, 128, 192, ErrType},
		"group of 0":               {data, 2, 128, 0, ErrType},
		"one byte less":            {data[:len(data)-1], 2, 128, 64, ErrFormat},
		"one row more":             {data, 3, 128, 64, ErrFormat},
		"no rows":                  {nil, 0, 128, 64, ErrFormat},
		"negative":                 {data, -2, -128, 64, ErrFormat},
		"scale not a number":       {nan, 2, 128, 64, ErrFormat},
	} {
		if _, _, err := Decode(Q2_0, c.data, c.m, c.k, c.group); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTernaryTypesRoundTrip(t *testing.T) {
	for _, typ := range []Type{TQ1_0, TQ2_0} {
		ternaryRoundTrips(t, typ)
	}
}

func ternaryRoundTrips(t *testing.T, typ Type) {
	for name, c := range map[string]struct{ m, k, rows, cols, group int }{
		"group 256":  {3, 768, 3, 3, 256},
		"group 512":  {2, 1024, 2, 2, 512},
		"per row":    {5, 512, 5, 1, PerRow},
		"per tensor": {4, 256, 1, 1, PerTensor},
	} {
		codes, scales := random(c.m, c.k, c.rows, c.cols)
		data, err := Encode(typ, codes, scales)
		if err != nil || len(data) != c.m*c.k/256*typ.BlockBytes() {
			t.Fatalf("%v, %s: %d bytes, %v", typ, name, len(data), err)
		}
		gotC, gotS, err := Decode(typ, data, c.m, c.k, c.group)
		if err != nil || !bytes.Equal(gotC.Data, codes.Data) || !bytes.Equal(gotS.Data, scales.Data) || !gotS.Shape.Equal(scales.Shape) {
			t.Errorf("%v, %s: codes or scales differ (%v)", typ, name, err)
		}
	}
}

func TestTernaryTypesRefuseWhatTheyCannotHold(t *testing.T) {
	for _, typ := range []Type{TQ1_0, TQ2_0} {
		ternaryRefuses(t, typ)
	}
}

func ternaryRefuses(t *testing.T, typ Type) {
	codes, scales := random(2, 512, 2, 2)
	two := codes.Clone()
	two.Data[7] |= 3
	if _, err := Encode(typ, two, scales); !errors.Is(err, ErrLossy) {
		t.Errorf("%v, a level of 2: %v", typ, err)
	}
	if _, err := Encode(typ, codes, tensor.New(tensor.T(tensor.F32, 2, 4))); !errors.Is(err, ErrLossy) {
		t.Errorf("%v, groups of 128: %v", typ, err)
	}
	data, err := Encode(typ, codes, scales)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Decode(typ, data, 2, 512, 512); !errors.Is(err, ErrLossy) {
		t.Errorf("%v, blocks of other scales in one group: %v", typ, err)
	}
	if _, _, err := Decode(typ, data, 2, 512, 128); !errors.Is(err, ErrType) {
		t.Errorf("%v, a group of half a block: %v", typ, err)
	}
	if _, _, err := Decode(typ, data[1:], 2, 512, 256); !errors.Is(err, ErrFormat) {
		t.Errorf("%v, a byte too few: %v", typ, err)
	}
	if _, _, err := Decode(Q8_0, data, 2, 512, 256); !errors.Is(err, ErrType) {
		t.Errorf("another type: %v", err)
	}
}
