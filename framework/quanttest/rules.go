package quanttest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

func (s *tester) entries() []suite.Entry {
	all := []suite.Entry{
		{Name: "spec", Rule: "Spec opens the same quantizer again", Fix: "Spec and the options it prints", Run: s.spec},
		{Name: "format", Rule: "the format is one that codes, files and kernels can hold", Fix: "Format", Run: s.format},
	}
	if !s.f.Quantized() {
		return all // Pack is never called
	}
	return append(all, []suite.Entry{
		{Name: "types", Rule: "codes are [M,K] of Format().Code(), scales f32 of Format().Scales(M,K)", Fix: "the reshapes of Pack", Run: s.types},
		{Name: "levels", Rule: "a code is the index of a level, and a weight stands for level times the scale of its group", Fix: "the Encode at the end of Pack", Run: s.levels},
		{Name: "fidelity", Rule: "the dequantized weight is nearer to a Gaussian weight than half its energy", Fix: "the scale: by which statistic, of which group", Run: s.fidelity},
		{Name: "repack", Rule: "packing a dequantized weight gives its codes again", Fix: "how Pack rounds: a level times its scale must round to the level", Run: s.repack},
		{Name: "powers of two", Rule: "a weight times a power of two has the same codes and scales times it", Fix: "an absolute constant in Pack other than the floor of the scale", Run: s.powers},
		{Name: "zero group", Rule: "a group of zeros dequantizes to zeros, or to at most 2^-24, and disturbs no other", Fix: "a floor of the scale, so that nothing is divided by zero", Run: s.zeros},
		{Name: "extremes", Rule: "weights of 1e-6 and of 1e3 give finite scales and weights", Fix: "overflow or underflow of the scale", Run: s.extremes},
		{Name: "ragged", Rule: "a weight whose rows are no whole groups is refused with an error while tracing", Fix: "return of Format().Scales, reported by graph.Fail", Run: s.ragged},
		{Name: "f16 scales", Rule: "every scale is an f16 value when the format says so", Fix: "a cast of the scale to f16 and back in Pack", Run: s.halfScales},
		{Name: "groups apart", Rule: "codes and scales of a group depend on that group alone", Fix: "a reduction over the wrong axis", Run: s.apart},
		{Name: "deterministic", Rule: "two traces have the same text and two runs the same bits; the text reads back", Fix: "state or randomness in the quantizer", Run: s.deterministic},
		{Name: "training value", Rule: "BitLinear in training and CodeBookMatMul from storage have the same bits, those of x^ W^", Fix: "the backend's bitlinear and codebookmatmul kernels", Run: s.value},
		{Name: "gradient", Rule: "the gradient goes straight through: dX = dY W^ and dW = dY^T x^", Fix: "a gradient through Pack", Run: s.gradient},
		{Name: "surrogate", Rule: "an own Surrogate is f32 [M,K], declares no state of the layer, and sends a finite gradient to the weight and to each parameter", Fix: "Surrogate", Run: s.surrogate},
	}...)
}

func (s *tester) spec(context.Context) (string, error) {
	q, err := s.parse(s.q.Spec())
	if err != nil {
		return "", errors.Wrapf(err, "opening %q", s.q.Spec())
	}
	if q.Spec() != s.q.Spec() || fmt.Sprint(q.Format()) != fmt.Sprint(s.f) {
		return "", errors.Newf("%q opens as %q with %+v, was %+v", s.q.Spec(), q.Spec(), q.Format(), s.f)
	}
	return s.q.Spec(), nil
}

func (s *tester) format(context.Context) (string, error) {
	f := s.f
	if !f.Quantized() {
		if f.Bits != 0 || len(f.Levels) != 0 || f.F16 {
			return "", errors.Newf("not quantized, yet %+v", f)
		}
		return "weights stay f32", nil
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(f.Levels)))
	switch {
	case f.Code() == tensor.Invalid:
		return "", errors.Newf("%d bits a code, wants 1, 2, 4 or 8", f.Bits)
	case f.Bits == 8 && len(f.Levels) > 0:
		return "", errors.Newf("%d levels for codes of 8 bits, which are their own", len(f.Levels))
	case f.Bits < 8 && (len(f.Levels) < 2 || len(f.Levels) > 1<<f.Bits):
		return "", errors.Newf("%d levels in %d-bit codes", len(f.Levels), f.Bits)
	case len(sorted) != len(f.Levels):
		return "", errors.Newf("levels %v repeat", f.Levels)
	case slices.Contains(f.Levels, -128):
		return "", errors.New("level -128, which int8 kernels cannot negate")
	case f.Group < 1 && f.Group != -1 && f.Group != -2:
		return "", errors.Newf("group %d", f.Group)
	case f.ActBits != 0 && f.ActBits != 8:
		return "", errors.Newf("%d activation bits, wants 8 or 0", f.ActBits)
	case f.Density < 0 || f.Density > float64(f.Bits):
		return "", errors.Newf("density %v of %d-bit codes", f.Density, f.Bits)
	}
	return fmt.Sprintf("%d levels in %d bits, group %d", len(f.Levels), f.Bits, f.Group), nil
}

func (s *tester) types(context.Context) (string, error) {
	for _, mk := range s.sizes() {
		g, err := s.packGraph(mk[0], mk[1])
		if err != nil {
			return "", errors.Wrapf(err, "weight %v", mk)
		}
		rows, cols, err := s.f.Scales(mk[0], mk[1])
		if err != nil {
			return "", err
		}
		codes, scales := g.Outputs[0].Value.Type(), g.Outputs[1].Value.Type()
		if w := tensor.T(s.f.Code(), mk[0], mk[1]); !codes.Equal(w) {
			return "", errors.Newf("codes of a weight %v are %v, want %v", mk, codes, w)
		}
		if w := tensor.T(tensor.F32, rows, cols); !scales.Equal(w) {
			return "", errors.Newf("scales of a weight %v are %v, want %v", mk, scales, w)
		}
	}
	return "", nil
}

func (s *tester) levels(ctx context.Context) (string, error) {
	used := map[int]int{}
	for _, mk := range append(s.sizes(), [2]int{9, s.weight().Shape[1]}) {
		p, err := s.pack(ctx, normal("levels", 0.05, mk[0], mk[1]))
		if err != nil {
			return "", err
		}
		at := s.groups(mk[0], mk[1])
		for i, c := range p.index {
			l, ok := s.level(c)
			if !ok {
				return "", errors.Newf("code %d of weight %d, there are %d levels", c, i, len(s.f.Levels))
			}
			used[c]++
			if w := l * p.scale[at[i]]; math.Abs(w-p.deq[i]) > 1e-6*math.Abs(w) {
				return "", errors.Newf("weight %d of %v stands for %v, wants level %v times scale %v", i, mk, p.deq[i], l, p.scale[at[i]])
			}
		}
	}
	if len(used) < 2 {
		return "", errors.Newf("a Gaussian weight uses %d levels", len(used))
	}
	return fmt.Sprintf("%d levels used", len(used)), nil
}

func (s *tester) fidelity(ctx context.Context) (string, error) {
	w := s.weight()
	for i, row := 0, w.Shape[1]; i < len(w.F32()); i++ { // rows of different spread
		w.F32()[i] *= float32(1 + i/row/3)
	}
	p, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	num, den := 0.0, 0.0
	for i, x := range w.Floats() {
		num += (x - p.deq[i]) * (x - p.deq[i])
		den += x * x
	}
	if e := num / den; !(e < 0.5) {
		return "", errors.Newf("NMSE of the dequantized weight is %.3f", e)
	}
	return fmt.Sprintf("NMSE %.3f on a Gaussian weight", num/den), nil
}

func (s *tester) repack(ctx context.Context) (string, error) {
	w := s.weight()
	p, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	deq := tensor.New(w.Type)
	for i, v := range p.deq {
		deq.F32()[i] = float32(v)
	}
	q, err := s.pack(ctx, deq)
	if err != nil {
		return "", err
	}
	for i, c := range q.index {
		if c != p.index[i] {
			return "", errors.Newf("weight %d: code %d, then %d", i, p.index[i], c)
		}
	}
	// The scales may differ (those of absmean shrink by the share of zeros):
	// this is why files hold scales, never weights to take scales from.
	ratio := 0.0
	for i := range p.scale {
		ratio += q.scale[i] / p.scale[i] / float64(len(p.scale))
	}
	return fmt.Sprintf("scales of the second packing are %.3f of the first", ratio), nil
}

func (s *tester) powers(ctx context.Context) (string, error) {
	w := s.weight()
	p, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	for _, c := range []float64{0.25, 0.5, 2, 16} {
		v := w.Clone()
		for i := range v.F32() {
			v.F32()[i] *= float32(c)
		}
		q, err := s.pack(ctx, v)
		if err != nil {
			return "", err
		}
		if !slices.Equal(q.index, p.index) {
			return "", errors.Newf("codes of %v w differ from those of w", c)
		}
		for i := range q.scale {
			if q.scale[i] != c*p.scale[i] {
				return "", errors.Newf("scale %d of %v w is %v, that of w %v", i, c, q.scale[i], p.scale[i])
			}
		}
	}
	return "", nil
}

func (s *tester) zeros(ctx context.Context) (string, error) {
	w := s.weight()
	full, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	zero := func(i int) bool { return true }
	if s.f.Group != -2 { // the second row of several
		k := w.Shape[1]
		zero = func(i int) bool { return i/k == 1 }
	}
	for i := range w.F32() {
		if zero(i) {
			w.F32()[i] = 0
		}
	}
	p, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	for i, v := range p.deq {
		switch {
		case zero(i) && !(math.Abs(v) <= 0x1p-24):
			return "", errors.Newf("weight %d of a zero group dequantizes to %v", i, v)
		case !zero(i) && v != full.deq[i]:
			return "", errors.Newf("weight %d beside a zero group is %v, was %v", i, v, full.deq[i])
		}
	}
	return "", finite(p)
}

func finite(p *packed) error {
	for i, v := range append(slices.Clone(p.scale), p.deq...) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.Newf("value %d is %v", i, v)
		}
	}
	return nil
}

func (s *tester) extremes(ctx context.Context) (string, error) {
	for _, std := range []float64{1e-6, 1e3} {
		p, err := s.pack(ctx, normal("extreme", std, s.weight().Shape...))
		if err == nil {
			err = finite(p)
		}
		if err != nil {
			return "", errors.Wrapf(err, "weights of %g", std)
		}
	}
	return "", nil
}

func (s *tester) ragged(context.Context) (string, error) {
	if s.f.Group <= 1 {
		return "every weight is whole groups", nil
	}
	for _, k := range []int{1, s.f.Group - 1, s.f.Group + 1, 2*s.f.Group - 1} {
		if k%s.f.Group == 0 {
			continue
		}
		if _, err := s.packGraph(3, k); err == nil {
			return "", errors.Newf("rows of %d weights in groups of %d are accepted", k, s.f.Group)
		}
	}
	return "", nil
}

func (s *tester) halfScales(ctx context.Context) (string, error) {
	if !s.f.F16 {
		return "scales are f32", nil
	}
	for _, std := range []float64{0.001, 0.02, 3} {
		p, err := s.pack(ctx, normal("half", std, s.weight().Shape...))
		if err != nil {
			return "", err
		}
		for i, v := range p.scale {
			if h := float64(tensor.F16ToF32(tensor.F32ToF16(float32(v)))); h != v {
				return "", errors.Newf("scale %d is %v, the nearest f16 is %v", i, v, h)
			}
		}
	}
	return "", nil
}

// apart changes every other group and packs rows alone.
func (s *tester) apart(ctx context.Context) (string, error) {
	if s.f.Group == -2 {
		return "one group", nil
	}
	w := s.weight()
	m, k := w.Shape[0], w.Shape[1]
	p, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	at := s.groups(m, k)
	v := w.Clone()
	for i := range v.F32() {
		if at[i]%2 == 1 {
			v.F32()[i] *= -3
		}
	}
	q, err := s.pack(ctx, v)
	if err != nil {
		return "", err
	}
	for i := range p.index {
		if at[i]%2 == 0 && (p.index[i] != q.index[i] || p.scale[at[i]] != q.scale[at[i]]) {
			return "", errors.Newf("weight %d changes with another group", i)
		}
	}
	row := tensor.FromF32(w.F32()[4*k:5*k], 1, k)
	alone, err := s.pack(ctx, row)
	if err != nil {
		return "", err
	}
	cols := len(p.scale) / m
	if !slices.Equal(alone.index, p.index[4*k:5*k]) || !slices.Equal(alone.scale, p.scale[4*cols:5*cols]) {
		return "", errors.New("a row alone packs differently from the same row among others")
	}
	return "", nil
}

func (s *tester) deterministic(ctx context.Context) (string, error) {
	w := s.weight()
	a, err := s.packGraph(w.Shape[0], w.Shape[1])
	if err != nil {
		return "", err
	}
	b, err := s.packGraph(w.Shape[0], w.Shape[1])
	if err != nil {
		return "", err
	}
	if a.String() != b.String() {
		return "", errors.New("two traces have different texts")
	}
	if err := readsBack(a); err != nil {
		return "", err
	}
	own, err := s.own()
	if err != nil {
		return "", err
	}
	for _, n := range a.States {
		if !own[n.Name()] {
			return "", errors.Newf("Pack declares state %q, which Surrogate does not", n.Name())
		}
	}
	p, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	q, err := s.pack(ctx, w)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d nodes", len(a.Nodes)), samePack("second run", q, p)
}

// readsBack fails when the text form of g does not read as g.
func readsBack(g *graph.Graph) error {
	back, err := graph.Read(strings.NewReader(g.String()))
	if err != nil {
		return errors.Wrap(err, "the text does not read")
	}
	if back.String() != g.String() {
		return errors.New("the text reads as another graph")
	}
	return nil
}
