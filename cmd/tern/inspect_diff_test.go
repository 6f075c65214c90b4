package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/tensor"
)

// diff compares two files and returns what is printed and the report of --json.
func diff(t *testing.T, a, b string) (text string, r diffReport) {
	t.Helper()
	var out, asJSON bytes.Buffer
	equal, err := (&app{stdout: &out}).diffFiles(t.Context(), a, b, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&app{stdout: &asJSON}).diffFiles(t.Context(), a, b, true); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(asJSON.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Equal != equal || equal != (len(r.Keys)+len(r.Tensors) == 0) {
		t.Errorf("equal is %v, in JSON %v, with %d keys and %d tensors", equal, r.Equal, len(r.Keys), len(r.Tensors))
	}
	return out.String(), r
}

func TestDiffShowsValuesWhereTheyBeginToDiffer(t *testing.T) {
	story := strings.Repeat("once upon a time ", 20)
	words := func(at int, s string) []string {
		w := make([]string, 300)
		w[at] = s
		return w
	}
	a := writeGGUF(t, "a.gguf", []gguf.KV{
		{Key: "same", Value: uint8(1)},
		{Key: "number", Value: uint32(7)},
		{Key: "kind", Value: uint32(7)},
		{Key: "text", Value: story + "there was A"},
		{Key: "list", Value: words(200, "left")},
		{Key: "grown", Value: []int32{1, 2}},
		{Key: "gone", Value: true},
		{Key: "nan", Value: float32(math.NaN())},
	}, f32s("x", 1))
	b := writeGGUF(t, "b.gguf", []gguf.KV{
		{Key: "new", Value: "\x1b[2J"},
		{Key: "same", Value: uint8(1)},
		{Key: "number", Value: uint32(8)},
		{Key: "kind", Value: int32(7)},
		{Key: "text", Value: story + "there was B"},
		{Key: "list", Value: words(200, "right")},
		{Key: "grown", Value: []int32{1, 2, 3}},
		{Key: "nan", Value: float32(1)},
	}, f32s("x", 1))
	out, r := diff(t, a, b)
	mustHold(t, out, "KEY", "number", "7", "8", "kind", "7 (u32)", "7 (i32)", "text", `..."ere was A"`, `..."ere was B"`,
		"list", `300 x string, [200]: "left"`, `300 x string, [200]: "right"`, "grown", "2 x i32", "3 x i32, [2]: 3",
		"gone", "true", "-", "new", "-", `"\x1b[2J"`, "8 keys of metadata and 0 tensors differ")
	if strings.Contains(out, "\x1b") || strings.Contains(out, "same") || strings.Contains(out, "TENSOR") {
		t.Errorf("unexpected in\n%s", out)
	}
	for _, k := range r.Keys {
		if k.Key == "nan" && (k.A != "NaN" || k.B != 1.0) || k.Key == "gone" && (k.A != true || k.B != nil) {
			t.Errorf("%+v", k)
		}
	}
}

func TestDiffOfEqualFilesIsOneLine(t *testing.T) {
	meta := []gguf.KV{{Key: "a", Value: "x"}, {Key: "b", Value: float32(math.NaN())}}
	a := writeGGUF(t, "a.gguf", meta, f32s("x", 1), f32s("y", 2))
	b := writeGGUF(t, "b.gguf", []gguf.KV{meta[1], meta[0]}, f32s("y", 2), f32s("x", 1))
	if out, _ := diff(t, a, b); out != "equal: 2 keys of metadata, 2 tensors\n" {
		t.Error(out)
	}
}

// noise fills a slice that is longer than one block of a comparison.
func noise(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func TestDiffMeasuresTheErrorOfTypes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, width = 700, 256 // 2.7 times what is compared at a time
	v := noise(r, rows*width)
	q := make([]byte, 0, rows*width/32*34)
	coded := make([]float32, len(v)) // what Q8_0 makes of v, by its definition
	for at := 0; at < len(v); at += 32 {
		var largest float64
		for _, x := range v[at:][:32] {
			largest = max(largest, math.Abs(float64(x)))
		}
		h := tensor.F32ToF16(float32(largest / 127))
		q = append(q, byte(h), byte(h>>8))
		for i, x := range v[at:][:32] {
			level := math.Round(float64(x) / float64(tensor.F16ToF32(h)))
			level = min(127, max(-127, level))
			q = append(q, byte(int8(level)))
			coded[at+i] = float32(level) * tensor.F16ToF32(h)
		}
	}
	var largest, sum, of float64
	var differ int64
	for i := range v {
		d := float64(v[i]) - float64(coded[i])
		if largest, sum, of = max(largest, math.Abs(d)), sum+d*d, of+float64(v[i])*float64(v[i]); d != 0 {
			differ++
		}
	}
	shape := tensor.Shape{rows, width}
	raw := tensor.FromF32(v, rows, width).Data
	a := writeGGUF(t, "a.gguf", otherArch, gguf.FromBytes("w", ggml.F32, shape, raw))
	b := writeGGUF(t, "b.gguf", otherArch, gguf.FromBytes("w", ggml.Q8_0, shape, q))
	out, rep := diff(t, a, b)
	mustHold(t, out, "TENSOR", "w", "F32 [700 256]", "Q8_0 [700 256]", " of 179,200", "1 tensor differ")
	e := rep.Tensors[0].Error
	if e == nil || e.Relative == nil || e.Differ != differ || e.Elements != rows*width || e.Largest != largest {
		t.Fatalf("%+v, want %d elements by %v", e, differ, largest)
	}
	if want := math.Sqrt(sum / of); math.Abs(*e.Relative-want) > 1e-9*want || want > 0.01 {
		t.Errorf("relative error %v, want %v", *e.Relative, want)
	}
}

func TestDiffTellsTensorsThatCannotBeMeasured(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	one := make([]byte, 34)
	bad := bytes.Clone(one)
	bad[1] = 0x7c // an infinite scale
	iq := make([]byte, 66)
	iq2 := bytes.Clone(iq)
	iq2[5] = 1
	const iq2xxs ggml.Type = 16
	a := writeGGUF(t, "a.gguf", otherArch, f32s("finite", 1, inf, nan, nan, 3), f32s("zero", 0, 0), f32s("same values", 0), f32s("shape", 1, 2), f32s("only a", 1),
		gguf.FromBytes("scale", ggml.Q8_0, tensor.Shape{32}, one), gguf.FromBytes("iq", iq2xxs, tensor.Shape{256}, iq))
	b := writeGGUF(t, "b.gguf", otherArch, f32s("finite", 2, inf, nan, 1, inf), f32s("zero", 0, 5), f32s("same values", float32(math.Copysign(0, -1))), f32s("shape", 1),
		gguf.FromBytes("scale", ggml.Q8_0, tensor.Shape{32}, bad), gguf.FromBytes("iq", iq2xxs, tensor.Shape{256}, iq2), f32s("only b", 1))
	out, r := diff(t, a, b)
	mustHold(t, out, "finite", "3 of 5", "1 ", "1 (2 elements not finite)", "zero", "1 of 2", "5 ", "-", "same values", "0 of 1", "0 ", "0\n",
		"scale", "B: block 0: its scale is +Inf", "iq", "A: IQ2_XXS cannot be dequantized", "shape", "F32 [2]  ", "F32 [1]  ", "only a", "F32 [1]", "-", "only b", "-", "F32 [1]")
	for _, x := range r.Tensors {
		switch x.Name {
		case "zero":
			if x.Error == nil || x.Error.Relative != nil {
				t.Errorf("%s: %+v", x.Name, x.Error)
			}
		case "scale", "iq":
			if x.Error != nil || x.Note == "" {
				t.Errorf("%s: %+v", x.Name, x)
			}
		case "only a":
			if x.A == nil || x.B != nil {
				t.Errorf("%s: %+v", x.Name, x)
			}
		}
	}
}

func TestDiffTakesLittleMemoryForLargeTensors(t *testing.T) {
	const n = 4 << 20
	other := make([]byte, n)
	other[n-1] = 1
	a := writeGGUF(t, "a.gguf", otherArch, gguf.FromBytes("w", ggml.I8, tensor.Shape{n}, make([]byte, n)))
	b := writeGGUF(t, "b.gguf", otherArch, gguf.FromBytes("w", ggml.I8, tensor.Shape{n}, other))
	var before, after runtime.MemStats
	var out bytes.Buffer
	runtime.ReadMemStats(&before)
	if _, err := (&app{stdout: &out}).diffFiles(t.Context(), a, b, false); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > n/2 {
		t.Errorf("%d bytes for tensors of %d", got, n)
	}
	mustHold(t, out.String(), "1 of 4,194,304", "1 ")
}

func TestDiffEndsWithItsContext(t *testing.T) {
	a := writeGGUF(t, "a.gguf", otherArch, f32s("w", 1))
	b := writeGGUF(t, "b.gguf", otherArch, f32s("w", 2))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&app{stdout: &bytes.Buffer{}}).diffFiles(ctx, a, b, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
