package modelfile_test

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// file is a GGUF file in memory, to be changed and written again.
type file struct {
	meta    gguf.Metadata
	tensors []gguf.TensorInfo
}

// foreignFile is the content of a file that tern wrote, without keys of tern's.
func foreignFile(t *testing.T, path string) *file {
	t.Helper()
	f := must(gguf.Open(path))
	defer f.Close()
	out := &file{}
	for _, kv := range f.Metadata {
		if !strings.HasPrefix(kv.Key, "tern.") {
			out.meta = append(out.meta, kv)
		}
	}
	for _, info := range f.Tensors {
		out.tensors = append(out.tensors, gguf.FromBytes(info.Name, info.Type, info.Shape, must(f.ReadRaw(info.Name))))
	}
	return out
}

// set replaces or adds a key; nil removes it.
func (f *file) set(key string, value any) {
	f.meta = slices.DeleteFunc(f.meta, func(kv gguf.KV) bool { return kv.Key == key })
	if value != nil {
		f.meta = append(f.meta, gguf.KV{Key: key, Value: value})
	}
}

// put replaces or adds a tensor.
func (f *file) put(info gguf.TensorInfo) {
	f.drop(info.Name)
	f.tensors = append(f.tensors, info)
}

func (f *file) drop(name string) {
	f.tensors = slices.DeleteFunc(f.tensors, func(i gguf.TensorInfo) bool { return i.Name == name })
}

func (f *file) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "foreign.gguf")
	if err := gguf.WriteFile(path, f.meta, f.tensors); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *file) read(t *testing.T) (*modelfile.Weights, error) {
	t.Helper()
	w, err := modelfile.ReadGGUF(f.write(t))
	if err == nil {
		t.Cleanup(func() { w.Close() })
	}
	return w, err
}

// Without the keys that tern writes a file is any program's, and computes the
// same: from codes where it has codes.
func TestFilesOfOtherProgramsComputeTheSameBits(t *testing.T) {
	wide := func(c *model.Config) {
		c.Layers, c.Dim, c.FFN, c.Quant, c.Head = 1, 256, 256, "ternary:group=256", "f16"
	}
	for name, v := range map[string]struct {
		o      modelfile.LlamaOptions
		change func(*model.Config)
	}{
		"F32":         {modelfile.LlamaOptions{Type: ggml.F32}, func(c *model.Config) { c.Quant, c.Head = "none", "f16" }},
		"F32, tied":   {modelfile.LlamaOptions{Type: ggml.F32}, func(c *model.Config) { c.Quant, c.Head, c.Tied = "none", "f16", true }},
		"Q2_0":        {modelfile.LlamaOptions{Type: ggml.Q2_0}, func(c *model.Config) { c.Head = "f16" }},
		"TQ1_0":       {modelfile.LlamaOptions{Type: ggml.TQ1_0}, wide},
		"TQ2_0":       {modelfile.LlamaOptions{Type: ggml.TQ2_0}, wide},
		"bitnet":      {modelfile.LlamaOptions{Arch: modelfile.BitNet, Type: ggml.Q2_0}, func(c *model.Config) { c.Head, c.Tied, c.SubNorm = "f16", true, true }},
		"relu2":       {modelfile.LlamaOptions{Arch: modelfile.BitNet, Type: ggml.Q2_0}, func(c *model.Config) { c.Head, c.Tied, c.SubNorm, c.Activation = "f16", true, true, "relu2" }},
		"wide heads":  {modelfile.LlamaOptions{Type: ggml.Q2_0}, func(c *model.Config) { c.Head, c.HeadWidth = "f16", 64 }},
		"scaled RoPE": {modelfile.LlamaOptions{Type: ggml.Q2_0}, func(c *model.Config) { c.Head, c.RoPEFactors, c.RoPEGain = "f16", ramp(16), 1.25 }},
	} {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, be framework.Backend) {
				w := collected(t, be, plain(v.change))
				path := filepath.Join(t.TempDir(), "own.gguf")
				if _, err := w.WriteLlama(path, v.o); err != nil {
					t.Fatal(err)
				}
				back := must(foreignFile(t, path).read(t))
				if got, want := loss(t, be, back), loss(t, be, w); got != want {
					t.Errorf("scores %+v, was %+v", got, want)
				}
				if tok, err := back.Tokenizer(); err != nil || tok.Name() != base.Tokenizer {
					t.Errorf("tokenizer %v, %v", tok, err)
				}
			})
		})
	}
}

// The architecture says which activation there is, unless a key does.
func TestTheActivationOfABitNetFile(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Head, c.Tied, c.SubNorm, c.Activation = "f16", true, true, "relu2" }))
	path, _ := llamaFile(t, w, ggml.Q2_0)
	for _, v := range []struct{ arch, key, want string }{
		{"bitnet", "", ""},
		{"bitnet", "silu", ""},
		{"bitnet", "relu2", "relu2"},
		{"bitnet-b1.58", "", "relu2"},
		{"bitnet-b1.58", "silu", ""},
		{"bitnet-b1.58", "relu2", "relu2"},
	} {
		f := foreignFile(t, path)
		if got, _ := f.meta.Get("bitnet-b1.58.hidden_activation"); got != "relu2" {
			t.Fatalf("tern writes %v", got)
		}
		for i, kv := range f.meta {
			f.meta[i].Key = strings.Replace(kv.Key, "bitnet-b1.58.", v.arch+".", 1)
		}
		f.set("general.architecture", v.arch)
		f.set(v.arch+".hidden_activation", nil)
		if v.key != "" {
			f.set(v.arch+".hidden_activation", v.key)
		}
		if got := must(f.read(t)).Model.Activation; got != v.want {
			t.Errorf("%s, key %q: activation %q, want %q", v.arch, v.key, got, v.want)
		}
	}
}

func ramp(n int) []float64 {
	f := make([]float64, n)
	for i := range f {
		f[i] = 1 + float64(i)/4
	}
	return f
}

// randomBlocks are weights of a type with small scales, made of random bytes.
func randomBlocks(typ ggml.Type, s tensor.Shape, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	data := make([]byte, must(typ.Bytes(s)))
	for i := range data {
		data[i] = byte(r.UintN(256))
	}
	half := func(at int, v float32) { binary.LittleEndian.PutUint16(data[at:], tensor.F32ToF16(v)) }
	for at := 0; at < len(data); at += typ.BlockBytes() {
		block := data[at : at+typ.BlockBytes()]
		switch typ {
		case ggml.Q4_0, ggml.Q5_0:
			half(at, 0.01)
		case ggml.Q8_0:
			half(at, 0.0006)
			for i := range block[2:] {
				if block[2+i] == 0x80 {
					block[2+i] = 0x81
				}
			}
		case ggml.Q4_1:
			half(at, 0.01)
			half(at+2, -0.07)
		case ggml.Q5_1:
			half(at, 0.005)
			half(at+2, -0.07)
		case ggml.Q4_K, ggml.Q5_K:
			half(at, 0.0003)
			half(at+2, 0.002)
		case ggml.Q6_K:
			half(at+208, 0.0001)
		}
	}
	return data
}

// The integer kernels, two 8-bit parts of the activations and minima, are near
// what the dequantized weights compute.
func TestQuantizedWeightsComputeWhatTheyStandFor(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) {
		c.Layers, c.Dim, c.FFN, c.Quant, c.Head = 1, 256, 256, "none", "f16"
	}))
	path, _ := llamaFile(t, w, ggml.F32)
	for _, typ := range []ggml.Type{ggml.Q4_0, ggml.Q4_1, ggml.Q5_0, ggml.Q5_1, ggml.Q8_0, ggml.Q4_K, ggml.Q5_K, ggml.Q6_K} {
		packed, floats := foreignFile(t, path), foreignFile(t, path)
		for i, info := range slices.Clone(packed.tensors) {
			if len(info.Shape) != 2 || !strings.HasPrefix(info.Name, "blk.") {
				continue
			}
			data := randomBlocks(typ, info.Shape, uint64(i))
			packed.put(gguf.FromBytes(info.Name, typ, info.Shape, data))
			x := tensor.New(tensor.Type{DType: tensor.F32, Shape: info.Shape})
			if err := typ.Dequantize(x.F32(), data); err != nil {
				t.Fatal(err)
			}
			floats.put(must(gguf.FromTensor(info.Name, x)))
		}
		eachBackend(t, func(t *testing.T, be framework.Backend) {
			got, want := loss(t, be, must(packed.read(t))), loss(t, be, must(floats.read(t)))
			if d := math.Abs(got.Loss - want.Loss); !(d < 1e-4*want.Loss) {
				t.Errorf("%v: loss %v, of floats %v", typ, got.Loss, want.Loss)
			}
		})
	}
}

// What tern would compute wrongly, or not at all, is one clear error.
func TestForeignModelsThatDoNotFitAreRefused(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Head = "f16" }))
	path, _ := llamaFile(t, w, ggml.Q2_0)
	f32 := func(name string, dims ...int) gguf.TensorInfo {
		return must(gguf.FromTensor(name, tensor.New(tensor.T(tensor.F32, dims...))))
	}
	nan := f32("blk.0.attn_norm.weight", 64)
	nan.Data = func(w io.Writer) error {
		_, err := w.Write(slices.Repeat([]byte{0, 0, 0xc0, 0x7f}, 64))
		return err
	}
	for name, v := range map[string]struct {
		change func(*file)
		says   string
	}{
		"another architecture":   {func(f *file) { f.set("general.architecture", "gpt2") }, `architecture "gpt2"`},
		"no layers":              {func(f *file) { f.set("llama.block_count", uint32(0)) }, "layers"},
		"more layers than there": {func(f *file) { f.set("llama.block_count", uint32(3)) }, "blk.2.attn_norm.weight"},
		"fewer layers":           {func(f *file) { f.set("llama.block_count", uint32(1)) }, "blk.1."},
		"layers beyond memory":   {func(f *file) { f.set("llama.block_count", uint32(1<<30)) }, "layers"},
		"no width":               {func(f *file) { f.set("llama.embedding_length", nil) }, "llama.embedding_length"},
		"a width of text":        {func(f *file) { f.set("llama.embedding_length", "64") }, "llama.embedding_length"},
		"heads by layer":         {func(f *file) { f.set("llama.attention.head_count", []uint32{2, 2}) }, "llama.attention.head_count"},
		"no heads":               {func(f *file) { f.set("llama.attention.head_count", uint32(0)) }, "head_count"},
		"three heads":            {func(f *file) { f.set("llama.attention.head_count", uint32(3)) }, "head_count"},
		"experts":                {func(f *file) { f.set("llama.expert_count", uint32(8)) }, "llama.expert_count is 8"},
		"a sliding window":       {func(f *file) { f.set("llama.attention.sliding_window", uint32(8)) }, "sliding_window"},
		"half rotary":            {func(f *file) { f.set("llama.rope.dimension_count", uint32(16)) }, "llama.rope.dimension_count is 16"},
		"other values":           {func(f *file) { f.set("llama.attention.value_length", uint32(16)) }, "value_length"},
		"an activation":          {func(f *file) { f.set("llama.hidden_activation", "gelu") }, `llama.hidden_activation is "gelu"`},
		"llama's no activation":  {func(f *file) { f.set("llama.hidden_activation", "relu2") }, `llama.hidden_activation is "relu2"`},
		"unknown scaling":        {func(f *file) { f.set("llama.rope.scaling.type", "longrope") }, `"longrope"`},
		"a factor of nothing":    {func(f *file) { f.set("llama.rope.scaling.factor", float32(math.NaN())) }, "llama.rope.scaling.factor"},
		"a missing tensor":       {func(f *file) { f.drop("blk.1.ffn_up.weight") }, "blk.1.ffn_up.weight"},
		"a bias":                 {func(f *file) { f.put(f32("blk.0.attn_q.bias", 64)) }, "blk.0.attn_q.bias"},
		"sub-norms":              {func(f *file) { f.put(f32("blk.0.attn_sub_norm.weight", 64)) }, "attn_sub_norm"},
		"a matrix turned":        {func(f *file) { f.put(f32("blk.0.ffn_up.weight", 64, 128)) }, "blk.0.ffn_up.weight"},
		"a matrix that is none":  {func(f *file) { f.put(f32("token_embd.weight", 512)) }, "token_embd.weight"},
		"factors of another":     {func(f *file) { f.put(f32("rope_freqs.weight", 7)) }, "rope_freqs.weight"},
		"factors of zero":        {func(f *file) { f.put(f32("rope_freqs.weight", 16)) }, "rope_factors"},
		"too many words":         {func(f *file) { f.set("llama.vocab_size", nil); f.put(f32("token_embd.weight", 500, 64)) }, "512 tokens"},
		"another vocabulary":     {func(f *file) { f.set("llama.vocab_size", uint32(511)) }, "a vocabulary of 511 (vocab_size)"},
		"words without merges":   {func(f *file) { f.set("tokenizer.ggml.tokens", []string{"a"}) }, "token"},
		"an unknown split":       {func(f *file) { f.set("tokenizer.ggml.pre", "morse") }, "morse"},
		"no number among gains":  {func(f *file) { f.put(nan) }, "blk.0.attn_norm.weight"},
	} {
		t.Run(name, func(t *testing.T) {
			f := foreignFile(t, path)
			v.change(f)
			w, err := f.read(t)
			if err == nil { // then it is found when the weights are asked for
				s := must(scalarBackend(t).NewStore())
				defer s.Close()
				err = w.Put(context.Background(), s)
				for _, name := range s.Names() {
					_, e := s.Get(context.Background(), name)
					err = errors.CombineErrors(err, e)
				}
			}
			if err == nil || !strings.Contains(err.Error(), v.says) || len(errors.GetAllHints(err)) == 0 {
				t.Errorf("%v, hints %q; wants %q", err, errors.GetAllHints(err), v.says)
			}
		})
	}
}

// Weights are read when a run needs them: by then the file may have been cut, and
// what is mapped of it may fault.
func TestAFileThatShrinksAfterItWasOpenedIsAnErrorOfATensor(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Quant, c.Head = "none", "f16" }))
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		for _, typ := range []ggml.Type{ggml.F32, ggml.BF16, ggml.Q8_0, ggml.Q2_0} {
			path := filepath.Join(t.TempDir(), "own.gguf")
			if _, err := w.WriteLlama(path, modelfile.LlamaOptions{Type: typ, Lossy: true}); err != nil {
				t.Fatal(err)
			}
			for _, part := range []int64{0, 2, 3} { // quarters
				path := foreignFile(t, path).write(t)
				back := must(modelfile.ReadGGUF(path))
				defer back.Close()
				if err := os.Truncate(path, must(os.Stat(path)).Size()*part/4); err != nil {
					t.Fatal(err)
				}
				m, err := infer.Load(context.Background(), be, back)
				if err == nil {
					defer m.Close()
					s := must(m.NewSession())
					defer s.Close()
					_, err = s.Feed(context.Background(), []int32{1})
				}
				if !errors.Is(err, gguf.ErrFormat) || !strings.Contains(err.Error(), "tensor ") {
					t.Errorf("%v, %d quarters left: %v", typ, part, err)
				}
			}
		}
	})
}

// Other programs keep the keys that tern wrote when they write the tensors in
// another type.
func TestKeysOfTernThatAreStaleAreNotBelieved(t *testing.T) {
	w := collected(t, scalarBackend(t), plain(func(c *model.Config) { c.Quant, c.Head = "none", "f16" }))
	path, _ := llamaFile(t, w, ggml.F32)
	own := must(gguf.Open(path))
	defer own.Close()
	f := &file{meta: own.Metadata}
	for _, info := range own.Tensors {
		x := must(own.ReadRaw(info.Name))
		if len(info.Shape) == 2 && strings.HasPrefix(info.Name, "blk.") {
			q := make([]byte, must(ggml.Q8_0.Bytes(info.Shape)))
			if err := ggml.Q8_0.Quantize(q, tensor.View[float32](x)); err != nil {
				t.Fatal(err)
			}
			f.tensors = append(f.tensors, gguf.FromBytes(info.Name, ggml.Q8_0, info.Shape, q))
			continue
		}
		f.tensors = append(f.tensors, gguf.FromBytes(info.Name, info.Type, info.Shape, x))
	}
	if _, err := f.read(t); err == nil {
		t.Error("tensors of other types than the file says were taken")
	}
	f.set("general.file_type", uint32(7))
	be := scalarBackend(t)
	got, want := loss(t, be, must(f.read(t))), loss(t, be, w)
	if d := math.Abs(got.Loss - want.Loss); !(d < 1e-2*want.Loss) || d == 0 {
		t.Errorf("loss %v, was %v", got.Loss, want.Loss)
	}
}
