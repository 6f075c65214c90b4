package train

import (
	"context"
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// Diagnosis is the state of the residual streams and of the codes. Numbers
// that do not apply are left out.
type Diagnosis struct {
	diagnose.Report
	// Zeros is the share of quantized weights whose code is zero.
	Zeros float64 `json:"zeros,omitempty"`
	// Flips is the share of codes that changed since the last diagnosis, left
	// out in the first one of a process.
	Flips *float64 `json:"flips,omitempty"`
}

// Diagnoser computes diagnoses of a trainer's state.
type Diagnoser struct {
	t       *Trainer
	streams *diagnose.Streams
	codes   *diagnose.Codes
}

// NewDiagnoser compiles the diagnoses of t's model on a text. A run takes the
// working memory of a step on that text and, where its head is not tied, that
// of the head's gradient, which a step adds to the store instead.
func NewDiagnoser(ctx context.Context, t *Trainer, text diagnose.Windows) (*Diagnoser, error) {
	codes, err := diagnose.NewCodes(t.Model)
	if err != nil {
		return nil, err
	}
	streams, err := diagnose.NewStreams(ctx, t.backend, t.Model, diagnose.Options{Text: text})
	if err != nil {
		return nil, err
	}
	return &Diagnoser{t, streams, codes}, nil
}

// Close frees the compiled graph.
func (d *Diagnoser) Close() error { return d.streams.Close() }

// Run diagnoses the present state.
func (d *Diagnoser) Run(ctx context.Context) (r Diagnosis, err error) {
	if r.Report, err = d.streams.Run(ctx, d.t.store); err != nil {
		return r, err
	}
	r.Zeros, r.Flips, err = d.codes.Run(ctx, d.t.store)
	return r, err
}

// diverged finds out where the first value that is no finite number is.
func (t *Trainer) diverged(ctx context.Context, m Metrics) error {
	where := "the loss"
	if w := t.firstNonFinite(ctx, finite(m.Loss)); w != "" {
		where = w
	}
	err := errors.Wrapf(ErrDiverged, "step %d: loss %v, gradient norm %v; first seen in %s", m.Step, m.Loss, m.GradNorm, where)
	err = errors.WithHint(err, "train again with lower learning rates or a longer warm-up")
	return t.withPrograms(err)
}

// withPrograms names the programs of others that had a part in what err is
// about. Their kernels and fragments may be wrong where the recipe is not.
func (t *Trainer) withPrograms(err error) error {
	for _, part := range []struct {
		of   any
		what string
	}{
		{t.backend, "run by"}, {t.Model.Quantizer(), "weights quantized by"}, {t.Model.Residual(), "streams mixed by"},
	} {
		if f, ok := part.of.(framework.Foreign); ok {
			err = errors.Wrapf(err, "%s plugin %s", part.what, f.Program())
			err = errors.WithHint(err, "tern plugin test tells whether the plugin computes what it should")
		}
	}
	return err
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
	text := diagnose.Windows{Batch: t.Recipe.Batch, Window: t.Recipe.Window, Tokens: t.batchIn[0].I32(), Targets: t.batchIn[1].I32()}
	d, err := NewDiagnoser(ctx, t, text)
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
			return "the stream after " + model.SubLayer(l)
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
