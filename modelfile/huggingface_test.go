package modelfile_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

func TestHuggingFaceDirectoriesReadBackToTheSameBits(t *testing.T) {
	be := scalarBackend(t)
	for name, change := range map[string]func(*model.Config){
		"llama":      func(c *model.Config) { c.Quant, c.Head = "none", "f16" },
		"tied":       func(c *model.Config) { c.Quant, c.Head, c.Tied = "none", "f16", true },
		"wide heads": func(c *model.Config) { c.Quant, c.Head, c.HeadWidth = "none", "f16", 64 },
		"bitnet":     func(c *model.Config) { c.Quant, c.Head, c.Tied, c.SubNorm = "none", "f16", true, true },
		"untied":     func(c *model.Config) { c.Quant, c.Head, c.SubNorm = "none", "f16", true },
		"relu2": func(c *model.Config) {
			c.Quant, c.Head, c.Tied, c.SubNorm, c.Activation = "none", "f16", true, true, "relu2"
		},
		"scaled RoPE": func(c *model.Config) { c.Quant, c.Head, c.RoPEFactors, c.RoPEGain = "none", "f16", ramp(16), 1.25 },
		"low factors": func(c *model.Config) { c.Quant, c.Head, c.RoPEFactors = "none", "f16", constant(0.5, 16) },
		"a gain":      func(c *model.Config) { c.Quant, c.Head, c.RoPEGain = "none", "f16", 1.25 },
		"linear RoPE": func(c *model.Config) { c.Quant, c.Head, c.RoPEFactors = "none", "f16", constant(2, 16) },
	} {
		w := collected(t, be, plain(change))
		dir := filepath.Join(t.TempDir(), "model")
		if _, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: ggml.F32}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := modelfile.Open(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer back.Close()
		if got, want := loss(t, be, back), loss(t, be, w); got != want {
			t.Errorf("%s: scores %+v, was %+v", name, got, want)
		}
		if tok, err := back.Tokenizer(); err != nil || tok.Name() != base.Tokenizer {
			t.Errorf("%s: tokenizer %v, %v", name, tok, err)
		}
		again := filepath.Join(t.TempDir(), "again")
		if _, err := back.WriteHuggingFace(again, modelfile.HuggingFaceOptions{Type: ggml.F32}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, file := range []string{"config.json", "model.safetensors"} {
			if !bytes.Equal(must(os.ReadFile(filepath.Join(dir, file))), must(os.ReadFile(filepath.Join(again, file)))) {
				t.Errorf("%s: writing what was read gives another %s", name, file)
			}
		}
	}
}

// Factors that change with the length of the text are those of short ones, for which
// the context is then.
func TestLongRoPEIsReadUpToTheOriginalContext(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Quant, c.Head = "none", "f16" }))
	dir := filepath.Join(t.TempDir(), "model")
	if _, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: ggml.BF16}); err != nil {
		t.Fatal(err)
	}
	list := func(v float64) string {
		return "[" + strings.TrimSuffix(strings.Repeat(fmt.Sprint(v)+",", 16), ",") + "]"
	}
	for name, c := range map[string]struct {
		members string
		context int
		gain    float64
	}{
		"other factors": {`"original_max_position_embeddings": 16, "short_factor": ` + list(1.5) + `, "long_factor": ` + list(3), 16, math.Sqrt(1 + math.Log(4)/math.Log(16))},
		"the same":      {`"original_max_position_embeddings": 16, "short_factor": ` + list(1.5) + `, "long_factor": ` + list(1.5), 64, math.Sqrt(1 + math.Log(4)/math.Log(16))},
		"a factor":      {`"original_max_position_embeddings": 16, "factor": 1.0, "short_factor": ` + list(1.5) + `, "long_factor": ` + list(3), 16, 0},
		"a gain":        {`"original_max_position_embeddings": 16, "attention_factor": 0.75, "short_factor": ` + list(1.5) + `, "long_factor": ` + list(3), 16, 0.75},
		"no original":   {`"short_factor": ` + list(1.5) + `, "long_factor": ` + list(3), 64, 0},
	} {
		other := filepath.Join(t.TempDir(), "other")
		copyDir(t, dir, other, func(file string, data []byte) []byte {
			if file != "config.json" {
				return data
			}
			return bytes.Replace(data, []byte(`"rope_scaling": null`), []byte(`"rope_scaling": {"rope_type": "longrope", `+c.members+`}`), 1)
		})
		got := opened(t, other).Model.Config
		if got.Context != c.context || math.Abs(got.RoPEGain-c.gain) > 1e-12 || !slices.Equal(got.RoPEFactors, constant(1.5, 16)) {
			t.Errorf("%s: context %d, gain %v, factors %v, want %d, %v and 1.5", name, got.Context, got.RoPEGain, got.RoPEFactors, c.context, c.gain)
		}
	}
}

func TestAVocabularyWithoutAnEndIsWritten(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Quant, c.Head = "none", "f16" }))
	dir, endless := filepath.Join(t.TempDir(), "model"), filepath.Join(t.TempDir(), "endless")
	o := modelfile.HuggingFaceOptions{Type: ggml.F32}
	if _, err := w.WriteHuggingFace(dir, o); err != nil {
		t.Fatal(err)
	}
	d := must(huggingface.Open(dir))
	defer d.Close()
	var entries []safetensors.Entry
	for _, name := range d.Names() {
		entries = append(entries, safetensors.Of(name, must(d.Tensor(name))))
	}
	c, v := *d.Config, *must(must(w.Tokenizer()).Vocabulary())
	c.BOS, c.EOS, v.BOS, v.EOS, v.AddBOS = -1, nil, -1, -1, false
	v.Tokens = slices.Clone(v.Tokens)
	v.Tokens[len(v.Tokens)-1] = "<|none|>" // else it is known to be tern's own
	if err := huggingface.Write(endless, &c, &v, entries); err != nil {
		t.Fatal(err)
	}
	back := opened(t, endless)
	if v := must(must(back.Tokenizer()).Vocabulary()); v.EOS >= 0 {
		t.Fatalf("the end is %d", v.EOS)
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, err := back.WriteHuggingFace(again, o); err != nil {
		t.Fatal(err)
	}
	if c := must(huggingface.ReadConfig(again)); len(c.EOS) != 0 || c.BOS != -1 {
		t.Errorf("begins with %d, ends with %v", c.BOS, c.EOS)
	}
}

func constant(v float64, n int) []float64 {
	f := make([]float64, n)
	for i := range f {
		f[i] = v
	}
	return f
}

// oneScaleModel has ternary weights with one scale each, as BitNet's have.
func oneScaleModel(t *testing.T) *modelfile.Weights {
	return collected(t, scalarBackend(t), plain(func(c *model.Config) {
		c.Quant, c.Head, c.Tied, c.SubNorm, c.Activation = "ternary:group=tensor,scale=f32", "f16", true, true, "relu2"
	}))
}

// bitNetDirectory writes w as transformers' BitNetForCausalLM: linear turns the codes and the scale of a layer, in
// the order of rows that transformers wants, into its tensors.
func bitNetDirectory(t *testing.T, w *modelfile.Weights, q *huggingface.Quantization,
	linear func(name string, codes *tensor.Tensor, scale float32) []safetensors.Entry,
) string {
	t.Helper()
	c := w.Model.Config
	var entries []safetensors.Entry
	for name, x := range w.Tensors {
		base, kind := name[:strings.LastIndexByte(name, '.')], name[strings.LastIndexByte(name, '.')+1:]
		hf := hfName(t, base)
		switch {
		case kind == "scales":
		case kind == "codes":
			if strings.HasSuffix(base, ".wq") || strings.HasSuffix(base, ".wk") {
				x = halved(x, c.HeadDim())
			}
			entries = append(entries, linear(hf, x, w.Tensors[base+".scales"].F32()[0])...)
		default:
			entries = append(entries, safetensors.Of(hf+".weight", x))
		}
	}
	h := &huggingface.Config{
		Architectures: []string{"BitNetForCausalLM"}, ModelType: "bitnet", HiddenSize: c.Dim, IntermediateSize: c.FFN, NumHiddenLayers: c.Layers,
		NumAttentionHeads: c.Heads, NumKeyValueHeads: c.KVHeads, HeadDim: c.HeadDim(), VocabSize: c.Vocab, MaxPositionEmbeddings: c.Context,
		RMSNormEps: c.NormEps, RopeTheta: c.RoPETheta, TieWordEmbeddings: true, HiddenAct: "relu2", BOS: -1, PAD: -1, Quantization: q,
	}
	dir := filepath.Join(t.TempDir(), "bitnet")
	if err := huggingface.Write(dir, h, must(must(w.Tokenizer()).Vocabulary()), entries); err != nil {
		t.Fatal(err)
	}
	return dir
}

// hfName is transformers' name of a state's base name.
func hfName(t *testing.T, base string) string {
	t.Helper()
	part := strings.NewReplacer(".attn.wq", ".self_attn.q_proj", ".attn.wk", ".self_attn.k_proj", ".attn.wv", ".self_attn.v_proj",
		".attn.wo", ".self_attn.o_proj", ".attn.sub_norm", ".self_attn.attn_sub_norm", ".ffn.sub_norm", ".mlp.ffn_sub_norm",
		".ffn.gate", ".mlp.gate_proj", ".ffn.up", ".mlp.up_proj", ".ffn.down", ".mlp.down_proj",
		".attn.norm", ".input_layernorm", ".ffn.norm", ".post_attention_layernorm", "blk.", "model.layers.")
	switch base {
	case "tok_embed":
		return "model.embed_tokens"
	case "norm":
		return "model.norm"
	}
	return part.Replace(base)
}

// halved has rows 0, 2, 4, ... of each head of width d before rows 1, 3, 5, ...
func halved(x *tensor.Tensor, d int) *tensor.Tensor {
	out := tensor.New(x.Type)
	row := len(x.Data) / x.Shape[0]
	at := 0
	for head := 0; head < x.Shape[0]; head += d {
		for odd := range 2 {
			for i := odd; i < d; i += 2 {
				copy(out.Data[at*row:(at+1)*row], x.Data[(head+i)*row:])
				at++
			}
		}
	}
	return out
}

// number is a tensor of one number.
func number(name string, v float32) safetensors.Entry {
	return safetensors.Of(name, tensor.FromF32([]float32{v}, 1))
}

func TestPackedBitNetWeightsComputeTheSameBits(t *testing.T) {
	w, be := oneScaleModel(t), scalarBackend(t)
	want := loss(t, be, w)
	packed := func(scale func(float32) float32) func(string, *tensor.Tensor, float32) []safetensors.Entry {
		return func(name string, codes *tensor.Tensor, s float32) []safetensors.Entry {
			return []safetensors.Entry{huggingface.Packed(name+".weight", must(huggingface.Pack(codes))), number(name+".weight_scale", scale(s))}
		}
	}
	for _, v := range []struct {
		class string
		scale func(float32) float32
		off   float64 // of the loss: 1/(1/s) need not be s
	}{
		{"autobitlinear", func(s float32) float32 { return s }, 0},
		{"bitlinear", func(s float32) float32 { return 1 / s }, 1e-5},
	} {
		dir := bitNetDirectory(t, w, &huggingface.Quantization{LinearClass: v.class, Mode: "offline"}, packed(v.scale))
		back, err := modelfile.Open(dir)
		if err != nil {
			t.Fatalf("%s: %v", v.class, err)
		}
		defer back.Close()
		if got := loss(t, be, back); math.Abs(got.Loss-want.Loss) > v.off*want.Loss {
			t.Errorf("%s: loss %v, was %v", v.class, got.Loss, want.Loss)
		}
	}
}

// Weights in full precision that transformers quantizes in every pass are quantized once.
func TestOnlineBitNetWeightsAreQuantizedByTheirMean(t *testing.T) {
	w, be := oneScaleModel(t), scalarBackend(t)
	// Floats whose mean magnitude is the scale, and that round to the codes: of the
	// codes that are not zero all are scaled to the mean.
	floats := func(name string, codes *tensor.Tensor, s float32) []safetensors.Entry {
		x, some := tensor.New(tensor.Type{DType: tensor.F32, Shape: codes.Shape}), 0
		for i := range x.F32() {
			x.F32()[i] = float32(int(codes.Data[i/4]>>(i%4*2)&3) - 1)
			some += int(math.Abs(float64(x.F32()[i])))
		}
		for i := range x.F32() {
			x.F32()[i] *= s * float32(len(x.F32())) / float32(some)
		}
		return []safetensors.Entry{safetensors.Of(name+".weight", x)}
	}
	for name, q := range map[string]*huggingface.Quantization{
		"online": {LinearClass: "autobitlinear", Mode: "online"},
		"kept":   {LinearClass: "autobitlinear", Mode: "online", NotConverted: []string{"lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}},
	} {
		back, err := modelfile.Open(bitNetDirectory(t, w, q, floats))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer back.Close()
		got, want := loss(t, be, back), loss(t, be, w)
		near := math.Abs(got.Loss-want.Loss) < 1e-5*want.Loss
		if near != (name == "online") {
			t.Errorf("%s: loss %v, of the codes %v", name, got.Loss, want.Loss)
		}
	}
}

func TestHuggingFaceModelsThatDoNotFitAreRefused(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Quant, c.Head = "none", "f16" }))
	dir := filepath.Join(t.TempDir(), "model")
	if _, err := w.WriteHuggingFace(dir, modelfile.HuggingFaceOptions{Type: ggml.BF16}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ from, to, says string }{
		"a bias":            {`"attention_bias": false`, `"attention_bias": true`, "bias"},
		"an activation":     {`"hidden_act": "silu"`, `"hidden_act": "gelu"`, "gelu"},
		"dynamic positions": {`"rope_scaling": null`, `"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}`, "dynamic"},
		"a ternary head":    {`"rope_scaling": null`, `"quantization_config": {"quant_method": "bitnet", "modules_to_not_convert": []}`, "lm_head"},
		"more layers":       {`"num_hidden_layers": 2`, `"num_hidden_layers": 3`, "blk.2"},
		"fewer layers":      {`"num_hidden_layers": 2`, `"num_hidden_layers": 1`, "blk.1"},
		"another width":     {`"hidden_size": 64`, `"hidden_size": 128`, "token_embd"},
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		copyDir(t, dir, bad, func(file string, data []byte) []byte {
			if file != "config.json" {
				return data
			}
			changed := strings.Replace(string(data), c.from, c.to, 1)
			if changed == string(data) {
				t.Fatalf("%s: %s has no %s", name, data, c.from)
			}
			return []byte(changed)
		})
		if w, err := modelfile.Open(bad); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, w, err)
		}
	}
}

func TestAScaleOfTheHeadIsRefused(t *testing.T) {
	entries := []safetensors.Entry{number("lm_head.weight_scale", 2)}
	dir := bitNetDirectory(t, oneScaleModel(t), &huggingface.Quantization{LinearClass: "autobitlinear", Mode: "offline"},
		func(name string, codes *tensor.Tensor, s float32) []safetensors.Entry {
			more := entries
			entries = nil
			return append(more, huggingface.Packed(name+".weight", must(huggingface.Pack(codes))), number(name+".weight_scale", s))
		})
	if w, err := modelfile.Open(dir); err == nil || !strings.Contains(err.Error(), "lm_head.weight_scale") {
		t.Errorf("%v, %v", w, err)
	}
}

// copyDir copies the files of a directory, changed by edit.
func copyDir(t *testing.T, from, to string, edit func(file string, data []byte) []byte) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range must(os.ReadDir(from)) {
		data := edit(e.Name(), must(os.ReadFile(filepath.Join(from, e.Name()))))
		if err := os.WriteFile(filepath.Join(to, e.Name()), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
