package ggml

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

// goldenTypes are those of testdata/make.py.
var goldenTypes = []Type{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, TQ1_0, TQ2_0, Q2_0, F16, BF16}

// golden returns the blocks of ggml's and the values it makes of them.
func golden(t testing.TB, typ Type) (data []byte, want []float32) {
	name := strings.Replace(strings.ToLower(typ.String()), "_k", "_K", 1)
	raw := load(t, name+".bin")
	n := len(raw) * typ.Block() / (typ.BlockBytes() + 4*typ.Block())
	cut := n / typ.Block() * typ.BlockBytes()
	return raw[:cut], floats(raw[cut:])
}

func load(t testing.TB, name string) []byte {
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func floats(raw []byte) []float32 {
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

func TestDequantizeHasTheBitsOfGGML(t *testing.T) {
	for _, typ := range goldenTypes {
		data, want := golden(t, typ)
		got := make([]float32, len(want))
		if err := typ.Dequantize(got, data); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
		if i := differ(got, want); i >= 0 {
			t.Errorf("%v: element %d is %v, not %v", typ, i, got[i], want[i])
		}
	}
}

// differ returns the first place where bits differ, or -1.
func differ(a, b []float32) int {
	for i := range b {
		if len(a) != len(b) || math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

func TestQuantizeWritesTheBytesOfGGML(t *testing.T) {
	rows := floats(load(t, "rows.f32"))
	for _, typ := range []Type{Q8_0, TQ1_0, TQ2_0, Q2_0, F16, BF16} {
		data, _ := golden(t, typ)
		got := make([]byte, len(rows)/typ.Block()*typ.BlockBytes())
		if err := typ.Quantize(got, rows); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
		for i := range got {
			if got[i] != data[i] {
				t.Errorf("%v: byte %d of block %d is %#x, not %#x", typ, i%typ.BlockBytes(), i/typ.BlockBytes(), got[i], data[i])
				break
			}
		}
	}
	got := make([]byte, 4*len(rows))
	if err := F32.Quantize(got, rows); err != nil || !bytes.Equal(got, load(t, "rows.f32")) {
		t.Errorf("f32 changes (%v)", err)
	}
}

// TestCodesAreTheWeights computes weights from codes as Codes says.
func TestCodesAreTheWeights(t *testing.T) {
	for _, typ := range []Type{Q4_0, Q4_1, Q4_K, Q8_0, TQ1_0, TQ2_0, Q2_0} {
		data, _ := golden(t, typ)
		if typ == Q8_0 || typ == TQ2_0 { // without the row of random bytes
			data = data[:len(data)/5*4]
		}
		m := len(data) / (256 / typ.Block() * typ.BlockBytes())
		c, err := DecodeCodes(typ, data, m, 256)
		if err != nil {
			t.Errorf("%v: %v", typ, err)
			continue
		}
		want := make([]float32, m*256)
		if err := typ.Dequantize(want, data); err != nil {
			t.Fatal(err)
		}
		got := weights(c)
		if i := differ(got, want); i >= 0 {
			t.Errorf("%v: weight %d is %v, not %v", typ, i, got[i], want[i])
		}
	}
}

// weights computes the matrix that c stands for, code by code.
func weights(c Codes) []float32 {
	m, k := c.Codes.Shape[0], c.Codes.Shape[1]
	group := k / c.Scales.Shape[1]
	out := make([]float32, m*k)
	for i := range out {
		var level int8
		switch b := c.Codes.Data; c.Codes.DType {
		case tensor.U2:
			level = c.Levels[b[i/4]>>(2*(i%4))&3]
		case tensor.U4:
			level = c.Levels[b[i/2]>>(4*(i%2))&15]
		default:
			level = int8(b[i])
		}
		out[i] = float32(float32(level) * c.Scales.F32()[i/group])
		if c.Mins != nil {
			out[i] -= c.Mins.F32()[i/group]
		}
	}
	return out
}

func TestNothingIsAllocated(t *testing.T) {
	dst, data := make([]float32, 512), make([]byte, 2048)
	for _, typ := range goldenTypes {
		data := data[:512/typ.Block()*typ.BlockBytes()]
		if n := testing.AllocsPerRun(5, func() { _ = typ.Dequantize(dst, data) }); n != 0 {
			t.Errorf("Dequantize of %v allocates %v times", typ, n)
		}
		if !typ.quantizes() {
			continue
		}
		if n := testing.AllocsPerRun(5, func() { _ = typ.Quantize(data, dst) }); n != 0 {
			t.Errorf("Quantize of %v allocates %v times", typ, n)
		}
	}
}
