package modelfile_test

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// away says that no plugin is installed.
var away atomic.Bool

func init() {
	framework.Quantizers.Delegate("plugin", func(rest string) (framework.Quantizer, error) {
		q, ok := strange[rest]
		if away.Load() || !ok {
			return nil, errors.Newf("no plugin %s", rest)
		}
		q.spec = "plugin:" + rest
		return q, nil
	})
}

// strangeQuantizer rounds to the nearest level of a book that is not tern's.
type strangeQuantizer struct {
	spec string
	f    framework.Format
}

var strange = map[string]strangeQuantizer{
	"four":        {f: framework.Format{Bits: 2, Levels: []int8{-3, -1, 1, 3}, Group: 64, F16: true, ActBits: 8, Density: 2}},
	"lopsided":    {f: framework.Format{Bits: 2, Levels: []int8{-1, 0, 2}, Group: 64, F16: true, ActBits: 8, Density: 1.585}},
	"nf4":         {f: framework.Format{Bits: 4, Levels: []int8{-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127}, Group: 32, Density: 4}},
	"signs":       {f: framework.Format{Bits: 1, Levels: []int8{1, -1}, Group: framework.GroupRow, ActBits: 8, Density: 1}},
	"int8":        {f: framework.Format{Bits: 8, Group: framework.GroupTensor, ActBits: 8, Density: 8}},
	"unrounded":   {f: framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: framework.GroupTensor, F16: true, Density: 1.585}},
	"own-ternary": {f: framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: 64, F16: true, ActBits: 8, Density: 1.5}},
}

func (q strangeQuantizer) Spec() string             { return q.spec }
func (q strangeQuantizer) Format() framework.Format { return q.f }

func (q strangeQuantizer) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	rows, cols := must2(q.f.Scales(m, k))
	top := 127.0 // of int8 codes
	if len(q.f.Levels) > 0 {
		top = 1
		for _, l := range q.f.Levels {
			top = max(top, math.Abs(float64(l)))
		}
	}
	x := b.Reshape(w, rows, cols, m*k/(rows*cols))
	scale := b.Scale(b.Max(b.Mean(b.Abs(x), 2), b.Like(b.Mean(b.Abs(x), 2), 0x1p-10)), 2/top)
	scale = b.Cast(b.Cast(scale, tensor.F16), tensor.F32)
	return b.Encode(b.Reshape(b.Div(x, scale), m, k), q.f.Code(), q.f.Levels), b.Reshape(scale, rows, cols)
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// What a file says of its codes is enough: without the plugin it scores what the
// trained model scored, and is written again as it was.
func TestAFileOfAPluginsQuantizerIsReadWithoutThePlugin(t *testing.T) {
	for name := range strange {
		t.Run(name, func(t *testing.T) {
			c := base
			c.Quant = "plugin:" + name
			be := scalarBackend(t)
			ctx := context.Background()
			tr := trained(t, be, c)
			defer tr.Close()
			path := filepath.Join(t.TempDir(), "model.gguf")
			w := must(modelfile.Collect(ctx, tr.Model, tr.Store()))
			w.Info.Plugins = []modelfile.Plugin{{Kind: "quantizer", Name: name, Version: "1.2.3", SHA256: strings.Repeat("ab", 32)}}
			if err := w.WriteGGUF(path); err != nil {
				t.Fatal(err)
			}
			roundEmbeddings(t, tr)
			want := score(t, be, tr.Model, model.Pass{Packed: true}, tr.Store())

			away.Store(true)
			defer away.Store(false)
			r := must(modelfile.ReadGGUF(path))
			if !reflect.DeepEqual(r.Model.Config, tr.Model.Config) || !reflect.DeepEqual(r.Info, w.Info) {
				t.Errorf("configuration %+v, %+v, want %+v, %+v", r.Model.Config, r.Info, tr.Model.Config, w.Info)
			}
			if got := r.Model.Quantizer().Format(); !reflect.DeepEqual(got, strange[name].f) {
				t.Errorf("format %+v, want %+v", got, strange[name].f)
			}
			s := must(be.NewStore())
			defer s.Close()
			if err := r.Put(ctx, s); err != nil {
				t.Fatal(err)
			}
			if got := score(t, be, r.Model, modelfile.Pass, s); got != want {
				t.Errorf("the file scores %v, the trained model %v", got, want)
			}
			again := filepath.Join(t.TempDir(), "again.gguf")
			if err := r.WriteGGUF(again); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(must(os.ReadFile(path)), must(os.ReadFile(again))) {
				t.Error("writing what was read gives another file")
			}
			if _, err := r.Model.Pack(); err == nil || !strings.Contains(err.Error(), "cannot be made anew") {
				t.Errorf("quantizing again: %v", err)
			}
		})
	}
}

// Codes of two bits are those of Q2_0 only where they stand for -1, 0 and 1.
func TestOnlyTernaryCodesBecomeQ2_0(t *testing.T) {
	for name, want := range map[string]ggml.Type{"own-ternary": ggml.Q2_0, "lopsided": ggml.I8, "four": ggml.I8} {
		c := base
		c.Quant = "plugin:" + name
		w := blank(model.New(c))
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := w.WriteGGUF(path); err != nil {
			t.Fatal(err)
		}
		f := must(gguf.Open(path))
		defer f.Close()
		info, err := f.Tensor("blk.0.attn_q.weight")
		if err != nil {
			info = must(f.Tensor("blk.0.attn_q.codes"))
		}
		if info.Type != want {
			t.Errorf("%s: %v, want %v", name, info.Type, want)
		}
	}
}

// blank has zeros for weights.
func blank(m *model.Model, err error) *modelfile.Weights {
	w := &modelfile.Weights{Model: must(m, err), Tensors: map[string]*tensor.Tensor{}}
	for _, n := range must(m.LossOf(1, 1, modelfile.Pass)).States {
		w.Tensors[n.Name()] = tensor.New(n.Out[0])
	}
	return w
}

// smallStrange is a file with a code book of its own.
func smallStrange(t testing.TB) string {
	c := base
	c.Vocab, c.Layers, c.Dim, c.FFN, c.Quant = 8, 1, 64, 64, "plugin:nf4"
	path := filepath.Join(t.TempDir(), "strange.gguf")
	if err := blank(model.New(c)).WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatAFileSaysOfItsCodesIsChecked(t *testing.T) {
	away.Store(true)
	defer away.Store(false)
	for name, change := range map[string]map[string]any{
		"nothing":                 {},
		"bits":                    {"bits": uint32(3)},
		"bits of another type":    {"bits": "4"},
		"no codes at all":         {"bits": uint32(0), "levels": nil},
		"no group":                {"group": nil},
		"group":                   {"group": int32(0)},
		"group that does not fit": {"group": int32(48)},
		"group without sign":      {"group": uint32(32)},
		"no levels":               {"levels": nil},
		"one level":               {"levels": []int32{1}},
		"too many levels":         {"levels": make([]int32, 17)},
		"levels of another type":  {"levels": []int64{0, 1}},
		"a level too large":       {"levels": []int32{0, 261}},
		"the smallest int8":       {"levels": []int32{0, -128}},
		"a level twice":           {"levels": []int32{0, 1, 1}},
		"activations":             {"activation_bits": uint32(4)},
		"density":                 {"density": math.NaN()},
		"another level":           {"levels": []int32{-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 126}}, // the checksum
		"no format":               {"bits": nil},
		"a spec with a line end":  {"": "plugin:nf4\nx"},
		"a spec without end":      {"": "plugin:" + strings.Repeat("x", 2000)},
	} {
		t.Run(name, func(t *testing.T) {
			err := readChanged(t, change, name == "another level")
			if (err == nil) != (len(change) == 0) {
				t.Errorf("error %v", err)
			}
			if err != nil && name != "no format" && !errors.Is(err, modelfile.ErrModel) {
				t.Errorf("not ErrModel: %v", err)
			}
		})
	}
}

// readChanged reads smallStrange with other metadata of its quantizer; nil takes a
// key away, and "" is the spec. Without the checksum, which would find any change,
// unless sum is set.
func readChanged(t *testing.T, change map[string]any, sum bool) error {
	away.Store(false)
	path := smallStrange(t)
	away.Store(true)
	f := must(gguf.Open(path))
	defer f.Close()
	var meta gguf.Metadata
	for _, kv := range f.Metadata {
		what := strings.TrimPrefix(strings.TrimPrefix(kv.Key, "tern.quantizer"), ".")
		v, changed := change[what]
		if !strings.HasPrefix(kv.Key, "tern.quantizer") || !changed {
			v = kv.Value
		}
		if v != nil && (sum || kv.Key != "tern.sha256") {
			meta = append(meta, gguf.KV{Key: kv.Key, Value: v})
		}
	}
	var tensors []gguf.TensorInfo
	for _, x := range f.Tensors {
		tensors = append(tensors, gguf.FromBytes(x.Name, x.Type, x.Shape, must(f.ReadRaw(x.Name))))
	}
	changed := filepath.Join(t.TempDir(), "changed.gguf")
	if err := gguf.WriteFile(changed, meta, tensors); err != nil {
		t.Fatal(err)
	}
	_, err := modelfile.ReadGGUF(changed)
	return err
}
