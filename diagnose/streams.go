package diagnose

import (
	"context"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
)

// Options says what is diagnosed, and on what.
type Options struct {
	// Pass is how the weights lie in the stores: the zero value is that of a
	// trainer, modelfile.Pass that of a file.
	Pass model.Pass
	// Text is what the model reads.
	Text Windows
	// Matrices keeps the elements of the matrices in the report.
	Matrices bool
	// Lower is the hint where memory does not suffice; "" is for callers who know
	// that it does.
	Lower string
}

// Streams diagnoses the residual streams of a model.
type Streams struct {
	options Options
	layers  int // sub-layers
	exe     framework.Executable
	in      []*tensor.Tensor
	out     []*tensor.Tensor
	byName  map[string]*tensor.Tensor // out
}

// NewStreams compiles one forward and one backward pass of m over the text of
// o. memory.ErrNotEnough where that does not fit.
func NewStreams(ctx context.Context, be framework.Backend, m *model.Model, o Options) (*Streams, error) {
	B, T := o.Text.Batch, o.Text.Window
	g, err := Trace(m, B, T, o.Pass)
	switch {
	case err != nil && o.Lower != "":
		return nil, memory.Untraceable(err, "diagnosis", o.Lower)
	case err != nil:
		return nil, errors.Wrap(err, "trace diagnosis")
	case o.Lower != "":
		if err := memory.Check(be, memory.Load{What: "diagnosis", Graph: g, Lower: o.Lower}); err != nil {
			return nil, err
		}
	}
	d := &Streams{options: o, layers: 2 * m.Layers, byName: map[string]*tensor.Tensor{}}
	if d.exe, err = be.Compile(ctx, g); err != nil {
		return nil, errors.Wrap(err, "compile diagnosis")
	}
	d.in = []*tensor.Tensor{tensor.FromI32(o.Text.Tokens, B, T), tensor.FromI32(o.Text.Targets, B*T)}
	if len(g.Inputs) > len(d.in) {
		ids := spread(min(samples, B*T), B*T)
		d.in = append(d.in, tensor.FromI32(ids, len(ids)))
	}
	for _, o := range g.Outputs {
		t := tensor.New(o.Value.Type())
		d.out, d.byName[o.Name] = append(d.out, t), t
	}
	return d, nil
}

// spread are k of the rows 0 to n-1, evenly.
func spread(k, n int) []int32 {
	ids := make([]int32, k)
	for i := range ids {
		ids[i] = int32((2*i + 1) * n / (2 * k))
	}
	return ids
}

// Close frees the compiled graph.
func (d *Streams) Close() error { return d.exe.Close() }

// Run diagnoses the model with the weights in s.
func (d *Streams) Run(ctx context.Context, s framework.Store) (Report, error) {
	var r Report
	if err := d.exe.Run(ctx, s, d.in, d.out); err != nil {
		return r, errors.Wrap(err, "diagnosis")
	}
	for l := range d.layers {
		mean := d.scalar(outMean, l)
		r.RMS = append(r.RMS, math.Sqrt(mean))
		r.GradientRMS = append(r.GradientRMS, math.Sqrt(d.scalar(outGradient, l)))
		if d.byName[output(outOff, l)] == nil {
			continue
		}
		r.StreamRMS = append(r.StreamRMS, math.Sqrt(d.scalar(outStreams, l)))
		r.Divergence = append(r.Divergence, divergence(d.scalar(outOff, l), mean))
		r.Dominant = append(r.Dominant, d.scalar(outDominant, l))
		if t := d.byName[output(outCosine, l)]; t.Shape[0] > 1 {
			r.Cosine = append(r.Cosine, pairs(t.Floats(), t.Shape[0]))
		}
	}
	if len(d.in) > 2 {
		r.Sampled = d.in[2].Shape[0]
	}
	d.matrices(&r)
	return r, nil
}

func (d *Streams) scalar(name string, l int) float64 {
	return d.byName[output(name, l)].Floats()[0]
}

// divergence is the root of off/mean. Where only the mean of the streams is 0,
// it is the largest number that JSON has.
func divergence(off, mean float64) float64 {
	switch {
	case off == 0:
		return 0
	case mean == 0:
		return math.MaxFloat64
	}
	return math.Sqrt(off / mean)
}

// pairs is the range of the elements of the n by n matrix c above its
// diagonal, which are cosines.
func pairs(c []float64, n int) Range {
	var all []float64
	for i := range n {
		for j := range i {
			all = append(all, min(1, max(-1, c[j*n+i]))) // rounding may exceed 1
		}
	}
	return rangeOf(all)
}

// matrices fills in what the mixing matrices and their products are.
func (d *Streams) matrices(r *Report) {
	var product path
	for l := range d.layers {
		t := d.byName[output(outMixing, l)]
		if t == nil {
			return
		}
		n := t.Shape[len(t.Shape)-1]
		var h path
		for v := t.Floats(); len(v) > 0; v = v[n*n:] {
			h = append(h, v[:n*n:n*n])
		}
		product = product.then(h, n)
		r.Mixing = append(r.Mixing, h.measure(n, d.options.Matrices))
		r.Composite = append(r.Composite, product.measure(n, d.options.Matrices))
		if r.Mixing[l].Violations > 0 {
			r.Violations++
		}
		r.CompositeGain = r.Composite[l].Gain.Mean
	}
}
