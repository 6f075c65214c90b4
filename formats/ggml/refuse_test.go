package ggml

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

func TestDequantizePlainNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		typ  Type
		data any
		want []float32
	}{
		"F32": {F32, []float32{1.5, -2, 3e38}, []float32{1.5, -2, 3e38}},
		"F16": {F16, []uint16{0x7c00, 0xfc00, 0x8001, 0x3c01}, []float32{float32(math.Inf(1)), float32(math.Inf(-1)), -0x1p-24, 1 + 0x1p-10}},
		"F64": {F64, []float64{1.5, 1 + 0x1p-24 + 0x1p-30, -1e300}, []float32{1.5, 1 + 0x1p-23, float32(math.Inf(-1))}},
		"I8":  {I8, []int8{-128, 127, 0}, []float32{-128, 127, 0}},
		"I16": {I16, []int16{-32768, 32767}, []float32{-32768, 32767}},
		"I32": {I32, []int32{math.MinInt32, 1<<24 + 1}, []float32{-1 << 31, 1 << 24}},
		"I64": {I64, []int64{math.MinInt64, 1<<24 + 3}, []float32{-1 << 63, 1<<24 + 4}},
	} {
		var data bytes.Buffer
		if err := binary.Write(&data, binary.LittleEndian, c.data); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(c.want))
		if err := c.typ.Dequantize(got, data.Bytes()); err != nil || differ(got, c.want) >= 0 {
			t.Errorf("%s: %v, not %v (%v)", name, got, c.want, err)
		}
	}
}

func TestDequantizeRefusesWhatDoesNotFit(t *testing.T) {
	inf := make([]byte, 3*144) // the second block's dmin
	inf[144+3] = 0x7c
	for name, c := range map[string]struct {
		typ     Type
		n, size int
		data    []byte
		want    error
		says    string
	}{
		"a byte too few":  {Q4_0, 32, 17, nil, ErrFormat, "in 17 bytes"},
		"a block more":    {Q4_0, 32, 36, nil, ErrFormat, ""},
		"half a block":    {Q4_0, 16, 9, nil, ErrFormat, ""},
		"f32 of 3 bytes":  {F32, 1, 3, nil, ErrFormat, ""},
		"an infinite min": {Q4_K, 768, 0, inf, ErrFormat, "block 1"},
		"IQ4_XS":          {23, 256, 136, nil, ErrType, "IQ4_XS"},
		"Q8_1":            {9, 32, 36, nil, ErrType, "Q8_1"},
		"no type":         {1000, 0, 0, nil, ErrType, "1000"},
	} {
		if c.data == nil {
			c.data = make([]byte, c.size)
		}
		if err := c.typ.Dequantize(make([]float32, c.n), c.data); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryScaleMustBeFinite(t *testing.T) {
	for typ, places := range map[Type][]int{
		Q4_0: {0}, Q4_1: {0, 2}, Q5_0: {0}, Q5_1: {0, 2}, Q8_0: {0}, Q4_K: {0, 2}, Q5_K: {0, 2}, Q6_K: {208},
		TQ1_0: {52}, TQ2_0: {64}, Q2_0: {0},
	} {
		data, want := golden(t, typ)
		for _, at := range places {
			bad := bytes.Clone(data)
			bad[2*typ.BlockBytes()+at], bad[2*typ.BlockBytes()+at+1] = 1, 0xfe
			if err := typ.Dequantize(make([]float32, len(want)), bad); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "block 2") {
				t.Errorf("%v, scale at %d: %v", typ, at, err)
			}
			if _, err := DecodeCodes(typ, bad, 5, 256); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrType) {
				t.Errorf("%v, codes, scale at %d: %v", typ, at, err)
			}
		}
	}
}

func TestQuantizeRefusesWhatATypeCannotHold(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for name, c := range map[string]struct {
		typ  Type
		v    float32
		want error
	}{
		"Q8_0, NaN":         {Q8_0, nan, ErrLossy},
		"Q8_0, 8.3 million": {Q8_0, 8.3e6, nil},
		"Q8_0, 8.4 million": {Q8_0, 8.4e6, ErrLossy},
		"Q2_0, infinite":    {Q2_0, inf, ErrLossy},
		"TQ1_0, 65519":      {TQ1_0, 65519, nil},
		"TQ1_0, 65520":      {TQ1_0, 65520, ErrLossy},
		"TQ2_0, NaN":        {TQ2_0, nan, ErrLossy},
		"F16, 65519":        {F16, 65519, nil},
		"F16, 65520":        {F16, 65520, ErrLossy},
		"BF16, largest":     {BF16, math.MaxFloat32, ErrLossy},
		"BF16, NaN":         {BF16, nan, ErrLossy},
		"F32, largest":      {F32, math.MaxFloat32, nil},
		"F32, infinite":     {F32, inf, ErrLossy},
		"Q4_K":              {Q4_K, 1, ErrType},
		"I8":                {I8, 1, ErrType},
	} {
		src := make([]float32, 512)
		src[3], src[300] = 1, c.v
		err := c.typ.Quantize(make([]byte, 512/c.typ.Block()*c.typ.BlockBytes()), src)
		if !errors.Is(err, c.want) || errors.Is(err, ErrLossy) && !strings.Contains(err.Error(), "value 300 ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Q8_0.Quantize(make([]byte, 33), make([]float32, 32)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte too few: %v", err)
	}
	if err := TQ1_0.Quantize(make([]byte, 27), make([]float32, 128)); !errors.Is(err, ErrFormat) {
		t.Errorf("half a block: %v", err)
	}
}

func TestQuantizeOfSubnormalsIsZero(t *testing.T) {
	if r := reciprocal(0x1p-128); r != 0 {
		t.Errorf("1/2^-128 is %v", r) // C leaves it open what an infinite one gives
	}
	for _, typ := range []Type{Q8_0, TQ1_0, TQ2_0, Q2_0} {
		src, got := make([]float32, 256), make([]float32, 256)
		src[0], src[70] = 1e-44, -1e-40
		data := make([]byte, 256/typ.Block()*typ.BlockBytes())
		if err := errors.CombineErrors(typ.Quantize(data, src), typ.Dequantize(got, data)); err != nil {
			t.Error(err)
		}
		if i := differ(got, make([]float32, 256)); i >= 0 {
			t.Errorf("%v: element %d is %v", typ, i, got[i])
		}
	}
}

func TestDecodeCodesRefusesWhatDoesNotFit(t *testing.T) {
	least := make([]byte, 4*34)
	least[34+2+7] = 0x80
	three := make([]byte, 66)
	three[9] = 0x0c
	for name, c := range map[string]struct {
		typ  Type
		data []byte
		m, k int
		want error
		says string
	}{
		"Q8_0 of -128":    {Q8_0, least, 2, 64, ErrLossy, "weight 39 "},
		"TQ2_0, code 3":   {TQ2_0, three, 1, 256, ErrFormat, "weight 41 "},
		"a byte too few":  {Q4_0, make([]byte, 35), 1, 64, ErrFormat, "is 36 bytes, not 35"},
		"no rows":         {Q4_0, nil, 0, 64, ErrFormat, ""},
		"negative":        {Q4_0, make([]byte, 36), -1, -64, ErrFormat, ""},
		"half a block":    {Q4_K, make([]byte, 144), 2, 128, ErrFormat, ""},
		"too many":        {Q8_0, make([]byte, 34), math.MaxInt, 32, ErrFormat, ""},
		"Q6_K":            {Q6_K, make([]byte, 210), 1, 256, ErrType, "Q6_K"},
		"F16":             {F16, make([]byte, 64), 1, 32, ErrType, ""},
		"no type":         {1000, nil, 1, 32, ErrType, ""},
		"TQ1_0, too long": {TQ1_0, make([]byte, 55), 1, 256, ErrFormat, ""},
	} {
		if _, err := DecodeCodes(c.typ, c.data, c.m, c.k); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeCodesOfQ2_0NamesLevelTwoWhereItIs(t *testing.T) {
	for want, last := range map[int]byte{3: 0x80, 4: 0xc0} {
		data := make([]byte, 36)
		data[35] = last
		c, err := DecodeCodes(Q2_0, data, 2, 64)
		if err != nil || len(c.Levels) != want || !c.Scales.Shape.Equal(tensor.Shape{2, 1}) {
			t.Errorf("%d levels, scales %v, not %d (%v)", len(c.Levels), c.Scales, want, err)
		}
	}
}
