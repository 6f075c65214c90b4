package attention

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

// example is an attention with the widths of its values.
type example struct {
	dims
	pos     []int
	q, k, v tensor.DType
	g, out  tensor.DType
	r       *rig
	in      []array
	values  [][]float64
}

func (e *example) String() string {
	return fmt.Sprintf("%+v at %v, q %v k %v v %v g %v out %v", e.dims, e.pos, e.q, e.k, e.v, e.g, e.out)
}

// shapes of q, k, v, pos and g.
func (d dims) types(k, v tensor.DType) []tensor.Type {
	q, keys := []int{d.B, d.T, d.H, d.D}, []int{d.B, d.S, d.KV, d.D}
	return []tensor.Type{tensor.T(tensor.F32, q...), tensor.T(k, keys...), tensor.T(v, keys...), tensor.T(tensor.I32, d.B), tensor.T(tensor.F32, q...)}
}

// fill draws the operands. Columns that no row sees are not numbers.
func (e *example) fill(r *rig) *example {
	e.r = r
	for i, d := range []tensor.DType{e.q, e.k, e.v, tensor.I32, e.g} {
		n := e.types(e.k, e.v)[i].Shape.Numel()
		v := random(fmt.Sprint("operand", i), d, n)
		if i == 3 {
			for b, p := range e.pos {
				v[b] = float64(p)
			}
		}
		e.values = append(e.values, v)
	}
	for i, d := range []tensor.DType{e.q, e.k, e.v, tensor.I32, e.g} {
		v := append([]float64{}, e.values[i]...)
		if i == 1 || i == 2 {
			e.hidden(func(at int) { v[at] = math.NaN() })
		}
		e.in = append(e.in, r.put(d, v))
	}
	return e
}

// hidden calls fn with the place of each element of columns that no row sees.
func (e *example) hidden(fn func(i int)) {
	width := e.KV * e.D
	for b, p := range e.pos {
		for i := (b*e.S + p + e.T) * width; i < (b+1)*e.S*width; i++ {
			fn(i)
		}
	}
}

func (e *example) operands(in []array, results ...array) operands {
	o := operands{dims: e.dims, k: e.k, v: e.v, node: 1, sharedMost: e.r.d.Info().SharedOptIn}
	for i, a := range append(in, results...) {
		if a.d == tensor.BF16 {
			o.narrow |= 1 << i
		}
	}
	for _, a := range in {
		o.in = append(o.in, a.p)
	}
	for _, a := range results {
		o.out = append(o.out, a.p)
	}
	o.failure = e.r.put(tensor.I32, []float64{0, 0}).p
	return o
}

func (e *example) forward() []float64 {
	out := e.r.alloc(e.out, e.B*e.T*e.H*e.D)
	o := e.operands(e.in[:4], out)
	o.scratch = e.r.alloc(tensor.F32, e.B*e.T*e.H*e.pieces()*(e.D+2)).p
	e.r.run(o.forward()...)
	return e.r.get(out)
}

func (e *example) pullback() (results [][]float64, kernels []string) {
	n, m := e.B*e.T*e.H*e.D, e.B*e.S*e.KV*e.D
	all := []array{e.r.alloc(e.out, n), e.r.alloc(e.out, m), e.r.alloc(e.out, m)}
	o := e.operands(e.in, all...)
	o.scratch = e.r.alloc(tensor.F32, e.B*e.T*e.H*statBytes/4).p
	work := o.pullback()
	e.r.run(work...)
	for _, a := range all {
		results = append(results, e.r.get(a))
	}
	for _, w := range work {
		kernels = append(kernels, w.kernel)
	}
	return results, kernels
}

// want is what float64 gives, of the operands as the device has them.
func (e *example) want(op string) [][]float64 {
	k := tensor.F32
	if e.k == tensor.F16 {
		k = tensor.F16
	}
	n := 4
	if op == "attention.vjp" {
		n = 5
	}
	var in []operand
	for i, t := range e.types(k, k)[:n] {
		in = append(in, operand{t, e.values[i]})
	}
	return reference(e.r.t, op, nil, in...)
}

const (
	f32 = tensor.F32
	f16 = tensor.F16
	b16 = tensor.BF16
)

// What a result may differ by: sums in f32, and results and weights rounded to 8
// bits.
const (
	f32Bound  = 1e-12
	bf16Bound = 1.2e-5
)

func TestAttentionByRowsEqualsFloat64(t *testing.T) {
	r := newRig(t)
	for _, e := range []example{
		{dims: dims{1, 1, 1, 2, 1, 1}, pos: []int{0}, q: f32, k: f32, v: f32, out: f32},
		{dims: dims{2, 2, 2, 7, 3, 1}, pos: []int{1, 0}, q: f32, k: f32, v: f32, out: f32},
		{dims: dims{1, 5, 4, 16, 9, 2}, pos: []int{3}, q: f32, k: f32, v: f32, out: f32},
		{dims: dims{3, 7, 3, 12, 31, 1}, pos: []int{0, 24, 9}, q: f32, k: f32, v: f32, out: f32},
		{dims: dims{1, 9, 4, 80, 140, 1}, pos: []int{125}, q: f32, k: f32, v: f32, out: f32},
		{dims: dims{1, 3, 1, 200, 130, 1}, pos: []int{127}, q: f32, k: f32, v: f32, out: b16},
		{dims: dims{2, 1, 4, 64, 300, 4}, pos: []int{299, 128}, q: f32, k: f16, v: f16, out: f32},
		{dims: dims{2, 1, 6, 128, 300, 2}, pos: []int{0, 255}, q: b16, k: f16, v: f16, out: b16},
		{dims: dims{1, 3, 4, 24, 37, 2}, pos: []int{34}, q: f32, k: f16, v: f16, out: f32},
		{dims: dims{1, 4, 2, 20, 8, 1}, pos: []int{2}, q: b16, k: b16, v: b16, out: b16},
		{dims: dims{1, 4, 4, 8, 8, 2}, pos: []int{4}, q: f32, k: f32, v: b16, out: f32},
		{dims: dims{1, 4, 4, 8, 8, 2}, pos: []int{4}, q: b16, k: b16, v: f32, out: b16},
	} {
		t.Run(e.String(), func(t *testing.T) {
			e.fill(r)
			bound := f32Bound
			if e.out == b16 {
				bound = bf16Bound
			}
			within(t, "result", e.forward(), e.want("attention")[0], bound)
		})
	}
}

func TestAttentionInTensorCoresEqualsFloat64(t *testing.T) {
	r := newRig(t)
	for _, e := range []example{
		{dims: dims{2, 16, 1, 16, 80, 1}, pos: []int{0, 62}, k: b16, out: b16},
		{dims: dims{2, 70, 2, 64, 80, 1}, pos: []int{0, 10}, k: b16, out: b16},
		{dims: dims{1, 17, 1, 80, 150, 1}, pos: []int{130}, k: b16, out: f32},
		{dims: dims{1, 16, 2, 128, 70, 2}, pos: []int{50}, k: b16, out: b16},
		{dims: dims{1, 16, 1, 192, 40, 1}, pos: []int{20}, k: b16, out: b16},
		{dims: dims{1, 33, 2, 64, 100, 1}, pos: []int{60}, k: f16, out: b16},
		{dims: dims{1, 16, 1, 96, 16, 1}, pos: []int{0}, k: f16, out: b16},
		{dims: dims{1, 16, 1, 128, 20, 1}, pos: []int{4}, k: f16, out: f32},
		{dims: dims{1, 16, 1, 256, 20, 1}, pos: []int{3}, k: f16, out: f32},
	} {
		e.q, e.v = b16, e.k
		t.Run(e.String(), func(t *testing.T) {
			e.fill(r)
			if !e.operands(e.in[:4]).flash(false) {
				t.Fatal("goes by rows")
			}
			within(t, "result", e.forward(), e.want("attention")[0], bf16Bound)
		})
	}
}

func TestAttentionsPullbackEqualsFloat64(t *testing.T) {
	r := newRig(t)
	for _, e := range []example{
		{dims: dims{1, 1, 1, 2, 1, 1}, pos: []int{0}, q: f32, k: f32, v: f32, g: f32, out: f32},
		{dims: dims{2, 3, 2, 7, 5, 1}, pos: []int{2, 0}, q: f32, k: f32, v: f32, g: f32, out: f32},
		{dims: dims{1, 9, 4, 64, 21, 2}, pos: []int{12}, q: f32, k: f32, v: f32, g: f32, out: f32},
		{dims: dims{1, 4, 3, 80, 140, 1}, pos: []int{134}, q: f32, k: f32, v: f32, g: f32, out: f32},
		{dims: dims{1, 5, 2, 136, 5, 1}, pos: []int{0}, q: b16, k: b16, v: b16, g: b16, out: b16},
		{dims: dims{1, 5, 2, 16, 9, 1}, pos: []int{3}, q: b16, k: f32, v: b16, g: f32, out: f32},
		{dims: dims{1, 16, 1, 16, 16, 1}, pos: []int{0}, q: b16, k: b16, v: b16, g: b16, out: b16},
		{dims: dims{2, 70, 2, 64, 80, 1}, pos: []int{0, 10}, q: b16, k: b16, v: b16, g: b16, out: b16},
		{dims: dims{2, 17, 1, 24, 80, 1}, pos: []int{14, 62}, q: b16, k: b16, v: b16, g: b16, out: b16},
		{dims: dims{1, 35, 4, 80, 40, 2}, pos: []int{3}, q: b16, k: b16, v: b16, g: b16, out: f32},
		{dims: dims{1, 16, 1, 128, 70, 1}, pos: []int{50}, q: b16, k: b16, v: b16, g: b16, out: b16},
	} {
		t.Run(e.String(), func(t *testing.T) {
			e.fill(r)
			got, kernels := e.pullback()
			bound := f32Bound
			if e.out == b16 || e.q == b16 && e.g == b16 {
				bound = bf16Bound
			}
			if flash := strings.HasPrefix(kernels[0], "flash"); flash != (e.T >= fewRows) {
				t.Fatal("runs", kernels)
			}
			want := e.want("attention.vjp")
			for i, name := range []string{"dq", "dk", "dv"} {
				within(t, name, got[i], want[i], bound)
			}
		})
	}
}

// rows returns query rows lo to hi-1 of a single sequence, to run against its
// whole cache, or against a longer one.
func (e *example) rows(lo, hi, S int) *example {
	part := &example{dims: e.dims, pos: []int{e.pos[0] + lo}, q: e.q, k: e.k, v: e.v, g: e.g, out: e.out, r: e.r}
	part.T, part.S = hi-lo, S
	width, keys := e.H*e.D, e.KV*e.D
	k, v := make([]float64, S*keys), make([]float64, S*keys)
	for i := range k {
		k[i], v[i] = math.Inf(1), math.NaN()
	}
	copy(k, e.values[1][:min(S, e.S)*keys])
	copy(v, e.values[2][:min(S, e.S)*keys])
	part.in = []array{
		e.r.put(e.q, e.values[0][lo*width:hi*width]), e.r.put(e.k, k), e.r.put(e.v, v),
		e.r.put(tensor.I32, []float64{float64(part.pos[0])}),
	}
	return part
}

func TestARowHasTheSameBitsAloneAndAmongOthers(t *testing.T) {
	r := newRig(t)
	for _, d := range []tensor.DType{f32, f16} {
		e := example{dims: dims{1, 40, 4, 24, 160, 2}, pos: []int{110}, q: f32, k: d, v: d, out: f32}
		e.fill(r)
		whole := e.forward()
		for _, c := range []struct{ lo, hi, S int }{{0, 1, 160}, {17, 18, 128}, {18, 19, 300}, {39, 40, 150}, {8, 17, 160}, {0, 33, 150}, {5, 9, 1000}} {
			got := e.rows(c.lo, c.hi, c.S).forward()
			width := e.H * e.D
			same(t, fmt.Sprintf("%v: rows %d to %d of %d columns", d, c.lo, c.hi, c.S), got, whole[c.lo*width:c.hi*width])
		}
	}
}

// Pieces are for few blocks alone; what many blocks do by themselves has the same
// bits.
func TestARowHasTheSameBitsInPiecesAndAtOnce(t *testing.T) {
	r := newRig(t)
	e := example{dims: dims{2, 3, 6, 16, 300, 2}, pos: []int{270, 127}, q: f32, k: f16, v: f16, out: f32}
	e.fill(r)
	if e.pieces() != 3 {
		t.Fatalf("%d pieces, want 3", e.pieces())
	}
	pieces := e.forward()
	out := r.alloc(f32, len(pieces))
	r.run(e.operands(e.in[:4], out).rows(out.p, 0, 0, 0, 0))
	same(t, "at once", r.get(out), pieces)
}

// What a block does does not depend on which of its threads comes first.
func TestTheOrderOfThreadsDoesNotChangeBits(t *testing.T) {
	for _, e := range []example{
		{dims: dims{1, 3, 4, 24, 140, 2}, pos: []int{130}, q: f32, k: f32, v: f32, g: f32, out: f32},
		{dims: dims{1, 20, 2, 64, 70, 1}, pos: []int{50}, q: b16, k: b16, v: b16, g: b16, out: f32},
	} {
		var want [][]float64
		for _, order := range []string{"", "order=reverse", "order=shuffle"} {
			e := e
			e.fill(newRig(t, order))
			got, _ := e.pullback()
			got = append(got, e.forward())
			for i := range want {
				same(t, fmt.Sprintf("%v, %s, result %d", &e, order, i), got[i], want[i])
			}
			want = got
		}
	}
}

func TestWhatIsNotANumberStaysInRowsThatSeeIt(t *testing.T) {
	r := newRig(t)
	e := example{dims: dims{1, 9, 1, 16, 9, 1}, pos: []int{0}, q: f32, k: f32, v: f32, out: f32}
	e.fill(r)
	clean := e.forward()
	nan := func(operand, row int) []float64 {
		v := append([]float64{}, e.values[operand]...)
		v[row*16+5] = math.NaN()
		kept := e.in[operand]
		e.in[operand] = r.put(f32, v)
		defer func() { e.in[operand] = kept }()
		return e.forward()
	}
	for operand, name := range []string{"q", "k", "v"} {
		for _, bad := range []int{0, 4, 8} {
			for i, v := range nan(operand, bad) {
				row, d := i/16, i%16
				want := row >= bad
				if operand == 0 {
					want = row == bad
				}
				if operand == 2 {
					want = want && d == 5
				}
				if math.IsNaN(v) != want || !want && v != clean[i] {
					t.Fatalf("NaN in row %d of %s: row %d is %v, was %v", bad, name, row, v, clean[i])
				}
			}
		}
	}
}

func TestScoresThatAreAllMinusInfinityGiveNaN(t *testing.T) {
	r := newRig(t)
	for _, d := range []tensor.DType{f32, b16} {
		e := example{dims: dims{1, 20, 1, 16, 20, 1}, pos: []int{0}, q: d, k: d, v: d, out: d}
		e.fill(r)
		q, k := make([]float64, 320), append([]float64{}, e.values[1]...)
		for i := range q {
			q[i] = 1
		}
		k[0] = math.Inf(-1) // the first row sees nothing else, the others do
		e.in[0], e.in[1] = r.put(d, q), r.put(d, k)
		got := e.forward()
		if !math.IsNaN(got[0]) || math.IsNaN(got[16]) {
			t.Errorf("%v: the first rows begin with %v and %v, want NaN and a number", d, got[0], got[16])
		}
	}
}

// A first piece, or tile, of scores that are all minus infinity has no weight.
func TestScoresOfMinusInfinityHaveNoWeight(t *testing.T) {
	r := newRig(t)
	for _, d := range []tensor.DType{f32, b16} {
		e := example{dims: dims{1, 20, 1, 16, 160, 1}, pos: []int{140}, q: d, k: d, v: d, out: d}
		e.fill(r)
		for i := range e.values[0] {
			e.values[0][i] = math.Abs(e.values[0][i])
		}
		for c := range 130 {
			e.values[1][16*c] = math.Inf(-1)
		}
		e.in[0], e.in[1] = r.put(d, e.values[0]), r.put(d, e.values[1])
		bound := f32Bound
		if d == b16 {
			bound = bf16Bound
		}
		within(t, fmt.Sprint(d), e.forward(), e.want("attention")[0], bound)
	}
}

func TestAPositionWithoutRoomIsReported(t *testing.T) {
	r := newRig(t)
	for _, d := range []tensor.DType{f32, b16} {
		for _, pos := range []int{-1, 5, math.MaxInt32, math.MinInt32} {
			e := example{dims: dims{2, 16, 1, 16, 20, 1}, pos: []int{4, 0}, q: d, k: d, v: d, g: d, out: f32}
			e.fill(r)
			e.in[3] = r.put(tensor.I32, []float64{4, float64(pos)})
			out := r.alloc(f32, 2*16*16)
			o := e.operands(e.in[:4], out)
			o.scratch = r.alloc(f32, 1<<16).p
			r.run(o.forward()...)
			if got := r.get(array{o.failure, tensor.I32, 2}); got[0] != 1 || got[1] != float64(pos) {
				t.Errorf("%v, position %d: node and value %v", d, pos, got)
			}
			grads, _ := e.pullback()
			for i, v := range append(grads[1], grads[2]...) {
				if b := i % (2 * 20 * 16) / (20 * 16); b == 1 && v != 0 {
					t.Fatalf("%v, position %d: gradient %v of keys that nobody sees", d, pos, v)
				}
			}
		}
	}
}
