package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/quant"
	"github.com/ternlm/tern/residual"
)

// flawed is ternary in groups of 32, with a flaw that the name of the plugin says.
type flawed struct {
	quant.Ternary
	flaw string
}

func (f flawed) Spec() string { return fmt.Sprintf("flawed:group=%d", f.Group) }

func (f flawed) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	codes, scales = f.Ternary.Pack(b, w)
	switch f.flaw {
	case "clock":
		scales = b.Scale(scales, 1+float64(time.Now().UnixNano()%1000)/1e6)
	case "scale":
		scales = b.Add(scales, b.Like(scales, 0x1p-10))
	}
	return codes, scales
}

// serveFlawed is the main of such a plugin.
func serveFlawed(flaw string) {
	m := plugins.Meta{
		Name: flaw, Version: "1.0.0", Help: "Ternary, with a flaw.",
		Options: []plugins.Option{{Name: "group", Type: "int", Default: "32", Help: "weights a scale"}},
	}
	switch flaw {
	case "default":
		m.Options[0].Default = "64"
	case "help":
		m.Help = ""
	case "option":
		m.Options[0].Default = "all"
	case "version":
		m.Version = "new"
	}
	plugins.ServeQuantizer(plugins.Quantizer{Meta: m, Open: func(o framework.Options) (framework.Quantizer, error) {
		group, err := o.Int("group", 32)
		switch flaw {
		case "anything":
			o.String("no-such-option", "")
		case "value":
			err = nil
		case "sentinel":
			if err != nil {
				err = fmt.Errorf("no number")
			}
		}
		return flawed{quant.Ternary{Group: max(group, 1)}, flaw}, err
	}})
}

// TestMain is also the main of the plugins: the program's name says which.
func TestMain(m *testing.M) {
	switch name, isPlugin := strings.CutPrefix(filepath.Base(os.Args[0]), "tern-plugin-"); {
	case !isPlugin:
		os.Exit(m.Run())
	case name == "exits":
		fmt.Fprintln(os.Stderr, "no device")
	case name == "residual":
		plugins.ServeResidual(plugins.Residual{
			Meta: plugins.Meta{Name: "residual", Version: "1.0.0", Help: "The standard one."},
			Open: func(framework.Options) (framework.Residual, error) { return residual.Standard{}, nil },
		})
	case name == "backend":
		plugins.ServeBackend(plugins.Backend{
			Meta: plugins.Meta{Name: "backend", Version: "1.0.0", Help: "The reference.", Options: []plugins.Option{{Name: "threads", Type: "int", Default: "0", Help: "workers"}}},
			Open: scalar.Open,
		})
	default:
		serveFlawed(name)
	}
}

// check runs the suite on one of the plugins of TestMain.
func check(t *testing.T, name, options string, modes ...string) Report {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tern-plugin-"+name)
	if err := os.Symlink(self, path); err != nil {
		t.Skip(err)
	}
	o := Binary(path)
	o.Options, o.Modes = options, modes
	return Check(context.Background(), o)
}

func failures(r Report) string {
	var ids []string
	for _, c := range r.Failed() {
		ids = append(ids, c.ID())
	}
	return strings.Join(ids, ", ")
}

func TestFlawsAreFoundByTheirRule(t *testing.T) {
	for flaw, c := range map[string]struct {
		want string
		more bool // other rules may see it too
	}{
		"none":     {"", false},
		"default":  {"plugin/defaults", false},
		"help":     {"plugin/describe", false},
		"option":   {"plugin/describe, plugin/defaults", false},
		"version":  {"plugin/start", false},
		"exits":    {"plugin/start", false},
		"anything": {"plugin/unknown option", false},
		"value":    {"plugin/bad value", false},
		"sentinel": {"plugin/bad value", false},
		"clock":    {"plugin/restart", true},
		"scale":    {"quantizer/powers of two", true},
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			r := check(t, flaw, "")
			if got := failures(r); got != c.want && !(c.more && strings.Contains(got, c.want)) {
				t.Errorf("fails %q, want %q", got, c.want)
			}
			for _, c := range r.Failed() {
				if c.Rule == "" || c.Fix == "" || c.Detail == "" {
					t.Errorf("%s does not say what to do: %+v", c.ID(), c)
				}
			}
		})
	}
}

func TestStartFailureShowsWhatThePluginWrote(t *testing.T) {
	r := check(t, "exits", "")
	if len(r.Cases) != 1 || !strings.Contains(r.Cases[0].Detail, "no device") {
		t.Errorf("%+v", r.Cases)
	}
}

func TestResidualsAndBackendsPass(t *testing.T) {
	for name, modes := range map[string][]string{"residual": nil, "backend": {"plugin", "store", "errors"}} {
		if r := check(t, name, "", modes...); !r.OK() || len(r.Cases) < 10 {
			t.Errorf("%s: %d cases, %s", name, len(r.Cases), failures(r))
		}
	}
}

func TestModesAndOptionsAreObeyed(t *testing.T) {
	r := check(t, "none", "group=16", "quantizer")
	if !r.OK() {
		t.Error(failures(r))
	}
	for _, c := range r.Cases[1:] {
		if c.Mode != "quantizer" {
			t.Errorf("%s ran", c.ID())
		}
		if c.Name == "spec" && !strings.Contains(c.Detail, "group=16") {
			t.Errorf("opened as %s", c.Detail)
		}
	}
}

func TestSkippedCasesSayWhy(t *testing.T) {
	o := Options{Skip: map[string]string{"plugin/describe": "not now", "plugin": ""}}
	tester := &tester{o: o}
	for _, c := range tester.common(context.Background()) {
		want := "skipped by plugin"
		if c.Name == "describe" {
			want = "not now"
		}
		if c.Skipped != want {
			t.Errorf("%s: %q", c.ID(), c.Skipped)
		}
	}
}
