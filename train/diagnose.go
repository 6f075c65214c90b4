package train

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// Diagnosis is the state of the residual streams and of the codes. Numbers
// that do not apply are left out.
type Diagnosis struct {
	// CompositeGain is the largest absolute row or column sum of the product of
	// all mixing matrices in layer order.
	CompositeGain float64 `json:"composite_gain,omitempty"`
	// Violations counts mixing matrices with a row or column sum off 1, or a
	// negative element, by more than 1e-5.
	Violations int `json:"violations"`
	// Divergence is |s_i - mean| / |mean| of the streams after each sub-layer.
	Divergence []float64 `json:"divergence,omitempty"`
	// RMS is the root mean square of the (mean) stream after each sub-layer.
	RMS []float64 `json:"rms"`
	// Zeros is the share of quantized weights whose code is zero.
	Zeros float64 `json:"zeros,omitempty"`
	// Flips is the share of codes that changed since the last diagnosis, left
	// out in the first one of a process.
	Flips *float64 `json:"flips,omitempty"`
}

// Diagnoser computes diagnoses of a trainer's state.
type Diagnoser struct {
	t       *Trainer
	mixings framework.Executable // nil when the residual reports no matrix
	depths  framework.Executable
	names   []string // outputs of depths
	mixOut  []*tensor.Tensor
	depOut  []*tensor.Tensor
	tokens  *tensor.Tensor
	codes   map[string][]byte
}

// NewDiagnoser compiles the diagnoses of t's model on the given tokens
// [B*T], B sequences.
func NewDiagnoser(ctx context.Context, t *Trainer, tokens []int32, B int) (*Diagnoser, error) {
	d := &Diagnoser{t: t, codes: map[string][]byte{}, tokens: tensor.FromI32(tokens, B, len(tokens)/B)}
	g, err := t.Model.Depths(B, len(tokens)/B, true)
	if err != nil {
		return nil, errors.Wrap(err, "trace diagnosis")
	}
	if d.depths, err = t.backend.Compile(ctx, g); err != nil {
		return nil, errors.Wrap(err, "compile diagnosis")
	}
	d.depOut = outputsOf(g)
	for _, o := range g.Outputs {
		d.names = append(d.names, o.Name)
	}
	if g, err = t.Model.Mixings(); err == nil && g != nil {
		d.mixOut = outputsOf(g)
		d.mixings, err = t.backend.Compile(ctx, g)
	}
	if err != nil {
		return nil, errors.Wrap(errors.CombineErrors(err, d.Close()), "compile diagnosis")
	}
	return d, nil
}

// Close frees the compiled graphs.
func (d *Diagnoser) Close() error {
	err := d.depths.Close()
	if d.mixings != nil {
		err = errors.CombineErrors(err, d.mixings.Close())
	}
	return err
}

func outputsOf(g *graph.Graph) []*tensor.Tensor {
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	return out
}

// Run diagnoses the present state.
func (d *Diagnoser) Run(ctx context.Context) (Diagnosis, error) {
	var r Diagnosis
	if err := d.depths.Run(ctx, d.t.store, []*tensor.Tensor{d.tokens}, d.depOut); err != nil {
		return r, errors.Wrap(err, "diagnosis")
	}
	for i, name := range d.names {
		v := float64(d.depOut[i].F32()[0])
		if strings.HasPrefix(name, "rms.") {
			r.RMS = append(r.RMS, v)
		} else {
			r.Divergence = append(r.Divergence, v)
		}
	}
	if d.mixings != nil {
		if err := d.mixings.Run(ctx, d.t.store, nil, d.mixOut); err != nil {
			return r, errors.Wrap(err, "diagnosis")
		}
		r.CompositeGain, r.Violations = mixingGain(d.mixOut)
	}
	return r, d.quantized(ctx, &r)
}

// mixingGain multiplies the matrices in layer order and measures the product.
func mixingGain(hs []*tensor.Tensor) (gain float64, violations int) {
	var product []float64
	for _, h := range hs {
		n, m := h.Shape[0], h.Floats()
		if !doublyStochastic(m, n, 1e-5) {
			violations++
		}
		if product == nil {
			product = m
			continue
		}
		next := make([]float64, n*n)
		for i := range n {
			for j := range n {
				for k := range n {
					next[i*n+j] += m[i*n+k] * product[k*n+j]
				}
			}
		}
		product = next
	}
	n := int(math.Sqrt(float64(len(product))))
	for i := range n {
		var row, col float64
		for j := range n {
			row += math.Abs(product[i*n+j])
			col += math.Abs(product[j*n+i])
		}
		gain = max(gain, row, col)
	}
	return gain, violations
}

func doublyStochastic(m []float64, n int, tol float64) bool {
	for i := range n {
		var row, col float64
		for j := range n {
			row += m[i*n+j]
			col += m[j*n+i]
			if m[i*n+j] < -tol {
				return false
			}
		}
		if math.Abs(row-1) > tol || math.Abs(col-1) > tol {
			return false
		}
	}
	return true
}

// quantized fills in the share of zeros and of codes that changed.
func (d *Diagnoser) quantized(ctx context.Context, r *Diagnosis) error {
	levels := d.t.Model.Quantizer().Format().Levels
	zero := -1
	for i, l := range levels {
		if l == 0 {
			zero = i
		}
	}
	var total, zeros, flips int
	first := len(d.codes) == 0
	for _, p := range d.t.params {
		if p.Category != model.Ternary {
			continue
		}
		name := strings.TrimSuffix(p.Name, ".weight") + ".codes"
		t, err := d.t.store.Get(ctx, name)
		if err != nil {
			return errors.Wrap(err, "diagnosis")
		}
		total += p.Shape.Numel()
		zeros += countCode(t.Data, t.DType.Block(), zero) - padding(t.Type, zero)
		flips += countDifferent(d.codes[name], t.Data, t.DType.Block())
		d.codes[name] = t.Data
	}
	if total > 0 {
		r.Zeros = float64(zeros) / float64(total)
		if !first {
			share := float64(flips) / float64(total)
			r.Flips = &share
		}
	}
	return nil
}

// padding counts the codes 0 that only fill up the last byte of rows.
func padding(t tensor.Type, code int) int {
	if code != 0 {
		return 0
	}
	return t.Bytes()*t.DType.Block() - t.Shape.Numel()
}

// countCode counts the elements equal to code; block elements share a byte.
func countCode(data []byte, block, code int) int {
	n, width := 0, 8/block
	for _, b := range data {
		for i := range block {
			if int(b>>(i*width))&(1<<width-1) == code {
				n++
			}
		}
	}
	return n
}

// countDifferent counts the elements in which a and b differ.
func countDifferent(a, b []byte, block int) int {
	if len(a) != len(b) {
		return 0
	}
	n, width := 0, 8/block
	low := byte(0) // the lowest bit of each element
	for i := range block {
		low |= 1 << (i * width)
	}
	for i := range a {
		x := a[i] ^ b[i]
		for s := 1; s < width; s <<= 1 {
			x |= x >> s
		}
		n += bits.OnesCount8(x & low)
	}
	return n
}

// diverged finds out where the first value that is no finite number is.
func (t *Trainer) diverged(ctx context.Context, m Metrics) error {
	where := "the loss"
	if w := t.firstNonFinite(ctx, finite(m.Loss)); w != "" {
		where = w
	}
	err := errors.Wrapf(ErrDiverged, "step %d: loss %v, gradient norm %v; first seen in %s", m.Step, m.Loss, m.GradNorm, where)
	return errors.WithHint(err, "train again with lower learning rates or a longer warm-up")
}

// firstNonFinite names the first gradient (where the loss was finite), the
// first parameter, or the first sub-layer of the last batch that holds such a
// value.
func (t *Trainer) firstNonFinite(ctx context.Context, lossIsFinite bool) string {
	holds := func(name string) bool {
		w, err := t.store.Get(ctx, name)
		return err == nil && !finiteTensor(w)
	}
	for _, p := range t.params {
		if lossIsFinite && t.Recipe.Accum == 1 && holds(model.GradPrefix+p.Name) {
			return "the gradient of " + p.Name
		}
	}
	for _, p := range t.params {
		if holds(p.Name) {
			return "parameter " + p.Name
		}
	}
	d, err := NewDiagnoser(ctx, t, t.batchIn[0].I32(), t.Recipe.Batch)
	if err != nil {
		return ""
	}
	defer d.Close()
	r, err := d.Run(ctx)
	if err != nil {
		return ""
	}
	for l, v := range r.RMS {
		if !finite(v) {
			return fmt.Sprintf("the stream after blk.%d.%s", l/2, []string{"attn", "ffn"}[l%2])
		}
	}
	return ""
}

// finite reports whether all of v are finite numbers.
func finite(v ...float64) bool {
	for _, x := range v {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}

// finiteTensor is finite for a parameter, moment or gradient.
func finiteTensor(t *tensor.Tensor) bool {
	if t.DType == tensor.F32 {
		return !slices.ContainsFunc(t.F32(), func(v float32) bool { return math.Float32bits(v)&0x7f800000 == 0x7f800000 })
	}
	return finite(t.Floats()...)
}
