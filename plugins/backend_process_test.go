package plugins

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

func init() {
	asPlugin["dying"] = func() {
		ServeBackend(Backend{Meta: Meta{Name: "dying", Version: "0.1.0", Help: "Dies, or errs, when told to."}, Open: openDying})
	}
	asPlugin["scalar"] = func() { ServeBackend(scalarPlugin) }
	asPlugin["faulty"] = func() {
		ServeBackend(Backend{Meta: Meta{Name: "faulty", Version: "0.1.0", Help: "Fails when told to."}, Open: openFaulty})
	}
}

// What a run of the faulty backend does, by its first input.
const (
	works = iota
	hangs
	exits
	killed
	panics
	waits  // until it is canceled
	late   // to notice that it is canceled
	refuse // as something that is not supported
)

// faulty is the scalar backend with runs that go wrong.
type faulty struct{ framework.Backend }

func openFaulty(o framework.Options) (framework.Backend, error) {
	be, err := scalar.Open(o)
	return faulty{be}, err
}

func (f faulty) Compile(ctx context.Context, g *graph.Graph) (framework.Executable, error) {
	e, err := f.Backend.Compile(ctx, g)
	return faultyRun{e}, err
}

type faultyRun struct{ framework.Executable }

func (f faultyRun) Run(ctx context.Context, s framework.Store, in, out []*tensor.Tensor) error {
	switch in[0].I32()[0] {
	case hangs:
		select {}
	case exits:
		log.Print("out of luck")
		os.Exit(7)
	case killed:
		killSelf()
	case panics:
		panic("index out of range")
	case waits:
		<-ctx.Done()
		return errors.Wrap(ctx.Err(), "run")
	case late:
		<-ctx.Done()
		ctx = context.WithoutCancel(ctx)
	case refuse:
		return errors.WithHint(errors.Wrap(framework.ErrUnsupported, "an odd number"), "give an even one")
	}
	return f.Executable.Run(ctx, s, in, out)
}

// killSelf ends this process as the system would for want of memory.
func killSelf() {
	_ = must(os.FindProcess(os.Getpid())).Kill()
	select {}
}

// counter is an executable that adds 1 to its state n, on a store.
type counter struct {
	be    framework.Backend
	exe   framework.Executable
	store framework.Store
}

func count(t testing.TB, be framework.Backend) *counter {
	t.Helper()
	g := must(graph.Trace(func(b *graph.Builder) {
		mode := b.Input("mode", tensor.I32, 1)
		n := b.Buffer("n", tensor.T(tensor.F32, 1))
		b.Update(n, b.Add(n, b.Like(n, 1)))
		b.Output("mode", b.Cast(mode, tensor.F32))
	}))
	exe, err := be.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	return &counter{be, exe, store}
}

func (c *counter) run(ctx context.Context, mode int32) error {
	return c.exe.Run(ctx, c.store, []*tensor.Tensor{tensor.FromI32([]int32{mode}, 1)}, []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, 1))})
}

// n is how often it has run.
func (c *counter) n(t testing.TB) float32 {
	t.Helper()
	x, err := c.store.Get(context.Background(), "n")
	if err != nil {
		t.Fatal(err)
	}
	return x.F32()[0]
}

// remote starts the named program and opens its backend.
func remote(t testing.TB, name, options string, change ...func(*DialOptions)) (*Client, framework.Backend) {
	t.Helper()
	c := dial(t, name, change...)
	be, err := c.Backend(options)
	if err != nil {
		t.Fatal(err)
	}
	return c, be
}

// streamed has be send tensors in streams.
func streamed(be framework.Backend) framework.Backend {
	switch b := be.(type) {
	case estimatingBackend:
		b.memory = nil
	case *remoteBackend:
		b.memory = nil
	}
	return be
}

func sharedMemory(be framework.Backend) bool {
	switch b := be.(type) {
	case estimatingBackend:
		return b.memory != nil
	case *remoteBackend:
		return b.memory != nil
	}
	return false
}

func TestBackendProcessPasses(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole suite takes long")
	}
	c, be := remote(t, "scalar", "")
	if runtime.GOOS == "linux" && !sharedMemory(be) {
		t.Error("the process has not got the shared memory")
	}
	backendtest.Run(t, backendtest.Options{
		Open:        func() (framework.Backend, error) { return c.Backend("threads=1") },
		OpenThreads: func(n int) (framework.Backend, error) { return c.Backend(fmt.Sprintf("threads=%d", n)) },
	})
}

// dying is a backend whose process ends in the first run after a file is there,
// or whose outputs are no numbers from then on.
type dying struct {
	framework.Backend
	file, how string
}

func openDying(o framework.Options) (framework.Backend, error) {
	d := &dying{file: o.String("file", ""), how: o.String("how", "killed")}
	be, err := scalar.Open(o)
	d.Backend = be
	return d, err
}

func (d *dying) Compile(ctx context.Context, g *graph.Graph) (framework.Executable, error) {
	e, err := d.Backend.Compile(ctx, g)
	return dyingRun{e, d}, err
}

type dyingRun struct {
	framework.Executable
	d *dying
}

func (r dyingRun) Run(ctx context.Context, s framework.Store, in, out []*tensor.Tensor) error {
	if _, err := os.Stat(r.d.file); err != nil {
		return r.Executable.Run(ctx, s, in, out)
	}
	if r.d.how == "killed" {
		killSelf()
	}
	err := r.Executable.Run(ctx, s, in, out)
	for _, t := range out {
		t.F32()[0] = float32(math.NaN())
	}
	return err
}

func TestTrainingOnABackendThatBreaksKeepsTheLastCheckpoint(t *testing.T) {
	t.Run("it dies", func(t *testing.T) {
		names(t, trainUntilItBreaks(t, "killed"), ErrDied, "dying 0.1.0", "tern-plugin-dying", "run", "killed")
	})
	t.Run("its outputs are no numbers", func(t *testing.T) {
		says(t, trainUntilItBreaks(t, "nan"), []error{train.ErrDiverged}, "run by plugin dying 0.1.0", "tern-plugin-dying", "step 6: loss NaN")
	})
}

// trainUntilItBreaks trains on a backend that breaks in the way of how after step
// 5, and checks that the checkpoints are as they were then.
func trainUntilItBreaks(t *testing.T, how string) error {
	ctx, dir := context.Background(), t.TempDir()
	file := filepath.Join(t.TempDir(), "break")
	_, be := remote(t, "dying", "how="+how+",file="+file)
	tr, batches := trainer(t, be, small(t, "ternary:group=64", "mhclite:streams=2"), 8)
	before := map[string]string{}
	files := func() map[string]string {
		all := map[string]string{}
		for _, path := range must(filepath.Glob(filepath.Join(dir, "step-*", "*"))) {
			all[path] = string(must(os.ReadFile(path)))
		}
		return all
	}
	broken := train.Run(ctx, tr, batches, train.Plan{
		Dir: dir, SaveEvery: 2, LogEvery: 1,
		Valid: must(data.TokenizeText(ctx, must(tinystories.Valid())[:2000], "gpt2:512")), EvalBatch: 1, EvalWindow: 16, EvalLimit: 1,
		Observe: func(e train.Event) {
			if e.Saved != "" {
				before = files()
			}
			if e.Step == 5 {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Error(err)
				}
			}
		},
	})
	after := files()
	if len(before) == 0 || len(after) != len(before) {
		t.Fatalf("%d files of checkpoints, %d before", len(after), len(before))
	}
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
	if newest, _, err := checkpoint.Latest(dir); err != nil || filepath.Base(newest) != checkpoint.Name(4) {
		t.Errorf("newest checkpoint %s, %v", newest, err)
	}
	return broken
}

// A well-formed fragment may compute what is no number; nothing but training can
// tell.
func TestTrainingWithAFragmentThatGivesNaNNamesThePlugin(t *testing.T) {
	dial(t, "evil")
	dial(t, "grabber")
	for _, c := range []struct{ quant, residual, says string }{
		{"plugin:evil:how=nan", "standard", "weights quantized by plugin evil 6.6.6 ("},
		{"ternary:group=64", "plugin:grabber:how=nan", "streams mixed by plugin grabber 1.0.0 ("},
	} {
		be := must(framework.Backends.Open("scalar:threads=1"))
		tr, src := trainer(t, be, small(t, c.quant, c.residual), 2)
		_, err := tr.Step(context.Background(), src)
		says(t, err, []error{train.ErrDiverged}, c.says, "step 1: loss NaN")
		if hints := strings.Join(errors.GetAllHints(err), "; "); !strings.Contains(hints, "tern plugin test") {
			t.Errorf("hints %q", hints)
		}
		_ = be.Close()
	}
}

// trainer is about to train a small model for some steps of two micro-batches.
func trainer(t *testing.T, be framework.Backend, m *model.Model, steps int) (*train.Trainer, *data.Batches) {
	t.Helper()
	ctx := context.Background()
	r := must(train.LookupRecipe("default"))
	r.Steps, r.Batch, r.Accum, r.Window, r.Warmup = steps, 2, 2, 16, 1
	tr, err := train.New(ctx, be, m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	return tr, must(r.Batches(must(data.TokenizeText(ctx, must(tinystories.Valid())[:20_000], "gpt2:512"))))
}

// steps trains a small model and returns the losses and all states.
func steps(t *testing.T, be framework.Backend) (losses []float64, states map[string][]byte) {
	t.Helper()
	ctx := context.Background()
	tr, src := trainer(t, be, small(t, "ternary:group=64", "mhclite:streams=2"), 4)
	for range 4 {
		s, err := tr.Step(ctx, src)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, s.Loss)
	}
	states = map[string][]byte{}
	for _, name := range tr.Store().Names() {
		states[name] = must(tr.Store().Get(ctx, name)).Data
	}
	return losses, states
}

func TestTrainingOnARemoteBackendHasTheSameBits(t *testing.T) {
	local := must(framework.Backends.Open("scalar:threads=1"))
	defer func() { _ = local.Close() }()
	wantLosses, want := steps(t, local)
	c := dial(t, "scalar")
	for name, prepare := range map[string]func(framework.Backend) framework.Backend{
		"shared memory": func(be framework.Backend) framework.Backend { return be }, "streams": streamed,
	} {
		t.Run(name, func(t *testing.T) {
			losses, got := steps(t, prepare(must(c.Backend("threads=2"))))
			for i, w := range wantLosses {
				if losses[i] != w || math.IsNaN(w) {
					t.Errorf("step %d: loss %v, in this process %v", i, losses[i], w)
				}
			}
			if len(got) != len(want) || len(want) == 0 {
				t.Errorf("%d states, in this process %d", len(got), len(want))
			}
			for name, w := range want {
				if !bytes.Equal(got[name], w) {
					t.Errorf("state %s has other bits", name)
				}
			}
		})
	}
}

// names checks that err says which plugin, which call and what.
func names(t *testing.T, err error, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) || !errors.Is(err, ErrPlugin) {
		t.Fatalf("error %v is not %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestABackendThatDiesInARunIsNamed(t *testing.T) {
	for _, c := range []struct {
		what  string
		mode  int32
		words []string
	}{
		{"exits", exits, []string{"faulty 0.1.0", "run", "exit status 7", "out of luck"}},
		{"is killed", killed, []string{"faulty 0.1.0", "run", "killed"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, be := remote(t, "faulty", "")
			r := count(t, be)
			ctx := context.Background()
			if err := r.run(ctx, works); err != nil {
				t.Fatal(err)
			}
			names(t, r.run(ctx, c.mode), ErrDied, c.words...)
			names(t, r.run(ctx, works), ErrDied, "run")
			_, err := r.store.Get(ctx, "n")
			names(t, err, ErrDied, "get n")
			names(t, r.store.Put(ctx, "n", tensor.FromF32([]float32{1}, 1)), ErrDied, "put n")
			if got := r.store.Names(); got != nil {
				t.Errorf("names %q of a dead plugin", got)
			}
			for what, closing := range map[string]func() error{"executable": r.exe.Close, "store": r.store.Close, "backend": be.Close} {
				if err := closing(); err != nil {
					t.Errorf("close %s: %v", what, err)
				}
			}
		})
	}
}

func TestABackendThatHangsIsKilled(t *testing.T) {
	c, be := remote(t, "faulty", "", func(o *DialOptions) { o.Call = 300 * time.Millisecond })
	r := count(t, be)
	ctx := context.Background()
	if err := r.run(ctx, works); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	names(t, r.run(ctx, hangs), ErrTimeout, "faulty", "run")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	select {
	case <-c.proc.Done():
	case <-time.After(5 * time.Second):
		t.Error("it still runs")
	}
	names(t, r.run(ctx, works), ErrDied, "run")
}

func TestAPanicFailsTheCallOnly(t *testing.T) {
	_, be := remote(t, "faulty", "")
	r := count(t, be)
	if err := r.run(context.Background(), panics); err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Fatalf("error %v", err)
	}
	if err := r.run(context.Background(), works); err != nil {
		t.Fatal(err)
	}
}

func TestCancelingARemoteRun(t *testing.T) {
	c, be := remote(t, "faulty", "")
	for what, be := range map[string]framework.Backend{"shared memory": be, "streams": streamed(must(c.Backend("")))} {
		t.Run(what, func(t *testing.T) {
			r := count(t, be)
			if err := r.run(context.Background(), works); err != nil {
				t.Fatal(err)
			}
			canceled := func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(50*time.Millisecond, cancel)
				return ctx, cancel
			}
			ctx, cancel := canceled()
			defer cancel()
			if err := r.run(ctx, waits); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: error %v", err)
			}
			ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if err := r.run(ctx, waits); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("deadline: error %v", err)
			}
			if n := r.n(t); n != 1 {
				t.Errorf("canceled runs have changed the state: %v", n)
			}
			ctx, cancel = canceled()
			defer cancel()
			if err := r.run(ctx, late); err != nil {
				t.Errorf("what could not be stopped: error %v", err)
			}
			if n := r.n(t); n != 2 {
				t.Errorf("the state after a run that could not be stopped is %v", n)
			}
		})
	}
}

func TestErrorsOfABackendKeepTheirIdentity(t *testing.T) {
	c, be := remote(t, "faulty", "")
	r := count(t, be)
	err := r.run(context.Background(), refuse)
	names(t, err, framework.ErrUnsupported, "faulty", "run", "an odd number")
	if h := errors.FlattenHints(err); !strings.Contains(h, "give an even one") {
		t.Errorf("hints %q", h)
	}
	for options, want := range map[string]string{"threads=many": "threads=many", "thread=1": "did you mean", "threads=-1": "1024"} {
		_, err := c.Backend(options)
		if !errors.Is(err, framework.ErrOption) {
			t.Errorf("%s: error %v", options, err)
		} else if s := err.Error() + errors.FlattenHints(err); !strings.Contains(s, want) {
			t.Errorf("%s: error %q does not say %q", options, s, want)
		}
	}
	if _, err := c.Quantizer(""); !errors.Is(err, ErrPlugin) {
		t.Errorf("a backend as a quantizer: error %v", err)
	}
}

func TestABackendDescribesItself(t *testing.T) {
	_, be := remote(t, "scalar", "threads=2")
	info, local := be.(framework.Describer).Describe(), must(framework.Backends.Open("scalar:threads=2"))
	defer func() { _ = local.Close() }()
	want := local.(framework.Describer).Describe()
	want.Name = "plugin:scalar"
	if got := fmt.Sprint(info); got != fmt.Sprint(want) || be.Name() != want.Name {
		t.Errorf("%s\nwants %v", got, want)
	}
	g := must(small(t, "ternary:group=64", "standard").Accumulate(2, 8, 2))
	got, err := be.(framework.Estimator).Estimate(g)
	if err != nil {
		t.Fatal(err)
	}
	if w := must(local.(framework.Estimator).Estimate(g)); got != w || w == 0 {
		t.Errorf("estimate %d, in this process %d", got, w)
	}
}

func TestAnotherProcessDoesNotKnowTheSession(t *testing.T) {
	_, be := remote(t, "scalar", "")
	r := count(t, be)
	if err := r.run(context.Background(), works); err != nil {
		t.Fatal(err)
	}
	b := be.(estimatingBackend)
	_, other := remote(t, "scalar", "")
	b.api = other.(estimatingBackend).api // as after a restart
	if err := r.run(context.Background(), works); !errors.Is(err, framework.ErrClosed) {
		t.Errorf("run: error %v", err)
	}
	if _, err := b.NewStore(); !errors.Is(err, framework.ErrClosed) {
		t.Errorf("new store: error %v", err)
	}
	if _, err := r.store.Get(context.Background(), "n"); !errors.Is(err, framework.ErrClosed) {
		t.Errorf("get: error %v", err)
	}
}
