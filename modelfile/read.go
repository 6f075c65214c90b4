package modelfile

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// maxCount bounds integers of the metadata.
const maxCount = 1 << 30

// ReadGGUF reads the model in the file at path. Everything that the file
// claims is checked against its size before memory is taken for it. The weights of
// a model that another program wrote are read when they are needed: the caller
// closes them.
func ReadGGUF(path string) (*Weights, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	w, err := FromGGUF(f)
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "%s", path), f.Close())
	}
	if w.lazy == nil {
		return w, f.Close()
	}
	w.close = f.Close
	return w, nil
}

// FromGGUF reads the model in f.
func FromGGUF(f *gguf.File) (*Weights, error) {
	arch, err := f.Metadata.String("general.architecture")
	if err != nil {
		return nil, err
	}
	_, known := foreign[arch]
	switch own := writtenByTern(f.Metadata); {
	case known && !own:
		return fromForeignGGUF(f, arch)
	case arch != Architecture && !own:
		return nil, errors.WithHint(errors.Wrapf(ErrModel, "architecture %q", arch),
			"tern runs models of architecture "+strings.Join(append(slices.Sorted(maps.Keys(foreign)), Architecture), ", "))
	}
	c, err := readConfig(f.Metadata, arch)
	if err != nil {
		return nil, err
	}
	m, err := newModel(f.Metadata, c)
	if err != nil {
		return nil, ofMetadata(err, c)
	}
	// The sum takes as long as the rest, so both are done at once; where it is
	// wrong, that is what there is to say.
	sum := make(chan error, 1)
	go func() { sum <- checkSum(f, m) }()
	w := &Weights{Model: m, Tensors: map[string]*tensor.Tensor{}, Info: readInfo(f.Metadata)}
	err = w.read(f, foreign[arch].halves)
	if bad := <-sum; bad != nil {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// read takes the states of w's model out of f, where rotary pairs may be the
// halves of a head.
func (w *Weights) read(f *gguf.File, halves bool) error {
	nodes, err := states(w.Model)
	if err != nil {
		return err
	}
	r := reader{f: f, format: w.format, out: w.Tensors}
	for _, n := range nodes {
		if err := r.state(n.Name(), n.Out[0]); err != nil {
			return err
		}
	}
	if halves {
		for name, t := range w.Tensors {
			if base, _ := cutKind(name); isRotated(base) {
				w.Tensors[name] = pairRows(t, w.Model.HeadDim())
			}
		}
	}
	return nil
}

// writtenByTern reports whether tern wrote the file, and nobody has rewritten
// its tensors in other types since: other programs keep keys that they do not
// know, but say of what type they made most tensors.
func writtenByTern(m gguf.Metadata) bool {
	_, own := m.Get("tern.quantizer")
	was, known := m.Get(keyFileType)
	is, _ := m.Get("general.file_type")
	return own && (!known || is == was)
}

func readInfo(m gguf.Metadata) (i Info) {
	text := func(key string) string {
		s, err := m.String(key)
		if err != nil {
			return ""
		}
		return s
	}
	i.Name, i.Description = text("general.name"), text("general.description")
	i.License, i.CreatedBy = text("general.license"), text("tern.created_by")
	i.Source, i.Plugins = text("tern.source"), readPlugins(m)
	if v, ok := m.Get("tern.bits_per_byte"); ok {
		i.BitsPerByte, _ = v.(float64)
	}
	return i
}

// metadata reads keys and keeps the first error.
type metadata struct {
	m   gguf.Metadata
	err error
}

func (m *metadata) int(key string) int {
	n, err := m.m.Int(key, maxCount)
	m.err = errors.CombineErrors(m.err, err)
	return n
}

func (m *metadata) float(key string) float64 {
	v, err := m.m.Float32(key)
	m.err = errors.CombineErrors(m.err, err)
	// The shortest decimal that gives the f32 is what was configured.
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	return f
}

// float64 and float64s read what is stored in double precision.
func (m *metadata) float64(key string) float64 {
	v, _ := m.m.Get(key)
	f, ok := v.(float64)
	if !ok && m.err == nil {
		m.err = errors.Wrapf(ErrModel, "metadata key %q is a %T, not an f64", key, v)
	}
	return f
}

func (m *metadata) float64s(key string) []float64 {
	v, _ := m.m.Get(key)
	f, ok := v.([]float64)
	if !ok && m.err == nil {
		m.err = errors.Wrapf(ErrModel, "metadata key %q is a %T, not an array of f64", key, v)
	}
	return f
}

func (m *metadata) string(key string) string {
	s, err := m.m.String(key)
	m.err = errors.CombineErrors(m.err, err)
	return s
}

func (m *metadata) bool(key string) bool {
	b, err := m.m.Bool(key)
	m.err = errors.CombineErrors(m.err, err)
	return b
}

// readConfig reads the configuration by the keys that tern writes.
func readConfig(meta gguf.Metadata, arch string) (model.Config, error) {
	m := metadata{m: meta}
	c := model.Config{
		Context: m.int(arch + ".context_length"), Dim: m.int(arch + ".embedding_length"), Layers: m.int(arch + ".block_count"),
		FFN: m.int(arch + ".feed_forward_length"), Heads: m.int(arch + ".attention.head_count"), KVHeads: m.int(arch + ".attention.head_count_kv"),
		NormEps: m.float(arch + ".attention.layer_norm_rms_epsilon"), RoPETheta: m.float(arch + ".rope.freq_base"),
		Vocab: m.int(arch + ".vocab_size"), Tokenizer: m.string("tern.tokenizer"), Quant: m.string("tern.quantizer"),
		Residual: m.string("tern.residual"), Head: m.string("tern.head"), Tied: m.bool("tern.tied"), SubNorm: m.bool("tern.sub_norm"),
		HeadWidth: m.intOr(arch+".attention.key_length", 0), Activation: m.stringOr("tern.activation", ""),
		RoPEFactors: or(&m, "tern.rope_factors", nil, m.float64s), RoPEGain: or(&m, "tern.rope_gain", 0, m.float64),
	}
	return c, m.err
}

// reader fills in states from the tensors of a file.
type reader struct {
	f      *gguf.File
	format func(base string) framework.Format
	out    map[string]*tensor.Tensor
}

func (r *reader) state(name string, want tensor.Type) error {
	base, isCodes := strings.CutSuffix(name, ".codes")
	if isCodes {
		return r.codes(base, want)
	}
	if _, done := r.out[name]; done {
		return nil // scales that came with their codes
	}
	file := fileName(name)
	info, err := r.f.Tensor(file)
	if err != nil {
		return err
	}
	if !sameElements(info.Shape, want.Shape) {
		return errors.WithHint(errors.Wrapf(ErrModel, "tensor %q is %v, the metadata asks for %v", file, info.Shape, want), "the file is damaged")
	}
	t, err := r.floats(info, want.DType)
	if err != nil {
		return err
	}
	t.Shape = want.Shape // a file knows no tensors without dimensions
	if !t.Type.Equal(want) {
		return errors.Wrapf(ErrModel, "tensor %q is %v, wants %v", file, t.Type, want)
	}
	r.out[name] = t
	return checkFinite(file, t)
}

// floats reads a tensor that is wanted as d. An f16 one is widened to f32.
func (r *reader) floats(info gguf.Tensor, d tensor.DType) (*tensor.Tensor, error) {
	t, err := r.f.ReadTensor(info.Name)
	if err != nil || t.DType != tensor.F16 || d != tensor.F32 {
		return t, err
	}
	return toF32(t), nil
}

// sameElements compares shapes up to dimensions of 1.
func sameElements(a, b tensor.Shape) bool { return squeeze(a).Equal(squeeze(b)) }

func squeeze(s tensor.Shape) tensor.Shape {
	var out tensor.Shape
	for _, d := range s {
		if d != 1 {
			out = append(out, d)
		}
	}
	return out
}

// codes reads a quantized weight, as one tensor of blocks or as codes and scales.
func (r *reader) codes(base string, want tensor.Type) error {
	name := fileName(base + ".weight")
	info, err := r.f.Tensor(name)
	if err != nil {
		return r.rawCodes(base, want)
	}
	if !info.Shape.Equal(want.Shape) {
		return errors.WithHint(errors.Wrapf(ErrModel, "tensor %q is %v, the metadata asks for %v", name, info.Shape, want), "the file is damaged")
	}
	codes, scales, err := r.f.ReadCodes(name, r.format(base).Group)
	if err != nil {
		return err
	}
	if !codes.Type.Equal(want) {
		return errors.Wrapf(ErrModel, "tensor %q holds %v, the quantizer's codes are %v", name, codes.Type, want)
	}
	if want.DType == tensor.U2 {
		if err := ggml.CheckTernary(codes); err != nil {
			return errors.Wrapf(err, "tensor %q", name)
		}
	}
	r.out[base+".codes"], r.out[base+".scales"] = codes, scales
	return nil
}

func (r *reader) rawCodes(base string, want tensor.Type) error {
	name := fileName(base + ".codes")
	info, err := r.f.Tensor(name)
	if err != nil {
		return err
	}
	if info.Type != ggml.I8 || info.Size != int64(want.Bytes()) {
		return errors.Wrapf(ErrModel, "tensor %q is %v %v, the metadata asks for the bytes of %v", name, info.Type, info.Shape, want)
	}
	data, err := r.f.ReadRaw(name)
	if err != nil {
		return err
	}
	codes := &tensor.Tensor{Type: want, Data: data}
	if want.DType == tensor.U2 && len(r.format(base).Levels) == 3 {
		if err := ggml.CheckTernary(codes); err != nil {
			return errors.Wrapf(err, "tensor %q", name)
		}
	}
	r.out[base+".codes"] = codes
	return nil
}
