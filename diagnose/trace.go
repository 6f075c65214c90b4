package diagnose

import (
	"fmt"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// samples is at how many tokens a matrix that follows them is looked at.
const samples = 16

// Names of the outputs of sub-layer l, all f32: NAME.l.
const (
	outMean     = "mean"     // [], mean square of the streams' mean
	outOff      = "off"      // [], mean square of what streams differ from it by
	outStreams  = "streams"  // [], mean square of all streams
	outDominant = "dominant" // []
	outCosine   = "cosine"   // [S,S]
	outMixing   = "mixing"   // [S,S], or [K,S,S] of K sampled tokens
	outGradient = "gradient" // [], mean square
)

func output(name string, l int) string { return fmt.Sprintf("%s.%d", name, l) }

// Trace traces a diagnosis of m on B sequences of T tokens: the inputs of
// model.LossOf and, where matrices follow the token, sample i32 [K].
func Trace(m *model.Model, B, T int, p model.Pass) (*graph.Graph, error) {
	w := watcher{rows: B * T}
	w.mixer, _ = m.Residual().(framework.Mixer)
	return m.Watch(B, T, p, &w)
}

// watcher measures the streams while a forward pass is traced.
type watcher struct {
	rows    int
	mixer   framework.Mixer // nil where the residual is none
	sample  graph.Value     // missing until a matrix follows the token
	before  graph.Value     // what the next sub-layer reads
	streams []graph.Value   // after each sub-layer
}

// Stream measures s right away: nothing is kept for it.
func (w *watcher) Stream(b *graph.Builder, l int, s graph.Value) {
	if l >= 0 {
		w.streams = append(w.streams, s)
		measure(b, l, s)
		if w.mixer != nil {
			b.Output(output(outMixing, l), w.mixing(b, l))
		}
	}
	w.before = s
}

// mixing is the matrix of sub-layer l. Only the sampled tokens' leave the device.
func (w *watcher) mixing(b *graph.Builder, l int) graph.Value {
	h := w.mixer.Mixing(b, l, w.before)
	if len(h.Shape()) == 2 {
		return h
	}
	if !w.sample.Ok() {
		w.sample = b.Input("sample", tensor.I32, min(samples, w.rows))
	}
	return b.Gather(h, w.sample)
}

// Loss takes the gradient from one sub-layer's stream to the one's before:
// nothing else leads there, and so only one of them is kept at a time.
func (w *watcher) Loss(b *graph.Builder, nll graph.Value) {
	after := b.SumAll(nll)
	d := b.Const(1, after.Type())
	for l := len(w.streams) - 1; l >= 0; l-- {
		d = b.Pullback([]graph.Value{after}, []graph.Value{d}, []graph.Value{w.streams[l]})[0]
		b.Output(output(outGradient, l), meanSquare(b, d))
		after = w.streams[l]
	}
}

// meanSquare sums the last axis first, which loses fewer bits than one sum.
func meanSquare(b *graph.Builder, x graph.Value) graph.Value {
	return b.Scale(b.SumAll(b.Sum(b.Mul(x, x), -1)), 1/float64(x.Shape().Numel()))
}

// measure compares the streams of s [N,S,C]; a stream of another shape is one.
func measure(b *graph.Builder, l int, s graph.Value) {
	if len(s.Shape()) != 3 {
		b.Output(output(outMean, l), meanSquare(b, s))
		return
	}
	N, S := s.Dim(0), s.Dim(1)
	// What streams differ from the first by, not from the mean, is exactly 0
	// where they are equal, however the mean is rounded.
	first := b.Slice(s, 1, 0, 1)
	off := b.Sub(s, first)
	shift := b.Mean(off, 1)
	b.Output(output(outMean, l), meanSquare(b, b.Add(first, shift)))
	b.Output(output(outOff, l), meanSquare(b, b.Sub(off, shift)))

	energy := b.Sum(b.Mul(s, s), 2) // [N,S,1]
	b.Output(output(outStreams, l), b.Scale(b.SumAll(energy), 1/float64(s.Shape().Numel())))
	total, zero := b.Sum(energy, 1), b.Const(0, tensor.T(tensor.F32, 1, 1, 1))
	share := b.Where(b.Equal(total, zero), b.Like(total, 1/float64(S)), b.Div(b.AMax(energy, 1), total))
	b.Output(output(outDominant, l), b.Scale(b.SumAll(share), 1/float64(N)))

	inverse := b.Where(b.Equal(energy, zero), b.Like(energy, 0), b.Rsqrt(energy))
	cosine := b.Mul(b.Mul(b.MatMul(s, s, false, true), inverse), b.Reshape(inverse, N, 1, S))
	b.Output(output(outCosine, l), b.Reshape(b.Mean(cosine, 0), S, S))
}
