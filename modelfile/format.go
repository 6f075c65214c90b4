package modelfile

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
)

// Keys of the format of weights whose quantizer is not tern's own: what its codes
// stand for, so that they can be computed with where it is not.
const (
	keyBits    = "tern.quantizer.bits"
	keyLevels  = "tern.quantizer.levels"
	keyGroup   = "tern.quantizer.group"
	keyF16     = "tern.quantizer.f16_scales"
	keyActBits = "tern.quantizer.activation_bits"
	keyDensity = "tern.quantizer.density"
)

// maxSpec bounds the spec of a quantizer that nobody opens, in bytes.
const maxSpec = 1100

// formatKeys says how the weights of m are stored, unless tern knows by itself.
func formatKeys(m *model.Model, spec string) []gguf.KV {
	f := m.Quantizer().Format()
	if ownQuantizer(spec) || !f.Quantized() {
		return nil
	}
	levels := make([]int32, len(f.Levels))
	for i, l := range f.Levels {
		levels[i] = int32(l)
	}
	kv := []gguf.KV{
		{Key: keyBits, Value: uint32(f.Bits)},
		{Key: keyGroup, Value: int32(f.Group)},
		{Key: keyF16, Value: f.F16},
		{Key: keyActBits, Value: uint32(f.ActBits)},
		{Key: keyDensity, Value: f.Density},
	}
	if len(levels) > 0 { // codes of 8 bits are levels
		kv = append(kv, gguf.KV{Key: keyLevels, Value: levels})
	}
	return kv
}

// ownQuantizer reports whether the quantizer of a spec is in this program.
func ownQuantizer(spec string) bool {
	name, _, _ := strings.Cut(spec, ":")
	return slices.Contains(framework.Quantizers.Names(), name)
}

// newModel makes the model of a configuration that a file has. Where the file
// says what the codes of its weights stand for, and tern does not know their
// quantizer, nobody opens that.
func newModel(meta gguf.Metadata, c model.Config) (*model.Model, error) {
	if _, has := meta.Get(keyBits); !has || ownQuantizer(c.Quant) {
		return model.New(c)
	}
	if len(c.Quant) > maxSpec || strings.ContainsFunc(c.Quant, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
		return nil, errors.Newf("quantizer %.80q", c.Quant)
	}
	f, err := readFormat(meta)
	if err != nil {
		return nil, err
	}
	return model.NewPacked(c, f)
}

// readFormat reads what formatKeys writes; model.NewPacked checks it.
func readFormat(meta gguf.Metadata) (framework.Format, error) {
	m := metadata{m: meta}
	f := framework.Format{
		Bits: m.int(keyBits), Group: m.group(), F16: m.bool(keyF16), ActBits: m.int(keyActBits), Density: m.float64(keyDensity),
	}
	v, has := meta.Get(keyLevels)
	levels, ok := v.([]int32)
	if has && !ok || len(levels) > 16 {
		return f, errors.Wrapf(ErrModel, "metadata key %q: wants at most 16 numbers of type i32", keyLevels)
	}
	for _, l := range levels {
		if l != int32(int8(l)) {
			return f, errors.Wrapf(ErrModel, "metadata key %q: level %d", keyLevels, l)
		}
		f.Levels = append(f.Levels, int8(l))
	}
	return f, m.err
}

// group reads the one number that may be negative.
func (m *metadata) group() int {
	v, _ := m.m.Get(keyGroup)
	n, ok := v.(int32)
	if !ok && m.err == nil {
		m.err = errors.Wrapf(ErrModel, "metadata key %q is a %T, not an i32", keyGroup, v)
	}
	return int(n)
}
