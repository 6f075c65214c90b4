package modelfile_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	_ "github.com/ternlm/tern/backends/all"
	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/mhc"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var base = model.Config{
	Tokenizer: "gpt2:512", Vocab: 512, Dim: 64, Layers: 2, Heads: 2, KVHeads: 1, FFN: 128, Context: 64, RoPETheta: 10000, NormEps: 1e-6,
	Quant: "ternary:group=64", Residual: "mhclite:streams=2", Head: "ternary", SubNorm: true,
}

// variants are models that are stored in different ways.
var variants = map[string]func(*model.Config){
	"ternary":       func(*model.Config) {},
	"f32 scales":    func(c *model.Config) { c.Quant = "ternary:group=32,scale=f32" },
	"row scales":    func(c *model.Config) { c.Quant = "ternary:group=row" },
	"tensor scales": func(c *model.Config) { c.Quant = "ternary:group=tensor" },
	"tied":          func(c *model.Config) { c.Head, c.Tied = "f16", true },
	"f16 head":      func(c *model.Config) { c.Head, c.Residual = "f16", "standard" },
	"int8 head":     func(c *model.Config) { c.Head = "int8" },
	"int8 alone":    func(c *model.Config) { c.Quant, c.Head, c.Residual = "none", "int8", "standard" },
	"blocks of 32":  func(c *model.Config) { c.Quant = "int8:group=32" },
	"int8 by rows":  func(c *model.Config) { c.Quant, c.Head = "int8:group=row", "int8" },
	"not quantized": func(c *model.Config) { c.Quant, c.Head, c.Residual = "none", "f16", "scaled" },
	"four streams":  func(c *model.Config) { c.Residual, c.SubNorm = "mhclite:streams=4", false },
	"mhc-lite":      func(c *model.Config) { c.Residual = "mhclite:streams=4,mode=dynamic" },
	"mhc":           func(c *model.Config) { c.Residual = "mhc:streams=2" },
	"kromhc":        func(c *model.Config) { c.Residual = "kromhc:streams=8" },
	"ihc":           func(c *model.Config) { c.Residual = "ihc:streams=4" },
	"hc":            func(c *model.Config) { c.Residual = "hc:streams=4" },
	"shc":           func(c *model.Config) { c.Residual = "shc:streams=2" },
}

// trained is a trainer of c after a few steps.
func trained(t *testing.T, be framework.Backend, c model.Config) *train.Trainer {
	t.Helper()
	ctx := context.Background()
	r := must(train.LookupRecipe("default"))
	r.Batch, r.Window, r.Steps, r.Warmup = 2, 32, 3, 0
	tr, err := train.New(ctx, be, must(model.New(c)), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	src := must(r.Batches(text))
	for range r.Steps {
		if _, err := tr.Step(ctx, src); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

var text = must(data.TokenizeText(context.Background(), must(tinystories.Valid())[:40_000], "gpt2:512"))

// eachBackend runs f on every backend that this machine has.
func eachBackend(t *testing.T, f func(t *testing.T, be framework.Backend)) {
	for _, name := range framework.Backends.Names() {
		t.Run(name, func(t *testing.T) {
			be, err := framework.Backends.Open(name)
			if errors.Is(err, framework.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer be.Close()
			f(t, be)
		})
	}
}

func scalarBackend(t *testing.T) framework.Backend {
	t.Helper()
	be := must(framework.Backends.Open("scalar"))
	t.Cleanup(func() { be.Close() })
	return be
}

// score evaluates the weights in s.
func score(t *testing.T, be framework.Backend, m *model.Model, p model.Pass, s framework.Store) train.Score {
	t.Helper()
	ev, err := train.NewEvaluator(context.Background(), be, m, p, text, 2, 32, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer ev.Close()
	return must(ev.Run(context.Background(), s))
}

// What is read back computes what was trained, bit for bit, once the
// embedding, which a file holds as f16, has f16 values.
func TestTheFileComputesWhatWasTrained(t *testing.T) {
	for name, change := range variants {
		t.Run(name, func(t *testing.T) {
			c := base
			change(&c)
			eachBackend(t, func(t *testing.T, be framework.Backend) { checkFile(t, be, c) })
		})
	}
}

func checkFile(t *testing.T, be framework.Backend, c model.Config) {
	ctx := context.Background()
	tr := trained(t, be, c)
	defer tr.Close()
	path := filepath.Join(t.TempDir(), "model.gguf")
	w := must(modelfile.Collect(ctx, tr.Model, tr.Store()))
	if err := w.WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	r := must(modelfile.ReadGGUF(path))
	if !reflect.DeepEqual(r.Model.Config, tr.Model.Config) {
		t.Errorf("configuration %+v, want %+v", r.Model.Config, tr.Model.Config)
	}
	s := must(be.NewStore())
	defer s.Close()
	if err := r.Put(ctx, s); err != nil {
		t.Fatal(err)
	}
	roundEmbeddings(t, tr)
	got, want := score(t, be, r.Model, modelfile.Pass, s), score(t, be, tr.Model, model.Pass{Packed: true}, tr.Store())
	if got != want {
		t.Errorf("the file scores %v, the trained model %v", got, want)
	}
	again := filepath.Join(t.TempDir(), "again.gguf")
	if err := r.WriteGGUF(again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(must(os.ReadFile(path)), must(os.ReadFile(again))) {
		t.Error("writing what was read gives another file")
	}
}

func roundEmbeddings(t *testing.T, tr *train.Trainer) {
	for _, p := range tr.Parameters() {
		if p.Name != "tok_embed.weight" && p.Name != "lm_head.weight" || p.Category == model.Ternary {
			continue
		}
		w := must(tr.Store().Get(context.Background(), p.Name))
		for i, v := range w.F32() {
			w.F32()[i] = tensor.F16ToF32(tensor.F32ToF16(v))
		}
		if err := tr.Store().Put(context.Background(), p.Name, w); err != nil {
			t.Fatal(err)
		}
	}
}

// The bytes that the report gives for its export: f16 embedding, 2.25 bits a
// ternary weight, f32 norms. Its own mHC parameters are in another file.
func TestBytesOfTheReferenceExport(t *testing.T) {
	m := must(model.New(must(model.Preset("nano-125m"))))
	w := &modelfile.Weights{Model: m, Tensors: map[string]*tensor.Tensor{}}
	for _, n := range must(m.LossOf(1, 1, modelfile.Pass)).States {
		w.Tensors[n.Name()] = tensor.New(n.Out[0])
	}
	const report, mhcParams = 112_014_936, 216 * 4
	if got := must(w.Bytes()); got != report+mhcParams {
		t.Errorf("tensors take %d bytes, want %d", got, report+mhcParams)
	}
	path := filepath.Join(t.TempDir(), "nano.mhc")
	if err := w.WriteMHC(path); err != nil {
		t.Fatal(err)
	}
	if st := must(os.Stat(path)); st.Size() != 880 {
		t.Errorf("the .mhc file has %d bytes, want 880", st.Size())
	}
}

func TestMHCFileHoldsTheParameters(t *testing.T) {
	be := scalarBackend(t)
	tr := trained(t, be, base)
	defer tr.Close()
	w := must(modelfile.Collect(context.Background(), tr.Model, tr.Store()))
	path := filepath.Join(t.TempDir(), "model.mhc")
	if err := w.WriteMHC(path); err != nil {
		t.Fatal(err)
	}
	f := must(mhc.Open(path))
	if len(f.SubLayers) != 4 || f.Streams != 2 {
		t.Fatalf("%d sub-layers of %d streams", len(f.SubLayers), f.Streams)
	}
	for l, p := range f.SubLayers {
		name := []string{"blk.0.attn", "blk.0.ffn", "blk.1.attn", "blk.1.ffn"}[l] + ".mhc.post_bias"
		want := must(tr.Store().Get(context.Background(), name)).F32()
		if p.PostBias[0] != want[0] || p.PostBias[1] != want[1] {
			t.Errorf("%s is %v, want %v", name, p.PostBias, want)
		}
	}
}

func TestFilesOfOthersAndDamagedFilesAreRefused(t *testing.T) {
	be := scalarBackend(t)
	tr := trained(t, be, base)
	defer tr.Close()
	w := must(modelfile.Collect(context.Background(), tr.Model, tr.Store()))
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := w.WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	whole := must(os.ReadFile(path))
	read := func(b []byte) error {
		f, err := gguf.Read(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			_, err = modelfile.FromGGUF(f)
		}
		return err
	}
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte {
		if !bytes.Contains(whole, []byte(old)) || len(old) != len(new) {
			t.Fatalf("cannot edit %q", old)
		}
		return bytes.Replace(bytes.Clone(whole), []byte(old), []byte(new), 1)
	}
	for name, b := range map[string][]byte{
		"another architecture": edit("tern", "bert"),
		"unknown quantizer":    edit("ternary:group=64", "ternery:group=64"),
		"another group":        edit("ternary:group=64", "ternary:group=16"),
		"a tensor renamed":     edit("output_norm.weight", "output_narm.weight"),
		"another tokenizer":    edit("tern.vocab_size", "tern.vocab_sise"),
		"truncated":            whole[:len(whole)-4096],
		"empty":                {},
	} {
		if err := read(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	file := must(gguf.Read(bytes.NewReader(whole), int64(len(whole))))
	for _, tensor := range file.Tensors {
		for _, at := range []int64{0, tensor.Size / 2, tensor.Size - 1} {
			b := bytes.Clone(whole)
			b[tensor.Offset+at] ^= 0x10
			if err := read(b); err == nil {
				t.Errorf("a bit of %s flipped at byte %d: accepted", tensor.Name, at)
			}
		}
	}
	theta := bytes.Clone(whole)
	theta[bytes.Index(whole, []byte("tern.rope.freq_base"))+len("tern.rope.freq_base")+4] ^= 1 // after the value's type
	if err := read(theta); err == nil {
		t.Error("a bit of the metadata flipped: accepted")
	}
	bad := w.Tensors["norm.weight"].Clone()
	bad.F32()[0] = float32(math.Inf(1))
	w.Tensors["norm.weight"] = bad
	if err := w.WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	if _, err := modelfile.ReadGGUF(path); !errors.Is(err, modelfile.ErrModel) {
		t.Errorf("an infinite gain: %v", err)
	}
}

// FuzzFromGGUF reads files made from a whole one.
func FuzzFromGGUF(f *testing.F) {
	m := must(model.New(func() model.Config {
		c := base
		c.Vocab, c.Layers, c.Dim, c.FFN, c.Quant = 8, 1, 64, 64, "ternary:group=64"
		return c
	}()))
	w := &modelfile.Weights{Model: m, Tensors: map[string]*tensor.Tensor{}}
	for _, n := range must(m.LossOf(1, 1, modelfile.Pass)).States {
		w.Tensors[n.Name()] = tensor.New(n.Out[0])
	}
	path := filepath.Join(f.TempDir(), "model.gguf")
	if err := w.WriteGGUF(path); err != nil {
		f.Fatal(err)
	}
	f.Add(must(os.ReadFile(path)))
	f.Add(must(os.ReadFile(smallForeign(f))))
	f.Add(must(os.ReadFile(smallStrange(f))))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := gguf.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		w, err := modelfile.FromGGUF(g)
		if err != nil {
			return
		}
		nodes := must(w.Model.LossOf(1, 1, modelfile.Pass)).States
		for _, n := range nodes {
			if x, err := w.Tensor(n.Name()); err == nil && !x.Type.Equal(n.Out[0]) {
				t.Errorf("%s is %v, not %v", n.Name(), x.Type, n.Out[0])
			}
		}
	})
}

// smallForeign is a file of architecture bitnet with quantized weights and a
// vocabulary of its own.
func smallForeign(t testing.TB) string {
	f := &file{meta: gguf.Metadata{
		{Key: "general.architecture", Value: "bitnet"},
		{Key: "bitnet.context_length", Value: uint32(8)},
		{Key: "bitnet.embedding_length", Value: uint32(64)},
		{Key: "bitnet.block_count", Value: uint32(1)},
		{Key: "bitnet.feed_forward_length", Value: uint32(64)},
		{Key: "bitnet.attention.head_count", Value: uint32(2)},
		{Key: "bitnet.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "bitnet.rope.scaling.type", Value: "yarn"},
		{Key: "bitnet.rope.scaling.factor", Value: float32(2)},
		{Key: "tokenizer.ggml.model", Value: "llama"},
		{Key: "tokenizer.ggml.tokens", Value: []string{"<unk>", "<s>", "</s>", "a"}},
		{Key: "tokenizer.ggml.scores", Value: []float32{0, 0, 0, -1}},
		{Key: "tokenizer.ggml.token_type", Value: []int32{2, 3, 3, 1}},
	}}
	add := func(name string, typ ggml.Type, dims ...int) {
		f.put(gguf.FromBytes(name, typ, dims, make([]byte, must(typ.Bytes(dims)))))
	}
	add("token_embd.weight", ggml.Q6_K, 4, 256)
	f.set("bitnet.embedding_length", uint32(256))
	for name, typ := range map[string]ggml.Type{"attn_q": ggml.Q2_0, "attn_k": ggml.TQ1_0, "attn_v": ggml.Q4_0, "attn_output": ggml.Q8_0} {
		add("blk.0."+name+".weight", typ, 256, 256)
	}
	add("blk.0.attn_q.scale", ggml.F32, 1)
	for name, typ := range map[string]ggml.Type{"ffn_gate": ggml.Q4_K, "ffn_up": ggml.BF16} {
		add("blk.0."+name+".weight", typ, 64, 256)
	}
	add("blk.0.ffn_down.weight", ggml.Q4_1, 256, 64)
	for name, n := range map[string]int{"blk.0.attn_norm": 256, "blk.0.ffn_norm": 256, "blk.0.attn_sub_norm": 256, "blk.0.ffn_sub_norm": 64, "output_norm": 256} {
		add(name+".weight", ggml.F32, n)
	}
	slices.SortFunc(f.tensors, func(a, b gguf.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	path := filepath.Join(t.TempDir(), "foreign.gguf")
	if err := gguf.WriteFile(path, f.meta, f.tensors); err != nil {
		t.Fatal(err)
	}
	if _, err := modelfile.ReadGGUF(path); err != nil {
		t.Fatal(err) // it is a model
	}
	return path
}
