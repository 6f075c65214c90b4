package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// check is one run of everything.
type check struct {
	bin, out         string
	libraries, cache string
	options          string // more of the backend's
	device           int
	quick            bool
	scale            float64 // of limits of time
	started          time.Time

	table table
	// Trainings on the processor run beside the first parts.
	cpu, cpuMuon *job
}

// part is what fails alone.
type part struct {
	name string
	run  func(c *check, ctx context.Context) error
	most time.Duration
}

// parts in the order in which they run, the most important first: what has not
// begun when the time of the whole is over is not run. What is measured comes after
// the trainings on the processor have ended.
func parts() []part {
	return []part{
		{"libraries", (*check).checkLibraries, 30 * time.Second},
		{"loss", (*check).compareLosses, 150 * time.Second}, // kernels are compiled in it
		{"resume", (*check).resume, 45 * time.Second},
		{"train", (*check).benchTrain, 130 * time.Second},
		{"decode", (*check).benchDecode, 60 * time.Second},
		{"text", (*check).writeText, 20 * time.Second},
		{"profile", (*check).profile, 60 * time.Second},
		{"conformance", (*check).conformance, 30 * time.Second},
		{"tests", (*check).runTests, 180 * time.Second},
	}
}

func partNames() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// run runs the parts and writes the table. It reports whether nothing failed.
func (c *check) run(ctx context.Context, only string) (ok bool, err error) {
	if c.bin, err = filepath.Abs(c.bin); err != nil {
		return false, err
	}
	if c.out, err = filepath.Abs(c.out); err != nil {
		return false, err
	}
	chosen := partNames()
	if only != "" {
		chosen = strings.Split(only, ",")
	}
	for _, name := range chosen {
		if !slices.Contains(partNames(), name) {
			return false, errors.Newf("-only %s: there is no such part; there are %s", name, strings.Join(partNames(), ", "))
		}
	}
	if err := os.MkdirAll(filepath.Join(c.out, "logs"), 0o755); err != nil {
		return false, err
	}
	c.table.Started, c.table.Quick = c.started.UTC(), c.quick
	if slices.Contains(chosen, "loss") || slices.Contains(chosen, "resume") {
		c.startReference(ctx)
	}
	for _, p := range parts() {
		if slices.Contains(chosen, p.name) {
			c.runPart(ctx, p)
		}
	}
	c.cpu.stop()
	c.cpuMuon.stop()
	c.table.Seconds = time.Since(c.started).Seconds()
	return c.table.ok(), c.table.write(c.out, os.Stdout)
}

// runPart runs one part; its error is a row.
func (c *check) runPart(whole context.Context, p part) {
	begin := time.Now()
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(c.started).Seconds(), p.name)
	if whole.Err() != nil {
		c.table.fail(p.name, "not run: the time of the whole is over")
		return
	}
	ctx, cancel := context.WithTimeout(whole, time.Duration(c.scale*float64(p.most)))
	defer cancel()
	if err := p.run(c, ctx); err != nil {
		switch {
		case whole.Err() != nil:
			err = errors.Wrap(err, "the time of the whole is over")
		case ctx.Err() != nil:
			err = errors.Wrapf(err, "over its limit of %v", p.most)
		}
		c.table.fail(p.name, err.Error())
	}
	c.table.Parts = append(c.table.Parts, took{p.name, time.Since(begin).Seconds()})
}

// spec is the backend's, with more options. Those of the user win.
func (c *check) spec(options ...string) string {
	all := append([]string{fmt.Sprintf("device=%d", c.device)}, options...)
	if c.libraries != "" {
		all = append(all, "libraries="+c.libraries)
	}
	if c.cache != "" {
		all = append(all, "cache="+c.cache)
	}
	for o := range strings.SplitSeq(c.options, ",") {
		key, _, ok := strings.Cut(o, "=")
		if !ok {
			continue
		}
		all = slices.DeleteFunc(all, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		all = append(all, o)
	}
	return "gpu:" + strings.Join(all, ",")
}

// program is a program in the directory.
func (c *check) program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(c.bin, name)
}

// job is a program that runs.
type job struct {
	name   string
	out    bytes.Buffer
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start starts a program in dir ("" is the results') with its output in
// logs/NAME.log.
func (c *check) start(ctx context.Context, name, dir string, env []string, argv ...string) *job {
	return c.startAfter(ctx, nil, name, dir, env, argv...)
}

// startAfter starts a program when another one has ended.
func (c *check) startAfter(ctx context.Context, before *job, name, dir string, env []string, argv ...string) *job {
	j := &job{name: name, done: make(chan struct{})}
	if dir == "" {
		dir = c.out
	}
	if c.quick { // what is compiled for a fake device is for no other
		env = append(env, "XDG_CACHE_HOME="+filepath.Join(c.out, "cache"))
	}
	ctx, j.cancel = context.WithCancel(ctx)
	go func() {
		defer close(j.done)
		defer j.cancel()
		if before != nil {
			<-before.done
		}
		j.err = j.run(ctx, filepath.Join(c.out, "logs", name+".log"), dir, env, argv)
	}()
	return j
}

// run runs the program to its end.
func (j *job) run(ctx context.Context, path, dir string, env, argv []string) error {
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "%s\n\n", strings.Join(argv, " "))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &both{&j.out, log}, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	_ = log.Close()
	if err != nil {
		return errors.Wrapf(err, "%s: %s", j.name, lastWords(path))
	}
	return nil
}

// wait returns what the program wrote to its standard output.
func (j *job) wait() ([]byte, error) {
	<-j.done
	return j.out.Bytes(), j.err
}

// stop ends a program that is not waited for.
func (j *job) stop() {
	if j != nil {
		j.cancel()
		<-j.done
	}
}

// exec runs a program to its end.
func (c *check) exec(ctx context.Context, name string, argv ...string) ([]byte, error) {
	return c.start(ctx, name, "", nil, argv...).wait()
}

// tern runs tern.
func (c *check) tern(ctx context.Context, name string, args ...string) ([]byte, error) {
	return c.exec(ctx, name, append([]string{c.program("tern")}, args...)...)
}

// both writes to two places, the second of which may fail.
type both struct {
	a *bytes.Buffer
	b *os.File
}

func (w *both) Write(p []byte) (int, error) {
	_, _ = w.b.Write(p)
	return w.a.Write(p)
}

// lastWords is the last line of a log that says something, an error before all.
func lastWords(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	last := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "error: "); ok {
			return rest
		}
		if line != "" {
			last = line
		}
	}
	return last
}
