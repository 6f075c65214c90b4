package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
	"github.com/ternlm/tern/framework/quanttest"
	"github.com/ternlm/tern/framework/residualtest"
	"github.com/ternlm/tern/plugins"
)

// Report is what the suite found.
type Report = quanttest.Report

// Case is one line of a Report.
type Case = quanttest.Case

// Options says what is tested.
type Options struct {
	// Dial starts the plugin. It is called several times.
	Dial func(ctx context.Context) (*plugins.Client, error)
	// Options are what the plugin is opened with, such as "group=64"; "" tests
	// its defaults.
	Options string
	// Modes limits the suite to some of Modes(). All when empty.
	Modes []string
	// Skip gives the reason for not running a case, by id ("plugin/describe"),
	// name or mode.
	Skip map[string]string
}

// Modes lists the parts of the suite of a kind, in the order in which they run.
func Modes(kind plugins.Kind) []string {
	if kind == plugins.KindBackend {
		return append([]string{"plugin"}, backendtest.Modes()...)
	}
	return []string{"plugin", string(kind)}
}

// Binary is Options for the plugin at path, which may have any hash.
func Binary(path string) Options {
	return Options{Dial: func(ctx context.Context) (*plugins.Client, error) {
		return plugins.Dial(ctx, plugins.DialOptions{Path: path})
	}}
}

// tester holds what the cases share.
type tester struct {
	o    Options
	c    *plugins.Client
	info plugins.Info
}

// Check runs the suite.
func Check(ctx context.Context, o Options) Report {
	start := time.Now()
	c, err := o.Dial(ctx)
	if err != nil {
		return Report{Cases: []Case{{
			Mode: "plugin", Name: "start", Rule: "the plugin starts, shakes hands and describes itself",
			Err: err, Detail: explain(err), Took: time.Since(start),
			Fix: "main: one call of plugins.ServeQuantizer, ServeResidual or ServeBackend, and nothing written to standard output before it",
		}}}
	}
	defer func() { _ = c.Close() }()
	t := &tester{o: o, c: c, info: c.Info()}
	r := Report{Cases: []Case{{
		Mode: "plugin", Name: "start", Rule: "the plugin starts, shakes hands and describes itself",
		Detail: fmt.Sprintf("%s %s %s, protocol %d", t.info.Kind, t.info.Name, t.info.Version, t.info.Protocol), Took: time.Since(start),
	}}}
	if t.wants("plugin") {
		r.Cases = append(r.Cases, t.common(ctx)...)
	}
	r.Cases = append(r.Cases, t.kind(ctx)...)
	return r
}

// explain is the text of an error with its hints.
func explain(err error) string {
	text := err.Error()
	if h := errors.GetAllHints(err); len(h) > 0 {
		text += "\nhint: " + strings.Join(h, "\nhint: ")
	}
	return text
}

func (t *tester) wants(mode string) bool {
	for _, m := range t.o.Modes {
		if m == mode {
			return true
		}
	}
	return len(t.o.Modes) == 0
}

// kind runs the suite of the plugin's kind.
func (t *tester) kind(ctx context.Context) []Case {
	switch t.info.Kind {
	case plugins.KindQuantizer:
		return t.named(t.quantizer(ctx))
	case plugins.KindResidual:
		return t.named(t.residual(ctx))
	case plugins.KindBackend:
		return t.backend(ctx)
	}
	return nil // the case "describe" says so
}

// named puts cases that have no mode under the kind.
func (t *tester) named(r Report) []Case {
	for i := range r.Cases {
		r.Cases[i].Mode = string(t.info.Kind)
	}
	return r.Cases
}

func (t *tester) quantizer(ctx context.Context) Report {
	if !t.wants(string(plugins.KindQuantizer)) {
		return Report{}
	}
	return quanttest.Check(ctx, quanttest.Options{
		Open: func() (framework.Quantizer, error) { return t.c.Quantizer(t.o.Options) },
		Parse: func(spec string) (framework.Quantizer, error) {
			options, err := t.optionsOf(spec)
			if err != nil {
				return nil, err
			}
			return t.c.Quantizer(options)
		},
		Backend: func() (framework.Backend, error) { return scalar.Open(framework.Options{}) },
		Skip:    t.o.Skip,
	})
}

func (t *tester) residual(ctx context.Context) Report {
	if !t.wants(string(plugins.KindResidual)) {
		return Report{}
	}
	return residualtest.Check(ctx, residualtest.Options{
		Open: func() (framework.Residual, error) { return t.c.Residual(t.o.Options) },
		Parse: func(spec string) (framework.Residual, error) {
			options, err := t.optionsOf(spec)
			if err != nil {
				return nil, err
			}
			return t.c.Residual(options)
		},
		Skip: t.o.Skip,
	})
}

// optionsOf takes the options out of a spec plugin:NAME:options.
func (t *tester) optionsOf(spec string) (string, error) {
	head := "plugin:" + t.info.Name
	if spec == head {
		return "", nil
	}
	options, ok := strings.CutPrefix(spec, head+":")
	if !ok {
		return "", errors.Newf("spec %q does not begin with %s", spec, head)
	}
	return options, nil
}

func (t *tester) backend(ctx context.Context) []Case {
	var modes []string
	for _, m := range backendtest.Modes() {
		if t.wants(m) {
			modes = append(modes, m)
		}
	}
	if len(modes) == 0 {
		return nil
	}
	o := backendtest.Options{
		Open: func() (framework.Backend, error) { return t.c.Backend(t.o.Options) }, Modes: modes, Skip: t.o.Skip,
		Reference:   func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
		Reference64: func() framework.Backend { return scalar.Open64(0) },
	}
	if t.hasOption("threads") && !strings.Contains(t.o.Options, "threads=") {
		o.OpenThreads = func(n int) (framework.Backend, error) {
			return t.c.Backend(join(t.o.Options, fmt.Sprint("threads=", n)))
		}
	}
	return backendtest.Check(ctx, o).Cases
}

func (t *tester) hasOption(name string) bool {
	for _, o := range t.info.Options {
		if o.Name == name {
			return true
		}
	}
	return false
}

// join adds an option to others.
func join(options, more string) string {
	if options == "" {
		return more
	}
	return options + "," + more
}
