package residual_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// mixingOf is H of static mHC of n streams with the given logits, and the
// gradient of the sum of H's elements times fixed numbers by the logits.
func mixingOf(t *testing.T, n, iterations int, logits []float64) (h, d []float64) {
	t.Helper()
	r := open(t, fmt.Sprintf("mhc:streams=%d,iterations=%d,mode=static", n, iterations)).(framework.Mixer)
	g := trace(t, func(b *graph.Builder) {
		h := r.Mixing(b, 0, b.Input("s", tensor.F32, 1, n, 3))
		b.Output("h", h)
		for _, p := range b.Params() {
			if p.N.Name() == "mhc.res_bias" {
				weights := b.ConstList(normals("weights", n*n), n, n)
				b.Output("d", b.Gradients(b.SumAll(b.Mul(h, weights)), []graph.Value{p})[0])
			}
		}
	})
	v := inits(g)
	v["mhc.res_bias"] = logits
	out := compute(t, g, v, normal("s", 1, n, 3))
	return out[0], out[1]
}

// off is by how much the sums of rows and columns differ from 1 at most.
func off(h []float64, n int) (rows, cols float64) {
	for i := range n {
		row, col := 0.0, 0.0
		for j := range n {
			row += h[i*n+j]
			col += h[j*n+i]
		}
		rows, cols = max(rows, math.Abs(row-1)), max(cols, math.Abs(col-1))
	}
	return rows, cols
}

func scaled(v []float64, by float64) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = by * x
	}
	return w
}

// Rows are normalized last, so their sums are 1 whatever the logits and however
// few the iterations. Columns approach that, the slower the further apart the
// logits are; that is why mHC does not claim to be doubly stochastic.
func TestSinkhornNormalizesRowsExactlyAndColumnsInTheLimit(t *testing.T) {
	logits := normals("logits", 16)
	for _, spread := range []float64{0, 1, 4, 16, 64} {
		last := math.Inf(1)
		for _, iterations := range []int{1, 3, 20, 100} {
			h, _ := mixingOf(t, 4, iterations, scaled(logits, spread))
			rows, cols := off(h, 4)
			t.Logf("logits of deviation %2v, %3d iterations: rows off by %.1e, columns by %.1e", spread, iterations, rows, cols)
			if rows > 1e-15*4 {
				t.Errorf("spread %v, %d iterations: rows are off by %v", spread, iterations, rows)
			}
			if cols > last+1e-15 {
				t.Errorf("spread %v, %d iterations: columns are off by %v, before by %v", spread, iterations, cols, last)
			}
			last = cols
			switch {
			case spread <= 1 && iterations == 20 && cols > 1e-9, spread <= 16 && iterations == 100 && cols > 1e-3:
				t.Errorf("spread %v: %d iterations leave columns off by %v", spread, iterations, cols)
			case spread == 64 && iterations == 20 && cols < 0.1:
				t.Errorf("20 iterations on hard logits leave columns off by %v alone: then mHC could claim more", cols)
			}
		}
	}
}

// exp of such logits is infinite or zero.
func TestSinkhornHoldsOnAnyLogits(t *testing.T) {
	for name, logits := range map[string][]float64{
		"large":           scaled(normals("logits", 16), 1e4),
		"a row of nought": {0, 0, 0, 0, 0, 0, 0, 0, -1e4, -1e4, -1e4, -1e4, 0, 0, 0, 0},
		"a column":        {-1e4, 0, 0, 0, -1e4, 0, 0, 0, -1e4, 0, 0, 0, -1e4, 0, 0, 0},
		"all large":       {900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900},
	} {
		h, d := mixingOf(t, 4, 20, logits)
		for i := range h {
			if !(h[i] >= 0 && h[i] <= 1+1e-12) || math.IsNaN(d[i]) || math.IsInf(d[i], 0) {
				t.Errorf("%s: H is %v, gradient %v", name, h, d)
				break
			}
		}
	}
}
