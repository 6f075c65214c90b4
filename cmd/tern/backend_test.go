package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

func TestABackendThatCannotRunIsListedWithAShortReason(t *testing.T) {
	err := errors.Wrapf(errors.Wrap(framework.ErrUnsupported, "this program was built without assembly"), "backend %q", "fast")
	var out bytes.Buffer
	a := &app{stdout: &out}
	if err := a.printBackends([]backendInfo{{Info: framework.Info{Name: "fast"}, Error: err.Error()}}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if got := strings.Join(strings.Fields(lines[1]), " "); got != "fast this program was built without assembly" {
		t.Errorf("listed as %q", got)
	}
}

func TestThreadsMayBeGivenInEitherPlace(t *testing.T) {
	for name, c := range map[string]struct {
		spec    string
		threads int
		given   bool
		want    string // "" is an error
		n       int
	}{
		"nowhere":             {"avx2", 0, false, "avx2", 0},
		"by the flag":         {"avx2:ternary=pshufb", 1, true, "avx2:ternary=pshufb", 1},
		"in the spec":         {"avx2:threads=1", 0, false, "avx2", 1},
		"before others":       {"auto:threads=1,ternary=pshufb", 0, false, "auto:ternary=pshufb", 1},
		"after others":        {"avx2:ternary=pshufb,threads=0", 0, false, "avx2:ternary=pshufb", 0},
		"twice":               {"avx2:threads=1", 1, true, "", 0},
		"twice, one for each": {"avx2:threads=1", 0, true, "", 0},
		"negative":            {"avx2:threads=-1", 0, false, "", 0},
		"of a plugin":         {"plugin:mine", 1, true, "plugin:mine", 1},
		"in a plugin's spec":  {"plugin:mine:a=b,threads=1", 0, false, "plugin:mine:a=b", 1},
		"of a device":         {"gpu:device=1", 1, true, "gpu:device=1", 0},
		"in a device's spec":  {"gpu:threads=1", 0, false, "gpu:threads=1", 0}, // opening it says that there is no such option
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{stderr: &lockedWriter{Writer: &bytes.Buffer{}}}
			spec, n, err := a.chooseThreads(c.spec, c.threads, c.given)
			if spec != c.want || n != c.n || (err == nil) != (c.want != "") {
				t.Errorf("%q on %d, error %v, want %q on %d", spec, n, err, c.want, c.n)
			}
			if err != nil && !errors.Is(err, errUsage) {
				t.Errorf("error %v is no usage error", err)
			}
		})
	}
}

func TestThreadsArePassedToPlugins(t *testing.T) {
	for spec, want := range map[string]string{
		"avx2": "avx2:threads=2", "avx2:a=b": "avx2:a=b,threads=2",
		"plugin:mine": "plugin:mine:threads=2", "plugin:mine:a=b": "plugin:mine:a=b,threads=2",
	} {
		if got := withThreads(spec, 2); got != want {
			t.Errorf("%s: %s", spec, got)
		}
	}
}

func TestPrecisionBecomesAnOptionOfTheDevice(t *testing.T) {
	for name, c := range map[string]struct {
		spec, precision string
		want            string // "" is an error
	}{
		"not given":         {"gpu", "", "gpu"},
		"given":             {"gpu", "f32", "gpu:precision=f32"},
		"of the short form": {"gpu:1", "bf16", "gpu:device=1,precision=bf16"},
		"beside others":     {"gpu:device=1,cache=/tmp", "bf16", "gpu:device=1,cache=/tmp,precision=bf16"},
		"twice":             {"gpu:precision=f32", "f32", ""},
		"none such":         {"gpu", "f16", ""},
		"of the processor":  {"avx2", "f32", ""},
		"of auto":           {"auto", "bf16", ""},
		"with threads":      {"avx2:threads=1", "f32", ""},
		"of a plugin":       {"plugin:mine:a=b", "f32", "plugin:mine:a=b,precision=f32"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{stderr: &lockedWriter{Writer: &bytes.Buffer{}}}
			spec, _, err := a.chooseBackend(c.spec, c.precision, 0, false)
			if spec != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, error %v, want %q", spec, err, c.want)
			}
			if err != nil && (!errors.Is(err, errUsage) || !strings.Contains(err.Error(), "precision")) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestThreadsThatMeanNothingAreTold(t *testing.T) {
	var out bytes.Buffer
	a := &app{stderr: &lockedWriter{Writer: &out}}
	if _, n, err := a.chooseBackend("gpu:0", "", 1, true); n != 0 || err != nil {
		t.Errorf("%d threads, error %v", n, err)
	}
	if !strings.Contains(out.String(), "--threads 1 means nothing to gpu") {
		t.Errorf("it says %q", out.String())
	}
}
