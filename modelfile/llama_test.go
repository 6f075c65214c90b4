package modelfile_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// plain is a model that architecture llama holds.
func plain(change func(*model.Config)) model.Config {
	c := base
	c.Residual, c.SubNorm = "standard", false
	change(&c)
	return c
}

// collected are the weights of c after a few steps.
func collected(t *testing.T, be framework.Backend, c model.Config) *modelfile.Weights {
	t.Helper()
	tr := trained(t, be, c)
	t.Cleanup(func() { tr.Close() })
	return must(modelfile.Collect(context.Background(), must(model.New(c)), tr.Store()))
}

// llamaFile writes w as architecture llama.
func llamaFile(t *testing.T, w *modelfile.Weights, typ ggml.Type) (path string, folded float64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "llama.gguf")
	o := modelfile.LlamaOptions{Type: typ}
	if w.Model.SubNorm {
		o.Arch = modelfile.BitNet
	}
	l, err := w.WriteLlama(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return path, l.Folded
}

// loss is the score of w as it is loaded from a file.
func loss(t *testing.T, be framework.Backend, w *modelfile.Weights) train.Score {
	t.Helper()
	s := must(be.NewStore())
	defer s.Close()
	if err := w.Put(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	return score(t, be, w.Model, modelfile.Pass, s)
}

func TestLlamaFilesReadBackToTheSameBits(t *testing.T) {
	be := scalarBackend(t)
	for name, v := range map[string]struct {
		typ    ggml.Type
		change func(*model.Config)
	}{
		"ternary":           {ggml.Q2_0, func(*model.Config) {}},
		"ternary, f16 head": {ggml.Q2_0, func(c *model.Config) { c.Head = "f16" }},
		"ternary, int8":     {ggml.Q2_0, func(c *model.Config) { c.Head = "int8" }},
		"int8 alone, whole": {ggml.F32, func(c *model.Config) { c.Quant, c.Head = "none", "int8" }},
		"ternary, tied":     {ggml.Q2_0, func(c *model.Config) { c.Head, c.Tied = "f16", true }},
		"row scales":        {ggml.Q2_0, func(c *model.Config) { c.Quant = "ternary:group=row" }},
		"TQ2_0":             {ggml.TQ2_0, func(c *model.Config) { c.Layers, c.Dim, c.FFN, c.Quant = 1, 256, 256, "ternary:group=256" }},
		"TQ2_0, row scales": {ggml.TQ2_0, func(c *model.Config) { c.Layers, c.Dim, c.FFN, c.Quant = 1, 256, 256, "ternary:group=row" }},
		"TQ1_0":             {ggml.TQ1_0, func(c *model.Config) { c.Layers, c.Dim, c.FFN, c.Quant = 1, 256, 256, "ternary:group=256" }},
		"bitnet":            {ggml.Q2_0, func(c *model.Config) { c.SubNorm, c.Head, c.Tied = true, "f16", true }},
		"bitnet, whole": {ggml.F32, func(c *model.Config) {
			c.SubNorm, c.Head, c.Tied, c.Quant, c.Activation, c.RoPEFactors = true, "f16", true, "none", "relu2", ramp(16)
		}},
		"not quantized, whole": {ggml.F32, func(c *model.Config) { c.Quant, c.Head = "none", "f16" }},
	} {
		w := collected(t, be, plain(v.change))
		path, folded := llamaFile(t, w, v.typ)
		back, err := modelfile.ReadGGUF(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(back.Model.Config, w.Model.Config) || folded != 0 {
			t.Errorf("%s: read back as %+v, was %+v (folded %v)", name, back.Model.Config, w.Model.Config, folded)
		}
		if got, want := loss(t, be, back), loss(t, be, w); got != want {
			t.Errorf("%s: scores %+v, was %+v", name, got, want)
		}
	}
}

// values are those of a linear in a llama file, whatever its type.
func values(t *testing.T, path, name string) []float32 {
	t.Helper()
	f := must(gguf.Open(path))
	defer f.Close()
	info := must(f.Tensor(name))
	if info.Type == ggml.Q2_0 {
		codes, scales, err := f.ReadCodes(name, 64)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float32, info.Shape.Numel())
		for i := range out {
			out[i] = float32(int(codes.Data[i/4]>>(i%4*2)&3)-1) * scales.F32()[i/64]
		}
		return out
	}
	return floatsOf(must(f.ReadTensor(name)))
}

func TestLlamaFilesOfAllTypesHoldTheSameTernaryWeights(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(*model.Config) {}))
	q, _ := llamaFile(t, w, ggml.Q2_0)
	for _, typ := range []ggml.Type{ggml.F16, ggml.F32} {
		other, _ := llamaFile(t, w, typ)
		for _, name := range []string{"blk.0.attn_q.weight", "blk.1.ffn_down.weight", "output.weight"} {
			a, b := values(t, q, name), values(t, other, name)
			for i := range a {
				if a[i] != b[i] {
					t.Fatalf("%s as %v: element %d is %v, as Q2_0 %v", name, typ, i, b[i], a[i])
				}
			}
		}
	}
}

func TestGainsOfTheResidualAreFoldedIntoTheLastMatrices(t *testing.T) {
	be := scalarBackend(t)
	w := collected(t, be, plain(func(c *model.Config) { c.Residual = "scaled:init=0.7" }))
	was, _ := llamaFile(t, &modelfile.Weights{Model: must(model.New(plain(func(*model.Config) {}))), Tensors: w.Tensors}, ggml.F32)
	for _, typ := range []ggml.Type{ggml.Q2_0, ggml.F16, ggml.F32} {
		path, folded := llamaFile(t, w, typ)
		for _, p := range []struct{ file, gain string }{
			{"blk.0.attn_output.weight", "blk.0.attn.scaled.gain"}, {"blk.1.ffn_down.weight", "blk.1.ffn.scaled.gain"},
		} {
			g := float64(w.Tensors[p.gain].F32()[0])
			if g == 1 {
				t.Fatalf("%s is 1: nothing to fold", p.gain)
			}
			got, largest := values(t, path, p.file), 0.0
			for i, v := range scaleless(w, p.file) {
				want := v * g
				if d := math.Abs(float64(got[i]) - want); d > math.Abs(want)*folded+1e-12 {
					t.Fatalf("%s as %v: element %d is %v, wants %v", p.file, typ, i, got[i], want)
				}
				largest = max(largest, math.Abs(want))
			}
			if largest == 0 || folded > 0x1p-10 {
				t.Errorf("%s as %v: all zeros, or folded by %v", p.file, typ, folded)
			}
		}
		if a, b := values(t, path, "blk.0.attn_q.weight"), values(t, was, "blk.0.attn_q.weight"); a[0] != b[0] || a[100] != b[100] {
			t.Errorf("%v: a weight that ends no sub-layer was scaled", typ)
		}
		back := must(modelfile.ReadGGUF(path))
		got, want := loss(t, be, back), loss(t, be, w)
		if math.Abs(got.Loss-want.Loss) > 1e-2*want.Loss || back.Model.Config.Residual != "standard" {
			t.Errorf("%v: %s scores %v, was %v", typ, back.Model.Config.Residual, got.Loss, want.Loss)
		}
	}
}

// scaleless is the weight without its gain, level times scale in float64.
func scaleless(w *modelfile.Weights, file string) []float64 {
	base := map[string]string{"blk.0.attn_output.weight": "blk.0.attn.wo", "blk.1.ffn_down.weight": "blk.1.ffn.down"}[file]
	codes, scales := w.Tensors[base+".codes"], w.Tensors[base+".scales"].F32()
	out := make([]float64, codes.Shape.Numel())
	for i := range out {
		out[i] = float64(int(codes.Data[i/4]>>(i%4*2)&3)-1) * float64(scales[i/64])
	}
	return out
}

func TestWhatLlamaCannotHoldIsRefused(t *testing.T) {
	be := scalarBackend(t)
	for name, v := range map[string]struct {
		change func(*model.Config)
		want   error
	}{
		"streams":          {func(c *model.Config) { c.Residual = "mhclite:streams=2" }, modelfile.ErrArchitecture},
		"sub-norm":         {func(c *model.Config) { c.SubNorm = true }, modelfile.ErrArchitecture},
		"small groups":     {func(c *model.Config) { c.Quant = "ternary:group=32" }, ggml.ErrLossy},
		"f32 scales":       {func(c *model.Config) { c.Quant = "ternary:group=64,scale=f32" }, ggml.ErrLossy},
		"four bits":        {func(c *model.Config) { c.Quant = "int4:group=64" }, ggml.ErrLossy},
		"no ternary model": {func(c *model.Config) { c.Quant, c.Head = "none", "f16" }, ggml.ErrLossy},
	} {
		w := collected(t, be, plain(v.change))
		path := filepath.Join(t.TempDir(), "llama.gguf")
		_, err := w.WriteLlama(path, modelfile.LlamaOptions{Type: ggml.Q2_0})
		if !errors.Is(err, v.want) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v with hints %v, wants %v", name, err, errors.GetAllHints(err), v.want)
		}
		if _, err := gguf.Open(path); err == nil {
			t.Errorf("%s: a file was written", name)
		}
	}
}

// Dequantize of the graph, run by a backend, is what the weights stand for.
func TestDequantizedFilesHoldWhatTheCodesStandFor(t *testing.T) {
	be, ctx := scalarBackend(t), context.Background()
	for _, spec := range []string{"ternary:group=64", "binary:group=row", "int4:group=32,scale=f32", "int8:group=tensor"} {
		w := collected(t, be, plain(func(c *model.Config) { c.Quant = spec }))
		codes, scales := w.Tensors["blk.1.ffn.down.codes"], w.Tensors["blk.1.ffn.down.scales"]
		exe := must(be.Compile(ctx, must(graph.Trace(func(b *graph.Builder) {
			c := b.GlobalBuffer("codes", codes.Type)
			s := b.GlobalBuffer("scales", scales.Type)
			b.Output("w", b.Dequantize(c, s, w.Model.Quantizer().Format().Levels))
		}))))
		defer exe.Close()
		store := must(be.NewStore())
		defer store.Close()
		if err := errors.CombineErrors(store.Put(ctx, "codes", codes), store.Put(ctx, "scales", scales)); err != nil {
			t.Fatal(err)
		}
		want := tensor.New(tensor.Type{DType: tensor.F32, Shape: codes.Shape})
		if err := exe.Run(ctx, store, nil, []*tensor.Tensor{want}); err != nil {
			t.Fatal(err)
		}
		path, _ := llamaFile(t, w, ggml.F32)
		for i, v := range values(t, path, "blk.1.ffn_down.weight") {
			if v != want.F32()[i] {
				t.Fatalf("%s: element %d is %v, wants %v", spec, i, v, want.F32()[i])
			}
		}
		back := must(modelfile.ReadGGUF(path))
		if got := back.Model.Config; got.Quant != "none" || got.Head != "ternary" {
			t.Errorf("%s: read back with quantizer %s, head %s", spec, got.Quant, got.Head)
		}
		// It differs from the model by the rounding of activations alone.
		if got, want := loss(t, be, back), loss(t, be, w); math.Abs(got.Loss-want.Loss) > 1e-2*want.Loss {
			t.Errorf("%s: scores %v, was %v", spec, got.Loss, want.Loss)
		}
	}
}

func TestWeightsBeyondTheRangeOfF16AreNotWrittenAsInfinities(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Quant, c.Head = "none", "f16" }))
	w.Tensors["blk.0.attn.wq.weight"].F32()[5] = 70000
	_, err := w.WriteLlama(filepath.Join(t.TempDir(), "llama.gguf"), modelfile.LlamaOptions{Type: ggml.F16})
	if !errors.Is(err, ggml.ErrLossy) || !strings.Contains(err.Error(), "blk.0.attn_q.weight") {
		t.Errorf("%v", err)
	}
}

func TestDamageInALlamaFileIsFound(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(*model.Config) {}))
	path, _ := llamaFile(t, w, ggml.Q2_0)
	f := must(gguf.Open(path))
	at := must(f.Tensor("blk.0.ffn_up.weight")).Offset + 7
	f.Close()
	raw := must(os.ReadFile(path))
	raw[at] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := modelfile.ReadGGUF(path); !errors.Is(err, modelfile.ErrModel) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("%v", err)
	}
}
