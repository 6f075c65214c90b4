package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// checkLibraries asks the plugin what there is.
func (c *check) checkLibraries(ctx context.Context) error {
	type lib struct {
		Version, Path, Error string
	}
	var r struct {
		Driver, NVRTC, CuBLASLt lib
		Devices                 []struct {
			Name, Capability, Error string
			Multiprocessors         int
			Memory                  float64 `json:"memory_bytes"`
			Free                    float64 `json:"free_bytes"`
		}
		Ready bool
	}
	argv := []string{c.program("tern-plugin-cuda"), "check", "-json", fmt.Sprintf("-device=%d", c.device)}
	if c.libraries != "" {
		argv = append(argv, "-libraries="+c.libraries)
	}
	out, failed := c.exec(ctx, "check", argv...)
	if err := json.Unmarshal(out, &r); err != nil {
		return errors.CombineErrors(failed, errors.Wrap(err, "answer of the plugin"))
	}
	if c.device < len(r.Devices) {
		d := r.Devices[c.device]
		c.table.Device = fmt.Sprintf("%s, compute capability %s, %d multiprocessors, %.1f of %.1f GiB free", d.Name, d.Capability,
			d.Multiprocessors, d.Free/(1<<30), d.Memory/(1<<30))
	}
	for name, l := range map[string]*lib{"driver": &r.Driver, "NVRTC": &r.NVRTC, "cuBLASLt": &r.CuBLASLt} {
		if l.Error != "" {
			c.table.told(name, l.Error)
		}
	}
	c.table.Driver = fmt.Sprintf("%s, NVRTC %s, cuBLASLt %s", cmp.Or(r.Driver.Version, "no driver"), orUnknown(r.NVRTC.Version), orUnknown(r.CuBLASLt.Version))
	c.table.checked("libraries", c.table.Driver, "all found", r.Ready && r.CuBLASLt.Error == "")
	if version, err := c.tern(ctx, "version", "version"); err == nil {
		c.table.Program = strings.Join(strings.Fields(string(version)), " ")
	}
	list, err := c.tern(ctx, "backends", "backend", "list")
	if err != nil {
		return err
	}
	c.table.checked("tern finds its plugin", "tern backend list", "", strings.Contains(string(list), "\ngpu "))
	return nil
}

// runTests runs the packages' tests on the device, side by side: each in a
// directory of tests with its testdata.
func (c *check) runTests(ctx context.Context) error {
	all, err := filepath.Glob(filepath.Join(c.bin, "tests", "*", "*.test"))
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.Newf("there are no tests in %s", filepath.Join(c.bin, "tests"))
	}
	env := []string{"TERN_CUDA=real", "TERN_CUDA_LIBRARIES=" + c.libraries}
	var jobs []*job
	for _, path := range all {
		argv := []string{path, "-test.v", "-test.timeout=10m"}
		if c.quick { // that they start
			argv = append(argv, "-test.run=^$")
		}
		jobs = append(jobs, c.start(ctx, "test-"+filepath.Base(filepath.Dir(path)), filepath.Dir(path), env, argv...))
	}
	for _, j := range jobs {
		out, err := j.wait()
		passed, failed, skipped := countTests(out)
		text := fmt.Sprintf("%d passed, %d failed, %d skipped", passed, failed, skipped)
		if err != nil && failed == 0 {
			text += "; " + err.Error()
		}
		c.table.checked("tests of "+strings.TrimPrefix(j.name, "test-"), text, "all", err == nil)
	}
	return nil
}

// countTests counts the outermost tests in what -test.v writes.
func countTests(out []byte) (passed, failed, skipped int) {
	for line := range bytes.Lines(out) {
		switch {
		case bytes.HasPrefix(line, []byte("--- PASS")):
			passed++
		case bytes.HasPrefix(line, []byte("--- FAIL")):
			failed++
		case bytes.HasPrefix(line, []byte("--- SKIP")):
			skipped++
		}
	}
	return passed, failed, skipped
}

// conformance runs the parts of the suite of backends that take seconds, through
// the plugin: what crosses the wire, random graphs, and five steps of training,
// whose losses and bits say that gradients are right. Every op by itself is in the
// tests. Random graphs are run without kernels of their own, each of which would be
// compiled for one run.
func (c *check) conformance(ctx context.Context) error {
	if c.quick {
		return c.suite(ctx, "store,errors", "precision=f32")
	}
	return errors.CombineErrors(
		c.suite(ctx, "special,rows,store,errors,prepared,random", "precision=f32", "generate=never"),
		c.suite(ctx, "train", "precision=f32"))
}

// suite runs modes of the suite, a row each.
func (c *check) suite(ctx context.Context, modes string, options ...string) error {
	out, failed := c.tern(ctx, "conformance-"+modes, "backend", "test", c.spec(options...), "--json", "--mode", modes)
	var r struct {
		Cases []struct{ ID, Status, Mode, Detail string }
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return errors.CombineErrors(failed, errors.Wrap(err, "answer of tern backend test"))
	}
	all, bad, worst := map[string]int{}, map[string]int{}, map[string]string{}
	for _, k := range r.Cases {
		all[k.Mode]++
		if k.Status == "FAIL" {
			bad[k.Mode]++
			worst[k.Mode] = "; " + k.ID + ": " + k.Detail
		}
	}
	for _, m := range strings.Split(modes, ",") {
		metric := "conformance f32, " + m
		if m == "train" {
			metric = "gradients: conformance f32, train"
		}
		c.table.checked(metric, fmt.Sprintf("%d of %d cases%s", all[m]-bad[m], all[m], worst[m]), "all", all[m] > 0 && bad[m] == 0)
	}
	return nil
}

// trainArgs are a training of the preset tiny, a line of metrics each step, a
// checkpoint half way.
func (c *check) trainArgs(out, backend string) []string {
	steps, half := "200", "100"
	args := []string{"train", "--preset", "tiny"}
	if c.quick {
		steps, half = "4", "2"
		args = append(args, quickModel...)
		args = append(args, "--batch", "2", "--window", "16", "--warmup", "2")
	}
	return append(args, "--steps", steps, "--save-every", half, "--keep", "0", "--log-every", "1", "--eval-every", "-1", "--eval-windows", "4",
		"--final-windows", "16", "--plain", "--out", filepath.Join(c.out, out), "--backend", backend)
}

// quickModel is a model that a simulated device trains in a minute.
var quickModel = []string{"--tokenizer", "gpt2:320", "--dim", "32", "--heads", "2", "--kv-heads", "1", "--ffn", "64", "--context", "64", "--layers", "1", "--quant", "ternary:group=32"}

// fresh takes the results of an earlier check away.
func (c *check) fresh(names ...string) error {
	for _, n := range names {
		if err := os.RemoveAll(filepath.Join(c.out, n)); err != nil {
			return err
		}
	}
	return nil
}

// startReference starts the training on the processor that the device's is
// compared with.
func (c *check) startReference(ctx context.Context) {
	if err := c.fresh("cpu"); err != nil {
		c.table.fail("training on the processor", err.Error())
		return
	}
	c.cpu = c.start(ctx, "train-cpu", "", nil, append([]string{c.program("tern")}, c.trainArgs("cpu", "auto")...)...)
}

// compareLosses trains with the processor's data and seed.
func (c *check) compareLosses(ctx context.Context) error {
	if err := c.fresh("bf16", "again", "f32"); err != nil {
		return err
	}
	if _, err := c.tern(ctx, "train-bf16", c.trainArgs("bf16", c.spec("precision=bf16"))...); err != nil {
		return err
	}
	if _, err := c.cpu.wait(); err != nil {
		return errors.Wrap(err, "training on the processor")
	}
	if err := c.distance("bf16", "cpu"); err != nil {
		return err
	}
	if _, err := c.tern(ctx, "train-again", c.trainArgs("again", c.spec("precision=bf16"))...); err != nil {
		return err
	}
	if err := c.sameBits("bf16", "again"); err != nil {
		return err
	}
	if _, err := c.tern(ctx, "train-f32", c.trainArgs("f32", c.spec("precision=f32"))...); err != nil {
		return err
	}
	return c.distance("f32", "cpu")
}

// mostApart is how far the losses of a step may be apart, in nats.
const mostApart = 0.02

// distance compares the losses of two runs at the steps that both have.
func (c *check) distance(run, other string) error {
	a, err := losses(filepath.Join(c.out, run))
	if err != nil {
		return err
	}
	b, err := losses(filepath.Join(c.out, other))
	if err != nil {
		return err
	}
	g := gapOf(a, b)
	if g.steps == 0 {
		return errors.Newf("%s and %s have no step in common", run, other)
	}
	metric := fmt.Sprintf("largest difference of losses, %s to %s, %d steps", run, other, g.steps)
	if c.quick && run != "f32" { // a model this small is far off in bf16
		c.table.told(metric, fmt.Sprintf("%s nats at step %d", short(g.worst), g.at))
	} else {
		c.table.measured(metric, g.worst, nats, atMost(mostApart))
	}
	c.table.told(fmt.Sprintf("their losses where they are farthest apart, step %d, and at step %d", g.at, g.last),
		fmt.Sprintf("%.4f and %.4f; %.4f and %.4f", a[g.at], b[g.at], a[g.last], b[g.last]))
	return nil
}

// gap is how far the losses of two runs are apart.
type gap struct {
	worst float64
	at    int // the first step where they are so far apart
	steps int // in common
	last  int // of them
}

// gapOf compares losses by step. One that is no number is infinitely far.
func gapOf(a, b map[int]float64) (g gap) {
	for _, step := range slices.Sorted(maps.Keys(a)) {
		y, ok := b[step]
		if !ok {
			continue
		}
		d := math.Abs(a[step] - y)
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		if g.at == 0 || d > g.worst {
			g.worst, g.at = d, step
		}
		g.steps, g.last = g.steps+1, step
	}
	return g
}

// losses reads the loss of each step of a run.
func losses(dir string) (map[int]float64, error) {
	f, err := os.Open(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	all := map[int]float64{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e struct {
			Step int
			Loss float64
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return nil, errors.Wrapf(err, "metrics of %s", dir)
		}
		all[e.Step] = e.Loss
	}
	return all, sc.Err()
}

// sameBits compares the tensors of the last checkpoints of two runs.
func (c *check) sameBits(run, other string) error {
	a, err := lastTensors(filepath.Join(c.out, run))
	if err != nil {
		return err
	}
	b, err := lastTensors(filepath.Join(c.out, other))
	if err != nil {
		return err
	}
	c.table.checked("two runs, bits of the last checkpoint", fmt.Sprintf("sha256 %.12s, %.12s", a, b), "the same", a == b)
	return nil
}

// lastTensors is the hash of the tensors of the newest checkpoint.
func lastTensors(run string) (string, error) {
	steps, err := filepath.Glob(filepath.Join(run, "step-*"))
	if err != nil || len(steps) == 0 {
		return "", errors.Newf("%s has no checkpoint", run)
	}
	slices.Sort(steps)
	h, files := sha256.New(), 0
	err = filepath.WalkDir(steps[len(steps)-1], func(path string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".safetensors" {
			return err
		}
		files++
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(h, f)
		return errors.CombineErrors(err, f.Close())
	})
	if err == nil && files == 0 {
		err = errors.Newf("the checkpoint of %s has no tensors", run)
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// resume goes on with the first half of one backend on the other.
func (c *check) resume(ctx context.Context) error {
	if _, err := c.cpu.wait(); err != nil {
		return errors.Wrap(err, "training on the processor")
	}
	for _, w := range []struct{ from, out, backend string }{
		{"bf16", "bf16-then-cpu", "auto"}, {"cpu", "cpu-then-bf16", c.spec("precision=bf16")},
	} {
		steps, err := filepath.Glob(filepath.Join(c.out, w.from, "step-*"))
		if err != nil || len(steps) < 2 {
			return errors.Newf("%s has no checkpoint half way", w.from)
		}
		slices.Sort(steps)
		if err := c.fresh(w.out); err != nil {
			return err
		}
		args := append(c.trainArgs(w.out, w.backend), "--resume", steps[0])
		if _, err := c.tern(ctx, "train-"+w.out, args...); err != nil {
			return err
		}
		if err := c.distance(w.out, w.from); err != nil {
			return err
		}
	}
	return nil
}
