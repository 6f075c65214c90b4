package modelfile_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// packedDirectory writes w with packed weights, the rest without loss.
func packedDirectory(t *testing.T, w *modelfile.Weights) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "packed")
	l, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: must(w.PackedType()), Packed: true})
	if err != nil {
		t.Fatal(err)
	}
	if l.Error != 0 {
		t.Errorf("%s is rounded by %v", l.Tensor, l.Error)
	}
	return dir
}

// opened is closed at the end of the test.
func opened(t *testing.T, path string) *modelfile.Weights {
	t.Helper()
	w, err := modelfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// sameFiles fails where two directories differ.
func sameFiles(t *testing.T, what, got, want string) {
	t.Helper()
	for _, e := range must(os.ReadDir(want)) {
		if !bytes.Equal(must(os.ReadFile(filepath.Join(got, e.Name()))), must(os.ReadFile(filepath.Join(want, e.Name())))) {
			t.Errorf("%s: %s differs", what, e.Name())
		}
	}
}

func TestPackedDirectoriesReadBackToTheSameBits(t *testing.T) {
	be := scalarBackend(t)
	for name, change := range map[string]func(*model.Config){
		"bitnet":        func(c *model.Config) { c.Tied, c.SubNorm = true, true },
		"relu2":         func(c *model.Config) { c.Tied, c.SubNorm, c.Activation = true, true, "relu2" },
		"untied":        func(c *model.Config) { c.SubNorm = true },
		"scales of f32": func(c *model.Config) { c.Tied, c.SubNorm, c.Quant = true, true, "ternary:group=tensor,scale=f32" },
		"llama":         func(*model.Config) {},
		"linear RoPE":   func(c *model.Config) { c.RoPEFactors = constant(2, 16) },
	} {
		w := collected(t, be, plain(func(c *model.Config) {
			c.Quant, c.Head = "ternary:group=tensor", "f16"
			change(c)
		}))
		dir := packedDirectory(t, w)
		back := opened(t, dir)
		if got, want := loss(t, be, back), loss(t, be, w); got != want {
			t.Errorf("%s: scores %+v, was %+v", name, got, want)
		}
		sameFiles(t, name, packedDirectory(t, back), dir)
	}
}

// What transformers packed, and what it made of that itself, are its bytes again.
func TestWeightsThatTransformersPackedArePackedToTheSameBytes(t *testing.T) {
	const file = "model.safetensors"
	want := must(os.ReadFile(filepath.Join(transformersModels, "bitnet-offline", file)))
	for _, name := range []string{"bitnet-offline", "bitnet-offline-resaved"} {
		dir := packedDirectory(t, opened(t, filepath.Join(transformersModels, name)))
		if !bytes.Equal(must(os.ReadFile(filepath.Join(dir, file))), want) {
			t.Errorf("%s: not the bytes of bitnet-offline", name)
		}
	}
}

// Packing keeps what transformers computes: of scales that divide, and of layers
// that are floats and stay so.
func TestPackedModelsOfTransformersHaveTheLossesThatItFinds(t *testing.T) {
	be := scalarBackend(t)
	var golden struct {
		IDs    []int32
		Losses map[string][]float64
	}
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(transformersModels, "losses.json"))), &golden); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bitnet-offline", "bitnet-bitlinear", "bitnet-online-kept"} {
		dir := packedDirectory(t, opened(t, filepath.Join(transformersModels, name)))
		for i, got := range lossesOf(t, be, dir, golden.IDs) {
			if want := golden.Losses[name][i]; !(math.Abs(got-want) < 1e-5) {
				t.Fatalf("%s: position %d has loss %v, of transformers %v", name, i, got, want)
			}
		}
	}
}

// A GGUF file has a scale for each block of a BitNet model's layer, the same for
// all of them.
func TestBlocksOfOneScaleArePackedAsOne(t *testing.T) {
	dir := packedDirectory(t, collected(t, scalarBackend(t), plain(func(c *model.Config) {
		c.Quant, c.Head, c.Tied, c.SubNorm = "ternary:group=tensor", "f16", true, true
	})))
	path := filepath.Join(t.TempDir(), "bitnet.gguf")
	if _, err := opened(t, dir).WriteLlama(path, modelfile.LlamaOptions{Arch: modelfile.BitNet, Type: ggml.Q2_0}); err != nil {
		t.Fatal(err)
	}
	blocks := opened(t, path)
	if s := must(blocks.Tensor("blk.0.attn.wv.scales")); s.Shape.Numel() == 1 {
		t.Fatal("the file has one scale for the layer")
	}
	sameFiles(t, "from GGUF", packedDirectory(t, blocks), dir)
}

// The scale of a group of zeros may be anything: quantizers of others write 0.
func TestGroupsOfZerosDoNotKeepALayerFromBeingPacked(t *testing.T) {
	be := scalarBackend(t)
	w := collected(t, be, plain(func(c *model.Config) { c.Quant, c.Head = "ternary:group=64", "f16" }))
	for name, x := range w.Tensors {
		if filepath.Ext(name) != ".scales" {
			continue
		}
		for i := range x.F32() {
			x.F32()[i] = 0.25
		}
	}
	codes, scales := w.Tensors["blk.0.attn.wv.codes"], w.Tensors["blk.0.attn.wv.scales"]
	copy(codes.Data, bytes.Repeat([]byte{0b01010101}, 16)) // 64 zeros
	scales.F32()[0] = 0
	back := opened(t, packedDirectory(t, w))
	if !bytes.Equal(must(back.Tensor("blk.0.attn.wv.codes")).Data, codes.Data) {
		t.Error("other codes")
	}
	if s := must(back.Tensor("blk.0.attn.wv.scales")).F32(); len(s) != 1 || s[0] != 0.25 {
		t.Errorf("scales %v, want 0.25", s)
	}
	if got, want := loss(t, be, back), loss(t, be, w); math.Abs(got.Loss-want.Loss) > 1e-5*want.Loss {
		t.Errorf("loss %v, was %v", got.Loss, want.Loss)
	}
}

func TestGainsOfTheResidualGoIntoPackedScales(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) {
		c.Residual, c.Quant, c.Head, c.Tied, c.SubNorm = "scaled", "ternary:group=tensor", "f16", true, true
	}))
	const gain = 0.7
	w.Tensors["blk.1.ffn.scaled.gain"].F32()[0] = gain
	dir := filepath.Join(t.TempDir(), "packed")
	l, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: ggml.F16, Packed: true})
	if err != nil {
		t.Fatal(err)
	}
	if !(l.Folded < 0x1p-23) || l.Error != 0 {
		t.Errorf("loss %+v; scales are f32 values", l)
	}
	back := opened(t, dir)
	for name, factor := range map[string]float32{"blk.1.ffn.down": gain, "blk.1.ffn.up": 1} {
		want := w.Tensors[name+".scales"].F32()[0] * factor
		if got := must(back.Tensor(name + ".scales")).F32()[0]; got != want {
			t.Errorf("%s: scale %v, want %v", name, got, want)
		}
		if !bytes.Equal(must(back.Tensor(name+".codes")).Data, w.Tensors[name+".codes"].Data) {
			t.Errorf("%s: other codes", name)
		}
	}
}

func TestTheRoundingOfAnEmbeddingIsReported(t *testing.T) {
	w := oneScaleModel(t) // whose embedding is of f16 values
	for typ, rounds := range map[ggml.Type]bool{ggml.F16: false, ggml.BF16: true, ggml.F32: false} {
		for _, packed := range []bool{false, true} {
			l, err := w.WriteHuggingFace(filepath.Join(t.TempDir(), "model"), modelfile.HuggingFaceOptions{Type: typ, Packed: packed})
			if err != nil {
				t.Fatal(err)
			}
			if packed && (l.Error > 0) != rounds || rounds && l.Error == 0 {
				t.Errorf("%v, packed %v: error %v of %s", typ, packed, l.Error, l.Tensor)
			}
		}
	}
	if typ := must(w.PackedType()); typ != ggml.F16 {
		t.Errorf("%v holds the embedding, not F16", typ)
	}
}

func TestModelsThatPackedWeightsCannotHoldAreRefused(t *testing.T) {
	for name, v := range map[string]struct {
		change func(*model.Config)
		want   error
	}{
		"groups":       {func(c *model.Config) { c.Quant = "ternary:group=64" }, ggml.ErrLossy},
		"row scales":   {func(c *model.Config) { c.Quant = "ternary:group=row" }, ggml.ErrLossy},
		"two levels":   {func(c *model.Config) { c.Quant = "binary:group=tensor" }, ggml.ErrLossy},
		"four bits":    {func(c *model.Config) { c.Quant = "int4:group=tensor" }, ggml.ErrLossy},
		"floats":       {func(c *model.Config) { c.Quant = "none" }, ggml.ErrLossy},
		"ternary head": {func(c *model.Config) { c.Head = "ternary" }, ggml.ErrLossy},
		"int8 head":    {func(c *model.Config) { c.Head = "int8" }, ggml.ErrLossy},
		"activations":  {func(c *model.Config) { c.Quant = "plugin:unrounded" }, ggml.ErrLossy},
		"odd rows":     {func(c *model.Config) { c.FFN = 66 }, ggml.ErrLossy},
		"streams":      {func(c *model.Config) { c.Residual = "mhclite:streams=2" }, modelfile.ErrArchitecture},
	} {
		w := collected(t, scalarBackend(t), plain(func(c *model.Config) {
			c.Quant, c.Head = "ternary:group=tensor", "f16"
			v.change(c)
		}))
		dir := filepath.Join(t.TempDir(), "packed")
		_, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: ggml.F16, Packed: true})
		if !errors.Is(err, v.want) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v with hints %v, wants %v", name, err, errors.GetAllHints(err), v.want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a directory was written", name)
		}
	}
}
