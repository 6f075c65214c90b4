package backendtest

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

// The suite is worth what it finds: each test here runs it on a backend with
// one flaw and wants the case of that flaw to fail.

type flaw = func(n *graph.Node, in, out [][]float64)

// bent is the interpreter with hooks around stores and runs.
type bent struct {
	*eval.Backend
	run   func(s *bentStore, run func(ctx context.Context, s framework.Store) error, ctx context.Context) error
	fork  func(s *bentStore) (framework.Store, error)
	get   func(s *bentStore, name string) (*tensor.Tensor, error)
	names func(n []string) []string
	deaf  bool // Close does nothing
	any   bool // Run takes any store
}

type bentStore struct {
	framework.Store
	b     *bent
	first framework.Store // for run hooks
}

type bentExec struct {
	framework.Executable
	b *bent
}

func (b *bent) NewStore() (framework.Store, error) {
	s, err := b.Backend.NewStore()
	return &bentStore{Store: s, b: b}, err
}

func (b *bent) Compile(ctx context.Context, g *graph.Graph) (framework.Executable, error) {
	e, err := b.Backend.Compile(ctx, g)
	return &bentExec{e, b}, err
}

func (b *bent) Close() error {
	if b.deaf {
		return nil
	}
	return b.Backend.Close()
}

func (s *bentStore) Fork() (framework.Store, error) {
	if s.b.fork != nil {
		return s.b.fork(s)
	}
	f, err := s.Store.Fork()
	return &bentStore{Store: f, b: s.b}, err
}

func (s *bentStore) Get(ctx context.Context, name string) (*tensor.Tensor, error) {
	if s.b.get != nil {
		return s.b.get(s, name)
	}
	return s.Store.Get(ctx, name)
}

func (s *bentStore) Names() []string {
	if s.b.names != nil {
		return s.b.names(s.Store.Names())
	}
	return s.Store.Names()
}

func (e *bentExec) Run(ctx context.Context, s framework.Store, in, out []*tensor.Tensor) error {
	bs, ok := s.(*bentStore)
	if !ok && e.b.any {
		return nil
	}
	if !ok {
		return e.Executable.Run(ctx, s, in, out)
	}
	run := func(ctx context.Context, s framework.Store) error { return e.Executable.Run(ctx, s, in, out) }
	if e.b.run != nil {
		return e.b.run(bs, run, ctx)
	}
	return run(ctx, bs.Store)
}

// copied returns a store with copies of everything that s holds.
func copied(b *bent, s framework.Store) (framework.Store, error) {
	c, err := b.Backend.NewStore()
	if err != nil {
		return nil, err
	}
	for _, name := range s.Names() {
		x, err := s.Get(context.Background(), name)
		if err == nil {
			err = c.Put(context.Background(), name, x)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func newBent(f flaw) *bent { return &bent{Backend: &eval.Backend{Single: true, Flaw: f}} }

// finds fails t unless the case with the given id fails on the backend.
func finds(t *testing.T, id string, open func() framework.Backend) {
	t.Helper()
	mode, name, _ := strings.Cut(id, "/")
	tt, err := newTester(context.Background(), Options{Modes: []string{mode}, Open: func() (framework.Backend, error) { return open(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range tt.entries() {
		if e.Name != name {
			continue
		}
		c := suite.One(context.Background(), e, nil)
		if c.Status() == "FAIL" {
			t.Logf("%s: %.200s", id, c.Detail)
			return
		}
	}
	t.Errorf("case %s did not find the flaw", id)
}

// last changes the last element of the first result of an op.
func last(op string) flaw {
	return func(n *graph.Node, _, out [][]float64) {
		if n.Op.Name != op {
			return
		}
		x := &out[0][len(out[0])-1]
		if n.Out[0].DType.Float() {
			*x = *x + 0.5
		} else {
			*x = math.Abs(*x - 1) // another code, id or truth
		}
	}
}

func TestWrongLastElementIsFoundInEveryOp(t *testing.T) {
	for _, op := range graph.Ops() {
		if op.Name == "input" || op.Name == "param" || op.Name == "buffer" {
			continue // no node computes them: see TestStoreFlaws
		}
		tt, err := newTester(context.Background(), Options{Open: func() (framework.Backend, error) { return newBent(last(op.Name)), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tt.checkOp(context.Background(), op); err == nil {
			t.Errorf("%s: the flaw is not found", op.Name)
		}
	}
}

func TestOpFlaws(t *testing.T) {
	runs := 0
	for name, c := range map[string]struct {
		id   string
		flaw flaw
	}{
		"a tail of one length": {"ops/neg", func(n *graph.Node, _, out [][]float64) {
			if n.Op.Name == "neg" && len(out[0]) == 33 {
				out[0][32] = 0
			}
		}},
		"a wrong column broadcast": {"ops/mul", func(n *graph.Node, in, out [][]float64) {
			if n.Op.Name == "mul" && len(in[1]) == 5 && len(out[0]) == 5*31 {
				out[0][40] = out[0][0]
			}
		}},
		"a result that varies from run to run": {"ops/cos", func(n *graph.Node, _, out [][]float64) {
			if n.Op.Name == "cos" {
				runs++
				out[0][0] += float64(runs%3) * 6e-8
			}
		}},
		"a clobbered operand": {"ops/rope", func(n *graph.Node, in, _ [][]float64) {
			if n.Op.Name == "rope" && len(n.In[0].N.In) > 0 {
				in[0][0] = 0
			}
		}},
		"operands in one memory": {"ops/swiglu", func(n *graph.Node, in, out [][]float64) {
			if n.Op.Name == "swiglu" && &in[0][0] == &in[1][0] {
				out[0][0]++
			}
		}},
		"NaN becomes a number": {"special/sigmoid", func(n *graph.Node, in, out [][]float64) {
			for i := range out[0] {
				if n.Op.Name == "sigmoid" && math.IsNaN(out[0][i]) {
					out[0][i] = 1
				}
			}
		}},
		"NaN spreads": {"special/softmax", func(n *graph.Node, in, out [][]float64) {
			if n.Op.Name == "softmax" && math.IsNaN(out[0][4*33]) {
				out[0][0] += 1e-7
			}
		}},
		"a sum that depends on the rows": {"rows/matmul 96x64", func(n *graph.Node, _, out [][]float64) {
			if n.Op.Name == "matmul" && n.Out[0].Shape[0] == 1 {
				out[0][3] *= 1 + 2e-7
			}
		}},
		"attention of one row": {"rows/attention", func(n *graph.Node, _, out [][]float64) {
			if n.Op.Name == "attention" && n.Out[0].Shape[1] == 1 {
				out[0][3] *= 1 + 2e-7
			}
		}},
		"attention reads junk": {"rows/attention", func(n *graph.Node, in, out [][]float64) {
			if v := in[min(2, len(in)-1)]; n.Op.Name == "attention" {
				out[0][0] += v[len(v)-1] * 1e-38
			}
		}},
		"a cache row too far": {"rows/cached decode", func(n *graph.Node, in, out [][]float64) {
			if n.Op.Name == "updateat" && n.In[1].Dim(1) == 1 && in[2][0] == 9 {
				out[0][9*12] = 0
			}
		}},
		"streams read as the first row's": {"ops/streamread", func(n *graph.Node, in, out [][]float64) {
			if s := n.In[0].Shape(); n.Op.Name == "streamread" && len(n.In[1].Shape()) == 2 && s[0] > 1 {
				for k := range s[2] {
					out[0][s[2]+k] = 0
					for i := range s[1] {
						out[0][s[2]+k] += in[1][i] * in[0][(s[1]+i)*s[2]+k]
					}
				}
			}
		}},
		"streams mixed as the first row's": {"ops/streamwrite", func(n *graph.Node, in, out [][]float64) {
			if s := n.In[0].Shape(); n.Op.Name == "streamwrite" && len(n.In[2].Shape()) == 3 && s[0] > 1 {
				mixAs(in, out[0], s, 1, 0)
			}
		}},
		"a gradient of a row in another's place": {"ops/streamwrite.vjp", func(n *graph.Node, _, out [][]float64) {
			if d := n.Out[len(n.Out)-1].Shape; n.Op.Name == "streamwrite.vjp" && len(d) == 2 && d[0] == 65 {
				out[3][64*d[1]], out[3][63*d[1]] = out[3][63*d[1]], out[3][64*d[1]]
			}
		}},
		"streams of a row alone": {"rows/streamwrite by row", func(n *graph.Node, _, out [][]float64) {
			if n.Op.Name == "streamwrite" && n.Out[0].Shape[0] == 1 {
				out[0][3] *= 1 + 2e-7
			}
		}},
		"a matrix under the streams": {"ops/streamwrite", func(n *graph.Node, in, out [][]float64) {
			if n.Op.Name == "streamwrite" && &in[0][0] == &in[2][0] {
				out[0][1]++
			}
		}},
		"a pullback":      {"random/graphs 0-9", last("rmsnorm.vjp")},
		"an optimizer":    {"train/losses", last("adamw")},
		"a random result": {"train/again", func(n *graph.Node, _, out [][]float64) { runs++; out[0][0] *= 1 + float64(runs%10007)*1e-9 }},
	} {
		t.Run(name, func(t *testing.T) {
			finds(t, c.id, func() framework.Backend { return newBent(c.flaw) })
		})
	}
}

// mixAs mixes the streams [N,S,C] of a row by another row's matrix.
func mixAs(in [][]float64, out []float64, s tensor.Shape, row, other int) {
	S, C := s[1], s[2]
	for i := range S {
		for k := range C {
			z := &out[(row*S+i)*C+k]
			for j := range S {
				*z += (in[2][(other*S+i)*S+j] - in[2][(row*S+i)*S+j]) * in[0][(row*S+j)*C+k]
			}
		}
	}
}

func TestWorkerFlaw(t *testing.T) {
	o := Options{Modes: []string{"workers"}, Open: func() (framework.Backend, error) { return newBent(nil), nil }}
	o.OpenThreads = func(n int) (framework.Backend, error) {
		return newBent(func(m *graph.Node, _, out [][]float64) {
			if m.Op.Name == "sum" && n == 3 {
				out[0][0] *= 1 + 2e-7
			}
		}), nil
	}
	tt, err := newTester(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	for _, e := range tt.entries() {
		if e.Name == "sum" || e.Name == "gather" {
			failed[e.Name] = suite.One(context.Background(), e, nil).Err != nil
		}
	}
	if !failed["sum"] || failed["gather"] || len(failed) != 2 {
		t.Errorf("failed: %v", failed)
	}
}

func TestStoreFlaws(t *testing.T) {
	ctx := context.Background()
	type bend = func(b *bent)
	hideErrors := func(kind error) bend {
		return func(b *bent) {
			b.run = func(s *bentStore, run func(context.Context, framework.Store) error, ctx context.Context) error {
				if err := run(ctx, s.Store); !errors.Is(err, kind) {
					return err
				}
				return nil
			}
		}
	}
	getOther := func(b *bent) {
		b.get = func(s *bentStore, name string) (*tensor.Tensor, error) {
			x, err := s.Store.Get(ctx, name)
			if err == nil && len(x.Data) > 0 {
				x.Data[len(x.Data)-1] ^= 1
			}
			return x, err
		}
	}
	runTwice := func(b *bent) {
		b.run = func(s *bentStore, run func(context.Context, framework.Store) error, ctx context.Context) error {
			return errors.CombineErrors(run(ctx, s.Store), run(ctx, s.Store))
		}
	}
	forkIsParent := func(b *bent) { b.fork = func(s *bentStore) (framework.Store, error) { return s, nil } }
	forkCopies := func(b *bent) {
		b.fork = func(s *bentStore) (framework.Store, error) {
			c, err := copied(b, s.Store)
			return &bentStore{Store: c, b: b}, err
		}
	}
	// The states of the first run are used for ever: a stale layout.
	stale := func(b *bent) {
		b.run = func(s *bentStore, run func(context.Context, framework.Store) error, ctx context.Context) error {
			if s.first == nil {
				c, err := copied(b, s.Store)
				if err != nil {
					return err
				}
				s.first = c
			}
			return run(ctx, s.first)
		}
	}
	ignoreCancel := func(b *bent) {
		b.run = func(s *bentStore, run func(context.Context, framework.Store) error, _ context.Context) error {
			return run(context.Background(), s.Store)
		}
	}
	for name, c := range map[string]struct {
		id   string
		bend bend
	}{
		"changed bits":            {"store/round trip", getOther},
		"an input is changed":     {"ops/param", getOther},
		"parameter not asked for": {"store/missing parameter", hideErrors(framework.ErrNoState)},
		"buffer not zero":         {"store/zero buffer", func(b *bent) { b.run = filled }},
		"type not checked":        {"store/wrong type", hideErrors(framework.ErrMismatch)},
		"a run that runs twice":   {"store/updates after the run", runTwice},
		"swapped twice":           {"store/swap", runTwice},
		"added twice":             {"store/accumulate", runTwice},
		"names in reverse":        {"store/names", func(b *bent) { b.names = func(n []string) []string { slices.Reverse(n); return n } }},
		"a fork that is no fork":  {"store/fork isolation", forkIsParent},
		"a fork that copies":      {"store/fork reads through", forkCopies},
		"old states for ever":     {"store/separate stores", stale},
		"states of another type":  {"store/replace type", stale},
		"stale layout":            {"prepared/matmul", stale},
		"stale codes":             {"prepared/codebookmatmul int8", stale},
		"stale layout on failure": {"errors/after a failure", func(b *bent) { b.run = lagging }},
		"stale gradient":          {"prepared/update in the same run", stale},
		"context ignored":         {"errors/canceled context", ignoreCancel},
		"arguments not checked":   {"errors/inputs and outputs", hideErrors(framework.ErrMismatch)},
		"close ignored":           {"errors/closed", func(b *bent) { b.deaf = true }},
		"any store":               {"errors/foreign store", func(b *bent) { b.any = true }},
		"gather not checked":      {"errors/gather", hideErrors(framework.ErrInput)},
		"scatteradd not checked":  {"errors/scatteradd", hideErrors(framework.ErrInput)},
		"target not checked":      {"errors/crossentropy", hideErrors(framework.ErrInput)},
		"updateat not checked":    {"errors/updateat", hideErrors(framework.ErrInput)},
		"forks share":             {"store/forks side by side", forkIsParent},
	} {
		t.Run(name, func(t *testing.T) {
			finds(t, c.id, func() framework.Backend {
				b := newBent(nil)
				c.bend(b)
				return b
			})
		})
	}
}

// filled puts ones where a buffer "n" is not yet.
func filled(s *bentStore, run func(context.Context, framework.Store) error, ctx context.Context) error {
	if !slices.Contains(s.Store.Names(), "n") {
		if err := s.Store.Put(ctx, "n", tensor.FromF32([]float32{1, 1, 1}, 3)); err != nil {
			return err
		}
	}
	return run(ctx, s.Store)
}

// lagging leaves a failed run's update in the store but lets later runs see
// the state from before it.
func lagging(s *bentStore, run func(context.Context, framework.Store) error, ctx context.Context) error {
	old, err := copied(s.b, s.Store)
	if err != nil {
		return err
	}
	if s.first != nil {
		return run(ctx, s.first)
	}
	err = run(ctx, s.Store)
	if errors.Is(err, framework.ErrInput) {
		s.first = old
		w, _ := s.Store.Get(ctx, "w")
		for i := range w.F32() {
			w.F32()[i] *= -3
		}
		_ = s.Store.Put(ctx, "w", w)
	}
	return err
}

func TestWrongDerivativeIsFoundInEveryOp(t *testing.T) {
	// A forward value that is off by a smooth function of itself has another
	// slope than its gradient rule says.
	for _, op := range graph.Ops() {
		if noGradient[op.Name] != "" || op.Primal() != nil || surrogateOps[op.Name] {
			continue
		}
		open := func() framework.Backend {
			return &eval.Backend{Flaw: func(n *graph.Node, in, out [][]float64) {
				if n.Op != op {
					return
				}
				for i, x := range out[0] {
					if op.Name == "round" {
						x = in[0][i]
					}
					out[0][i] += 0.01 * math.Sin(3*x)
				}
			}}
		}
		found := false
		for _, e := range gradEntries(open) {
			if e.Name == op.Name {
				_, err := e.Run(context.Background())
				found = err != nil
			}
		}
		if !found {
			t.Errorf("%s: a wrong derivative is not found", op.Name)
		}
	}
}

func TestWrongSurrogateIsFound(t *testing.T) {
	for _, c := range []struct{ name, op string }{
		{"surrogate of bitlinear", "matmul"},
		{"surrogate of bitlinearcrossentropy", "bitlinearcrossentropy.vjp"},
		{"surrogate of codebookmatmul", "decode"},
		{"surrogate of int8", "mul"},
		{"surrogate of through", "mul"},
		{"surrogate of cast", "mul"},
	} {
		open := func() framework.Backend { return &eval.Backend{Flaw: last(c.op)} }
		for _, e := range gradEntries(open) {
			if e.Name != c.name {
				continue
			}
			if _, err := e.Run(context.Background()); err == nil {
				t.Errorf("%s: a flaw in %s is not found", c.name, c.op)
			}
		}
	}
}

func TestUnknownModeIsRefused(t *testing.T) {
	r := Check(context.Background(), Options{Modes: []string{"opps"}, Open: func() (framework.Backend, error) { return eval.New(), nil }})
	if r.OK() || !strings.Contains(r.Cases[0].Detail, "opps") {
		t.Error(r)
	}
}
