package gguf

import (
	"bytes"
	"math"
	"runtime"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

func TestDiffFindsWhatWasChanged(t *testing.T) {
	nan := math.Float32frombits(0x7fc00001)
	x := tensor.FromF32([]float32{1, 2, 3, 4}, 2, 2)
	half := func(n int) []byte { return make([]byte, 2*n) }
	a := write(t, []KV{
		{"same", "x"},
		{"nan", nan},
		{"nested", []any{[]int32{1}, []int32{2}}},
		{"only a", true},
		{"value", []int32{1, 2}},
		{"type", uint32(1)},
		{"zero", 0.0},
		{KeySplitNo, uint16(0)},
	},
		[]TensorInfo{
			plain(t, "same", x), plain(t, "only a", x), plain(t, "bytes", x), plain(t, "shape", x), plain(t, "type", x),
			FromBytes("last byte", ggml.I8, tensor.Shape{diffChunk + 1}, make([]byte, diffChunk+1)),
		})
	last := make([]byte, diffChunk+1)
	last[diffChunk] = 1
	b := write(t, []KV{
		{"only b", true},
		{"zero", math.Copysign(0, -1)},
		{"type", int32(1)},
		{"same", "x"},
		{"value", []int32{1, 3}},
		{"nan", nan},
		{"nested", []any{[]int32{1}, []int32{2}}},
	},
		[]TensorInfo{
			plain(t, "only b", x), FromBytes("type", ggml.F16, tensor.Shape{2, 2}, half(4)),
			plain(t, "shape", tensor.FromF32(x.F32(), 4)), plain(t, "bytes", tensor.FromF32([]float32{1, 2, 3, 5}, 2, 2)),
			plain(t, "same", x), FromBytes("last byte", ggml.I8, tensor.Shape{diffChunk + 1}, last),
		})
	got, err := Diff(read(t, a), read(t, b))
	if err != nil {
		t.Fatal(err)
	}
	want := Difference{
		KeysOnlyA: []string{"only a"}, KeysOnlyB: []string{"only b"}, KeysChanged: []string{"value", "type", "zero"},
		TensorsOnlyA: []string{"only a"}, TensorsOnlyB: []string{"only b"},
		TensorsReshaped: []string{"shape"}, TensorsRetyped: []string{"type"}, TensorsChanged: []string{"bytes", "last byte"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Equal() || !cmp.Equal(got.Comparable(), []string{"type", "bytes", "last byte"}) {
		t.Errorf("equal %v, comparable %v", got.Equal(), got.Comparable())
	}
	for _, data := range [][]byte{a, b} {
		if d, err := Diff(read(t, data), read(t, data)); err != nil || !d.Equal() {
			t.Errorf("a file and itself: %+v, %v", d, err)
		}
	}
}

func TestDiffOfAFileThatShrankIsAnError(t *testing.T) {
	meta, tensors := sample(t)
	data := write(t, meta, tensors)
	whole := read(t, data)
	cut := must(Read(bytes.NewReader(data[:len(data)-64]), int64(len(data))))
	for _, pair := range [][2]*File{{whole, cut}, {cut, whole}} {
		if _, err := Diff(pair[0], pair[1]); !errors.Is(err, ErrFormat) {
			t.Errorf("error %v", err)
		}
	}
}

// TestDiffTakesLittleMemory compares 64 MiB of zeros.
func TestDiffTakesLittleMemory(t *testing.T) {
	h := one([]any{64 << 20}, ggml.I8, 0, 0)
	f := must(Read(sparse{h}, int64(len(h))+64<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d, err := Diff(f, f)
	runtime.ReadMemStats(&after)
	if err != nil || !d.Equal() {
		t.Errorf("%+v, %v", d, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}
