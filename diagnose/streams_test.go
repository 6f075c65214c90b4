package diagnose_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// expected is what a plain loop over streams [N,S,C] finds.
type expected struct {
	rms, streams, divergence, dominant float64
	cosine                             diagnose.Range
}

func loop(s *tensor.Tensor) (e expected) {
	N, S, C := s.Shape[0], s.Shape[1], s.Shape[2]
	at := func(n, i, c int) float64 { return s.F64()[(n*S+i)*C+c] }
	var mean2, off2, all2 float64
	cosines := make([]float64, S*S)
	for n := range N {
		energy, dot := make([]float64, S), make([]float64, S*S)
		for c := range C {
			m := 0.0
			for i := range S {
				m += at(n, i, c) / float64(S)
				for j := range S {
					dot[i*S+j] += at(n, i, c) * at(n, j, c)
				}
			}
			mean2 += m * m
			for i := range S {
				off2 += (at(n, i, c) - m) * (at(n, i, c) - m)
				energy[i] += at(n, i, c) * at(n, i, c)
			}
		}
		sum := 0.0
		for i := range S {
			sum += energy[i]
			for j := range S {
				cosines[i*S+j] += dot[i*S+j] / math.Sqrt(energy[i]*energy[j]) / float64(N)
			}
		}
		all2 += sum
		e.dominant += slices.Max(energy) / sum / float64(N)
	}
	e.rms = math.Sqrt(mean2 / float64(N*C))
	e.streams = math.Sqrt(all2 / float64(N*S*C))
	e.divergence = math.Sqrt(off2 / float64(S) / mean2)
	e.cosine = diagnose.Range{Min: 2, Max: -2}
	for i := range S {
		for j := range i {
			v := cosines[i*S+j]
			e.cosine.Mean += v / float64(S*(S-1)/2)
			e.cosine.Min, e.cosine.Max = min(e.cosine.Min, v), max(e.cosine.Max, v)
		}
	}
	return e
}

func TestStreamsAreMeasuredAsAPlainLoopDoes(t *testing.T) {
	for _, residual := range []string{"fixed", "following", "mhclite:streams=4"} {
		t.Run(residual, func(t *testing.T) {
			l := open(t, scalar.Open64(1), config(residual), 1)
			w := text(2, 6)
			r := l.diagnose(w)
			for i, s := range l.streams(w)[1:] {
				want := loop(s)
				name := model.SubLayer(i)
				near(t, name+" rms", r.RMS[i], want.rms, 1e-6)
				near(t, name+" stream rms", r.StreamRMS[i], want.streams, 1e-6)
				near(t, name+" divergence", r.Divergence[i], want.divergence, 1e-6)
				near(t, name+" dominant", r.Dominant[i], want.dominant, 1e-6)
				near(t, name+" mean cosine", r.Cosine[i].Mean, want.cosine.Mean, 1e-6)
				near(t, name+" least cosine", r.Cosine[i].Min, want.cosine.Min, 1e-6)
				near(t, name+" largest cosine", r.Cosine[i].Max, want.cosine.Max, 1e-6)
			}
			if r.Divergence[sub-1] < 1e-2 {
				t.Errorf("divergence %v: nothing to measure", r.Divergence)
			}
		})
	}
}

func TestOneStreamHasNothingToCompare(t *testing.T) {
	l := open(t, scalar.Open64(1), config("standard"), 0)
	w := text(2, 6)
	r := l.diagnose(w)
	if len(r.RMS) != sub || len(r.GradientRMS) != sub || r.Divergence != nil || r.Cosine != nil || r.Mixing != nil || r.CompositeGain != 0 {
		t.Fatalf("%+v", r)
	}
	for i, s := range l.streams(w)[1:] {
		sum := 0.0
		for _, v := range s.F64() {
			sum += v * v
		}
		near(t, "rms", r.RMS[i], math.Sqrt(sum/float64(len(s.F64()))), 1e-6)
	}
}

func TestEqualStreamsDivergeByExactlyNothing(t *testing.T) {
	for _, residual := range []string{"mhclite:streams=2,init=report", "equal"} {
		for _, float64s := range []bool{false, true} {
			be := must(framework.Backends.Open("scalar:threads=1"))
			if float64s {
				be = scalar.Open64(1)
			}
			r := open(t, be, config(residual), 0).diagnose(text(2, 20))
			for i, d := range r.Divergence {
				if d != 0 {
					t.Errorf("%s: divergence %g after %s", residual, d, model.SubLayer(i))
				}
				near(t, residual+" cosine", r.Cosine[i].Min, 1, 1e-6)
				near(t, residual+" dominant", r.Dominant[i], 1/float64(len(r.Mixing[0].Values)), 1e-6)
			}
			if len(r.Divergence) != sub {
				t.Errorf("%s: %d divergences", residual, len(r.Divergence))
			}
		}
	}
}

func TestSilentStreamsAreNoNumberOfZeros(t *testing.T) {
	l := open(t, must(framework.Backends.Open("scalar:threads=1")), config("fixed"), 0)
	for _, p := range must(l.model.Parameters()) { // nothing is said at all
		if err := l.store.Put(l.ctx, p.Name, tensor.New(tensor.T(tensor.F32, p.Shape...))); err != nil {
			t.Fatal(err)
		}
	}
	r := l.diagnose(text(1, 4))
	if !r.Finite() || r.Divergence[0] != 0 || r.Dominant[0] != 0.5 || r.Cosine[0].Mean != 0 || r.RMS[0] != 0 {
		t.Errorf("%+v", r)
	}
}

func TestStaticMatricesMultiplyInTheOrderOfLayers(t *testing.T) {
	r := open(t, scalar.Open64(1), config("fixed"), 0).diagnose(text(1, 4))
	product := []float64{1, 0, 0, 1}
	for l := range sub {
		h := fixedMatrices[l%2]
		product = []float64{
			h[0]*product[0] + h[1]*product[2], h[0]*product[1] + h[1]*product[3],
			h[2]*product[0] + h[3]*product[2], h[2]*product[1] + h[3]*product[3],
		}
		if got := slices.Concat(r.Mixing[l].Values...); !slices.Equal(got, h) {
			t.Errorf("sub-layer %d: %v, want %v", l, got, h)
		}
		for k, v := range slices.Concat(r.Composite[l].Values...) {
			near(t, fmt.Sprintf("composite %d[%d]", l, k), v, product[k], 1e-12)
		}
	}
	if r.Violations != sub || r.Mixing[0].Violations != 1 || r.Mixing[1].Smallest.Min != -0.25 {
		t.Errorf("%d violations, %+v", r.Violations, r.Mixing[1])
	}
	abs := func(i, j int) float64 { return math.Abs(product[i]) + math.Abs(product[j]) }
	near(t, "composite gain", r.CompositeGain, max(abs(0, 1), abs(2, 3), abs(0, 2), abs(1, 3)), 1e-12)
}

// Matrices that follow the token, against Mixing of each sampled token alone.
func TestDynamicMatricesAreThoseOfTheSampledTokens(t *testing.T) {
	const B, T, K = 3, 11, 16
	l := open(t, scalar.Open64(1), config("following"), 0)
	w := text(B, T)
	r, all := l.diagnose(w), l.streams(w)
	S := l.model.Residual().(framework.Mixer).Width()
	alone := func(sub int, s *tensor.Tensor, n int) []float64 {
		g := must(graph.Trace(func(b *graph.Builder) {
			x := b.Input("s", tensor.F32, 1, S, dim)
			b.Output("h", l.model.Residual().(framework.Mixer).Mixing(b, sub, x))
		}))
		return l.run(g, tensor.FromF64(s.F64()[n*S*dim:(n+1)*S*dim], 1, S, dim))["h"].F64()
	}
	products := map[int][]float64{}
	for i := range sub {
		mean, gains := make([]float64, S*S), []float64{}
		for k := range K {
			n := int((float64(k) + 0.5) * B * T / K)
			h := alone(i, all[i], n)
			next := make([]float64, S*S)
			for a := range S {
				for b := range S {
					mean[a*S+b] += h[a*S+b] / K
					if i == 0 {
						next[a*S+b] = h[a*S+b]
						continue
					}
					for c := range S {
						next[a*S+b] += h[a*S+c] * products[k][c*S+b]
					}
				}
			}
			products[k] = next
			gain := 0.0
			for a := range S {
				row, col := 0.0, 0.0
				for b := range S {
					row, col = row+math.Abs(next[a*S+b]), col+math.Abs(next[b*S+a])
				}
				gain = max(gain, row, col)
			}
			gains = append(gains, gain)
		}
		for k, v := range slices.Concat(r.Mixing[i].Values...) {
			near(t, fmt.Sprintf("mean of matrix %d[%d]", i, k), v, mean[k], 1e-6)
		}
		near(t, "least gain", r.Composite[i].Gain.Min, slices.Min(gains), 1e-6)
		near(t, "largest gain", r.Composite[i].Gain.Max, slices.Max(gains), 1e-6)
		sum := 0.0
		for _, g := range gains {
			sum += g / K
		}
		near(t, "mean gain", r.Composite[i].Gain.Mean, sum, 1e-6)
		if i == sub-1 {
			near(t, "composite gain", r.CompositeGain, sum, 1e-6)
		}
	}
	if d := r.Mixing[2].Gain; d.Max-d.Min < 1e-3 {
		t.Errorf("gains %+v do not follow the token", d)
	}
}

// The gradient by the stream after each sub-layer, element by element, against
// central differences of the loss in float64.
func TestGradientRMSIsThatOfDifferences(t *testing.T) {
	const B, T, S = 1, 3, 2
	w := text(B, T)
	for sub := range sub {
		l := open(t, scalar.Open64(1), config(fmt.Sprint("nudged", sub)), 0)
		exe := must(l.be.Compile(l.ctx, must(l.model.Loss(B, T, false))))
		nudge, out := tensor.New(tensor.T(tensor.F64, B*T, S, dim)), tensor.New(tensor.T(tensor.F64, B*T))
		loss := func(i int, h float64) (sum float64) {
			clear(nudge.F64())
			nudge.F64()[i] = h
			if err := l.store.Put(l.ctx, "nudge", nudge); err != nil {
				t.Fatal(err)
			}
			if err := exe.Run(l.ctx, l.store, inputs(w), []*tensor.Tensor{out}); err != nil {
				t.Fatal(err)
			}
			for _, v := range out.F64() {
				sum += v
			}
			return sum
		}
		sum, n := 0.0, B*T*S*dim
		for i := range n {
			const h = 1e-5
			d := (loss(i, h) - loss(i, -h)) / (2 * h)
			sum += d * d
		}
		loss(0, 0)
		want := math.Sqrt(sum / float64(n))
		near(t, "gradient after "+model.SubLayer(sub), l.diagnose(w).GradientRMS[sub], want, 1e-6)
		if want < 1e-3 {
			t.Errorf("gradient %g: nothing to measure", want)
		}
	}
}

// A file's packed weights have the streams and gradients of a trainer's.
func TestPackedWeightsGiveTheSameReport(t *testing.T) {
	for _, head := range []string{"f16", "ternary", "tied"} {
		c := config("mhclite")
		c.Quant, c.Head, c.Tied = "ternary:group=8", head, head == "tied"
		if c.Tied {
			c.Head = "f16"
		}
		l := open(t, scalar.Open64(1), c, 0.5)
		w := text(2, 6)
		want := l.diagnose(w)
		d := must(diagnose.NewStreams(l.ctx, l.be, l.model, diagnose.Options{Pass: model.Pass{Packed: true}, Text: w}))
		got := must(d.Run(l.ctx, l.store))
		for i := range sub {
			near(t, head+" rms", got.RMS[i], want.RMS[i], 1e-6)
			near(t, head+" gradient", got.GradientRMS[i], want.GradientRMS[i], 1e-6)
			near(t, head+" divergence", got.Divergence[i], want.Divergence[i], 1e-6)
		}
		if got.Mixing[0].Values != nil {
			t.Error("elements that nobody asked for")
		}
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

func TestReportIsTheGoldenOne(t *testing.T) {
	for file, residual := range map[string]string{"testdata/static.json": "mhclite:streams=2", "testdata/dynamic.json": "following"} {
		r := open(t, scalar.Open64(1), config(residual), 0.5).diagnose(text(2, 12))
		var v any
		if err := json.Unmarshal(must(json.Marshal(r)), &v); err != nil {
			t.Fatal(err)
		}
		got := append(must(json.MarshalIndent(rounded(v), "", " ")), '\n')
		if *update {
			if err := os.WriteFile(file, got, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if want := must(os.ReadFile(file)); string(got) != string(want) {
			t.Errorf("%s differs from\n%s\nrun the test with -update if that is right", file, got)
		}
	}
}

// rounded keeps five digits: more would depend on the processor.
func rounded(v any) any {
	switch v := v.(type) {
	case float64:
		if math.Abs(v) < 1e-6 {
			return 0.0
		}
		var x float64
		_, _ = fmt.Sscan(fmt.Sprintf("%.5g", v), &x)
		return x
	case []any:
		for i := range v {
			v[i] = rounded(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = rounded(v[k])
		}
	}
	return v
}
