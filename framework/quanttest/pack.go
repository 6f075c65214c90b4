package quanttest

import (
	"bytes"
	"context"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// packed is a weight as it is stored, and what it stands for.
type packed struct {
	codes, scales *tensor.Tensor
	scale, deq    []float64 // of every group, row by row; of every weight
	index         []int     // code of every weight
}

// normal draws [dims] from N(0, std^2).
func normal(name string, std float64, dims ...int) *tensor.Tensor {
	t := tensor.New(tensor.T(tensor.F32, dims...))
	rng.NewKey(20252, name).FillNormal(t.F32(), 0, std)
	return t
}

// run compiles and runs g once on be.
func run(ctx context.Context, be framework.Backend, wide bool, g *graph.Graph, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	exec, err := be.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { _ = exec.Close() }()
	st, err := be.NewStore()
	if err != nil {
		return nil, err
	}
	defer func() { _ = st.Close() }()
	for _, n := range g.Params() { // of the quantizer itself
		if err := st.Put(ctx, n.Name(), first(n)); err != nil {
			return nil, err
		}
	}
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, o := range g.Outputs {
		t := o.Value.Type()
		if wide && t.DType == tensor.F32 {
			t.DType = tensor.F64
		}
		out[i] = tensor.New(t)
	}
	return out, exec.Run(ctx, st, in, out)
}

// first is the value that a trainer gives a parameter at first.
func first(n *graph.Node) *tensor.Tensor {
	t, init := tensor.New(n.Out[0]), n.Attr.(graph.ParamAttr).Init
	rng.NewKey(20254, n.Name()).FillNormal(t.F32(), init.Mean, init.Std)
	for i := range t.F32() {
		if len(init.Values) > 0 {
			t.F32()[i] = float32(init.Values[i%len(init.Values)])
		}
	}
	return t
}

// packGraph packs an input "w" [m,k].
func (s *tester) packGraph(m, k int) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		codes, scales := s.q.Pack(b, b.Input("w", tensor.F32, m, k))
		b.Output("codes", codes)
		b.Output("scales", scales)
		b.Output("deq", b.Dequantize(codes, scales, s.f.Levels))
	})
}

func (s *tester) pack(ctx context.Context, w *tensor.Tensor) (*packed, error) {
	g, err := s.packGraph(w.Shape[0], w.Shape[1])
	if err != nil {
		return nil, err
	}
	out, err := run(ctx, s.be, s.wide, g, w)
	if err != nil {
		return nil, err
	}
	return &packed{codes: out[0], scales: out[1], scale: out[1].Floats(), deq: out[2].Floats(), index: indices(out[0])}, nil
}

// level is what a code stands for; ok is false if it stands for nothing.
func (s *tester) level(code int) (l float64, ok bool) {
	if s.f.Code() == tensor.I8 {
		return float64(code), code != -128
	}
	if code >= len(s.f.Levels) {
		return 0, false
	}
	return float64(s.f.Levels[code]), true
}

// indices unpacks codes, low bits first, each row on whole bytes. Codes of type i8 are levels.
func indices(codes *tensor.Tensor) []int {
	if codes.DType == tensor.I8 {
		out := make([]int, codes.Shape.Numel())
		for i, c := range codes.I8() {
			out[i] = int(c)
		}
		return out
	}
	per, cols := codes.DType.Block(), codes.Shape[1]
	stride, bits := (cols+per-1)/per, 8/per
	out := make([]int, codes.Shape.Numel())
	for i := range out {
		r, c := i/cols, i%cols
		out[i] = int(codes.Data[r*stride+c/per] >> (c % per * bits) & byte(1<<bits-1))
	}
	return out
}

// sizes are weights that the format takes, of one group and of several.
func (s *tester) sizes() [][2]int {
	g := s.f.Group
	if g <= 0 {
		return [][2]int{{1, 1}, {3, 7}, {8, 64}, {5, 129}}
	}
	return [][2]int{{1, g}, {3, 2 * g}, {8, g}, {5, 3 * g}}
}

// weight is a Gaussian weight of a usual size and spread.
func (s *tester) weight() *tensor.Tensor {
	k := 96
	if s.f.Group > 0 {
		k = 3 * s.f.Group
	}
	return normal("weight", 0.02, 9, k)
}

// groups gives the index of the scale of each weight.
func (s *tester) groups(m, k int) []int {
	rows, cols, err := s.f.Scales(m, k)
	if err != nil {
		return nil
	}
	at := make([]int, m*k)
	for i := range at {
		r, c := i/k, i%k
		at[i] = min(r, rows-1)*cols + c/(k/cols)
	}
	return at
}

// samePack fails when two packings differ in bits.
func samePack(what string, a, b *packed) error {
	switch {
	case !slices.Equal(a.index, b.index):
		return errors.Newf("%s: codes differ", what)
	case !bytes.Equal(a.scales.Data, b.scales.Data):
		return errors.Newf("%s: scales differ", what)
	}
	return nil
}
