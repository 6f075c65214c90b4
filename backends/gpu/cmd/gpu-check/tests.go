package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// suite is some of the tests of a package, with a row and a limit of time of its
// own.
type suite struct {
	pkg, what string // of which package; what of it, "" is all
	run, skip string // patterns of names
	quick     string // the pattern of a quick check, "" is run; what takes longer than seconds on a fake is left out
	most      time.Duration
}

// none is a pattern that no test has: a quick check leaves such tests out.
const none = "^$"

// suites are those of the backend's own package, which has the long ones. Of every
// other package in the directory of tests everything is run.
var suites = []suite{
	{pkg: "cuda", what: "training with kernels of its own chains", run: "^TestTraining", quick: none, most: 60 * time.Second},
	{pkg: "cuda", what: "conformance f32, training and gradients", run: "^TestConformance$/^train$", quick: none, most: 30 * time.Second},
	{pkg: "cuda", what: "conformance f32, rows, special values, stores, errors, layouts", run: "^TestConformance$/^(rows|special|store|errors|prepared)$", most: 40 * time.Second},
	{pkg: "cuda", what: "conformance f32, every op", run: "^TestConformance$/^ops$", quick: "^TestConformance$/^ops$/^softmax$", most: 120 * time.Second},
	{pkg: "cuda", what: "conformance f32, random graphs", run: "^TestConformance$/^random$", quick: none, most: 60 * time.Second},
	{pkg: "cuda", what: "others", run: ".", skip: "^(TestTraining|TestConformance|TestEveryNodeIsTimed|TestNVRTC|TestTheEmbeddedPTX)", most: 30 * time.Second},
}

// quickTests are the tests of a quick check, for packages whose others take long on
// a fake device.
var quickTests = map[string]string{
	"attention": "^TestRope|^TestSoftmax",
	"fuse":      "^TestNarrowValues",
	"joined":    "^TestCaches|^TestDecodingHas",
	"linear":    "^TestMatricesMultiply|^TestCodesAre",
	"quantized": "^TestRowsAreShared",
	"rows":      "^TestIndices|^TestARowOfInfinitely",
}

// testsAtOnce is how many processes of tests use the device side by side. Most of
// their time is the processor's.
const testsAtOnce = 4

// runTests runs the packages' tests on the device: each in a directory of tests
// with its testdata.
func (c *check) runTests(ctx context.Context) error {
	all, err := c.suites()
	if err != nil {
		return err
	}
	jobs := make([]*job, len(all))
	slots := make(chan struct{}, testsAtOnce)
	started := make(chan int, len(all))
	go func() {
		for i, s := range all {
			slots <- struct{}{}
			jobs[i] = c.startSuite(ctx, s)
			go func() { <-jobs[i].done; <-slots }()
			started <- i
		}
		close(started)
	}()
	for i := range started {
		c.suiteRow(all[i], jobs[i])
	}
	return nil
}

// suites lists what is run: those of the list, and all of the other packages that
// there are.
func (c *check) suites() ([]suite, error) {
	paths, err := filepath.Glob(filepath.Join(c.bin, "tests", "*", "*.test"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.Newf("there are no tests in %s", filepath.Join(c.bin, "tests"))
	}
	var all []suite
	for _, path := range paths {
		pkg := filepath.Base(filepath.Dir(path))
		listed := slices.Collect(func(yield func(suite) bool) {
			for _, s := range suites {
				if s.pkg == pkg && !yield(s) {
					return
				}
			}
		})
		if listed == nil {
			listed = []suite{{pkg: pkg, run: ".", skip: "NVRTC", quick: quickTests[pkg], most: 60 * time.Second}}
		}
		all = append(all, listed...)
	}
	return slices.DeleteFunc(all, func(s suite) bool { return c.quick && s.quick == none }), nil
}

// startSuite starts some tests. They end by themselves when their time is over,
// and say which of them ran.
func (c *check) startSuite(ctx context.Context, s suite) *job {
	dir := filepath.Join(c.bin, "tests", s.pkg)
	pattern := s.run
	if c.quick && s.quick != "" {
		pattern = s.quick
	}
	argv := []string{filepath.Join(dir, s.pkg+".test"), "-test.v", "-test.run=" + pattern, "-test.timeout=" + time.Duration(c.scale*float64(s.most)).String()}
	if s.skip != "" {
		argv = append(argv, "-test.skip="+s.skip)
	}
	if c.quick {
		argv = append(argv, "-test.short")
	}
	name := strings.Trim("test-"+s.pkg+"-"+strings.Map(fileName, s.what), "-")
	return c.start(ctx, name, dir, c.testEnv(), argv...)
}

// testEnv has tests use this machine's device.
func (c *check) testEnv() []string {
	return []string{"TERN_CUDA=real", "TERN_CUDA_LIBRARIES=" + c.libraries}
}

// fileName keeps letters.
func fileName(r rune) rune {
	if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
		return r
	}
	return '-'
}

// suiteRow waits for tests and tells what came of them.
func (c *check) suiteRow(s suite, j *job) {
	out, err := j.wait()
	n := countTests(out)
	text := fmt.Sprintf("%d passed, %d failed, %d skipped", n.passed, len(n.failed), n.skipped)
	switch {
	case len(n.failed) > 0:
		text += ": " + strings.Join(n.failed[:min(3, len(n.failed))], ", ")
	case err != nil && n.running != "":
		text += "; ended in " + n.running + ", after " + s.most.String() + " at most"
	case err != nil:
		text += "; " + err.Error()
	}
	metric := "tests of " + s.pkg
	if s.what != "" {
		metric += ": " + s.what
	}
	c.table.checked(metric, text, "all", err == nil && n.passed+n.skipped > 0)
}

// counted is what -test.v says: of the innermost tests, those that hold no others.
type counted struct {
	passed, skipped int
	failed          []string
	running         string // the one that began last and has not ended
}

func countTests(out []byte) (n counted) {
	var ran []string
	ended := map[string]string{}
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		switch {
		case len(f) >= 3 && f[0] == "===" && f[1] == "RUN":
			ran = append(ran, f[2])
		case len(f) >= 3 && f[0] == "---":
			ended[f[2]] = strings.TrimSuffix(f[1], ":")
		}
	}
	for i, name := range ran {
		if i+1 < len(ran) && strings.HasPrefix(ran[i+1], name+"/") {
			continue
		}
		switch ended[name] {
		case "PASS":
			n.passed++
		case "SKIP":
			n.skipped++
		case "FAIL":
			n.failed = append(n.failed, name)
		default:
			n.running = name
		}
	}
	return n
}

// profile times the nodes of a training step and of decoding, by the test that does
// so, and puts its tables under the check's.
func (c *check) profile(ctx context.Context) error {
	dir, name := filepath.Join(c.bin, "tests", "cuda"), filepath.Join(c.out, "profile")
	if err := c.fresh("profile.md", "profile.json"); err != nil {
		return err
	}
	argv := []string{filepath.Join(dir, "cuda.test"), "-test.v", "-test.run=^TestEveryNodeIsTimed$"}
	if c.quick {
		argv = append(argv, "-test.short")
	}
	_, failed := c.start(ctx, "profile", dir, append(c.testEnv(), "TERN_CUDA_PROFILE="+name), argv...).wait()
	text, err := os.ReadFile(name + ".md")
	if err != nil {
		return errors.CombineErrors(failed, err)
	}
	c.table.Profile = string(text)
	c.table.checked("every node is timed", "profile.md, profile.json", "", failed == nil)
	return nil
}
