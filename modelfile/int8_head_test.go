package modelfile_test

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// int8Rounded is a weight as the blocks of Q8_0 hold it: an f16 scale, the largest
// magnitude of 32 weights over 127, times levels rounded half to even. Sums are in
// float32, as quant.Int8 has them.
func int8Rounded(w []float32) []float32 {
	out := make([]float32, len(w))
	for at := 0; at < len(w); at += 32 {
		var most float32
		for _, v := range w[at:][:32] {
			most = max(most, float32(math.Abs(float64(v))))
		}
		scale := tensor.F16ToF32(tensor.F32ToF16(max(most*float32(1.0/127), 0x1p-24)))
		for i, v := range w[at:][:32] {
			level := math.RoundToEven(float64(v / scale))
			out[at+i] = float32(max(-127, min(127, level))) * scale
		}
	}
	return out
}

// dequantized are the values of a tensor in a GGUF file, which must be of a type.
func dequantized(t *testing.T, path, name string, typ ggml.Type) []float32 {
	t.Helper()
	f := must(gguf.Open(path))
	defer f.Close()
	info := must(f.Tensor(name))
	if info.Type != typ {
		t.Fatalf("%s in %s is %v, not %v", name, filepath.Base(path), info.Type, typ)
	}
	out := make([]float32, info.Shape.Numel())
	if err := info.Type.Dequantize(out, must(f.ReadRaw(name))); err != nil {
		t.Fatal(err)
	}
	return out
}

// floatsOf are the values of an f16 or f32 tensor.
func floatsOf(x *tensor.Tensor) []float32 {
	if x.DType == tensor.F32 {
		return x.F32()
	}
	out := make([]float32, x.Shape.Numel())
	for i, h := range x.U16() {
		out[i] = tensor.F16ToF32(h)
	}
	return out
}

func equalValues(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("%s: element %d of %d is %v, wants %v", what, i, len(got), got[i], want[i])
		}
	}
}

// The head of a file is what training made of it, in every format that holds it.
func TestAnInt8HeadIsTheTrainedWeightInBlocksOfQ8_0(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		tr := trained(t, be, plain(func(c *model.Config) { c.Head = "int8" }))
		defer tr.Close()
		want := int8Rounded(must(tr.Store().Get(t.Context(), "lm_head.weight")).F32())
		w := must(modelfile.Collect(t.Context(), tr.Model, tr.Store()))
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := w.WriteGGUF(path); err != nil {
			t.Fatal(err)
		}
		equalValues(t, "tern", dequantized(t, path, "output.weight", ggml.Q8_0), want)
		for _, typ := range []ggml.Type{ggml.Q2_0, ggml.F16, ggml.F32, ggml.Q8_0} {
			o := modelfile.LlamaOptions{Type: typ}
			loss, err := w.WriteLlama(path, o)
			if err != nil || loss.Tensor == "output.weight" {
				t.Fatalf("%v: lost %+v, %v", typ, loss, err)
			}
			equalValues(t, typ.String(), dequantized(t, path, "output.weight", ggml.Q8_0), want)
		}
	})
}

// transformers has floats for the head: those of f32 are what the codes stand for,
// others are rounded, which is reported.
func TestAnInt8HeadBecomesFloatsInAHuggingFaceDirectory(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Head = "int8" }))
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := w.WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	want := dequantized(t, path, "output.weight", ggml.Q8_0)
	for _, v := range []struct {
		typ   ggml.Type
		error float64 // at most: half an f16 or bf16 step
	}{{ggml.F32, 0}, {ggml.F16, 0x1p-11}, {ggml.BF16, 0x1p-8}} {
		dir := filepath.Join(t.TempDir(), "model")
		loss, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: v.typ})
		if err != nil || loss.Error > v.error || (loss.Error > 0) != (v.error > 0) {
			t.Fatalf("%v: lost %+v, %v", v.typ, loss, err)
		}
		back := opened(t, dir)
		for i, got := range floatsOf(must(back.Tensor("lm_head.weight"))) {
			if math.Abs(float64(got-want[i])) > max(v.error*math.Abs(float64(want[i])), v.error*0x1p-14) { // the smallest normal f16
				t.Fatalf("%v: element %d is %v, the codes stand for %v", v.typ, i, got, want[i])
			}
		}
	}
}

// unsummed is the file of w without its checksum, to be changed.
func unsummed(t *testing.T, w *modelfile.Weights) *file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := w.WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	f := must(gguf.Open(path))
	defer f.Close()
	out := &file{meta: slices.Clone(f.Metadata)}
	for _, info := range f.Tensors {
		out.put(gguf.FromBytes(info.Name, info.Type, info.Shape, must(f.ReadRaw(info.Name))))
	}
	out.set("tern.sha256", nil)
	return out
}

// Codes of int8 in groups of 32 may lie in two tensors, as those of other groups do:
// other versions write them so.
func TestInt8InTwoTensorsIsReadAsInBlocks(t *testing.T) {
	be := scalarBackend(t)
	w := collected(t, be, plain(func(c *model.Config) { c.Head = "int8" }))
	file := unsummed(t, w)
	codes := w.Tensors["lm_head.codes"]
	file.drop("output.weight")
	file.put(gguf.FromBytes("output.codes", ggml.I8, codes.Shape, codes.Data))
	file.put(must(gguf.FromTensor("output.scales", w.Tensors["lm_head.scales"])))
	if got, want := loss(t, be, must(file.read(t))), loss(t, be, w); got != want {
		t.Errorf("scores %+v, was %+v", got, want)
	}
}

// A head that is no block of the type that the metadata promises is refused.
func TestAnInt8HeadOfAnotherTypeIsRefused(t *testing.T) {
	file := unsummed(t, collected(t, scalarBackend(t), plain(func(*model.Config) {}))) // its head is Q2_0
	if _, err := file.read(t); err != nil {
		t.Fatal(err)
	}
	file.set("tern.head", "int8")
	if _, err := file.read(t); err == nil {
		t.Error("a Q2_0 tensor passes for codes of int8")
	}
}
