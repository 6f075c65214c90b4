package kubernetes

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"go.yaml.in/yaml/v3"

	"github.com/ternlm/tern/sweep"
)

var update = flag.Bool("update", false, "write the golden files")

// plan is a plan of n trials.
func plan(name string, n int) sweep.Plan {
	p := sweep.Plan{Name: name}
	for i := range n {
		p.Trials = append(p.Trials, sweep.Trial{ID: fmt.Sprintf("%016x", i), Memory: 100 << 20})
	}
	return p
}

var options = Options{
	Image: "registry.example/tern:1.0", Program: "tern", Claim: "sweeps", Mount: "/sweeps", Dir: "/sweeps/first", CPUs: 2,
	PerTask: 3, Running: 4, Retries: 1, Flags: []string{"--plugin", "$(x) 'y'"},
}

func TestManifest(t *testing.T) {
	text, err := Manifest(plan("Residuals & quantizers", 12), options)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "job.golden.yaml")
	if *update {
		if err := os.WriteFile(file, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(text) != string(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, text, want)
	}
}

// value is what stands at a path of keys and indexes.
func value(t *testing.T, doc any, path string) any {
	t.Helper()
	for key := range strings.SplitSeq(path, ".") {
		switch v := doc.(type) {
		case map[string]any:
			doc = v[key]
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(v) {
				return nil
			}
			doc = v[i]
		default:
			return nil
		}
	}
	return doc
}

// The rules of the reference of batch/v1 Job and of the documentation of pod
// failure policies, on the text as a program reads it that knows nothing of the
// types here.
func TestManifestKeepsTheRulesOfTheAPI(t *testing.T) {
	for _, c := range []struct {
		name string
		plan sweep.Plan
		o    func(*Options)
	}{
		{"as it is", plan("test", 12), func(*Options) {}},
		{"one trial", plan("test", 1), func(*Options) {}},
		{"most trials", plan("test", 10000), func(o *Options) { o.PerTask, o.Running = 1, 0 }},
		{"chosen", plan("test", 40), func(o *Options) { o.PerTask = 0 }},
		{"a long name", plan(strings.Repeat("Großer Versuch ", 6), 10000), func(o *Options) { o.PerTask = 1 }},
		{"a name of signs", plan("***", 3), func(*Options) {}},
		{"no memory", plan("test", 3), func(o *Options) { o.Memory = "none" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options
			c.o(&o)
			text, err := Manifest(c.plan, o)
			if err != nil {
				t.Fatal(err)
			}
			var doc any
			if err := yaml.Unmarshal(text, &doc); err != nil {
				t.Fatal(err)
			}
			checkJob(t, doc)
			checkPolicy(t, doc)
		})
	}
}

// dns1123 is a label of RFC 1123.
var dns1123 = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func checkJob(t *testing.T, doc any) {
	t.Helper()
	for path, want := range map[string]any{
		"apiVersion": "batch/v1", "kind": "Job", "spec.completionMode": "Indexed", "spec.podReplacementPolicy": "Failed",
		"spec.template.spec.restartPolicy": "Never", // backoffLimitPerIndex and podFailurePolicy take it
	} {
		if have := value(t, doc, path); have != want {
			t.Errorf("%s: %v, want %v", path, have, want)
		}
	}
	completions, _ := value(t, doc, "spec.completions").(int)
	parallelism, _ := value(t, doc, "spec.parallelism").(int)
	if completions < 1 || parallelism < 1 || parallelism > completions || completions > 100000 {
		t.Errorf("%d completions, %d at once", completions, parallelism)
	}
	host := fmt.Sprintf("%v-%d", value(t, doc, "metadata.name"), completions-1)
	if !dns1123.MatchString(host) {
		t.Errorf("the last pod's host %q is no label", host)
	}
	if grace, _ := value(t, doc, "spec.template.spec.terminationGracePeriodSeconds").(int); grace < 30 {
		t.Errorf("%d s to save", grace)
	}
	if v, m := value(t, doc, "spec.template.spec.volumes.0.name"), value(t, doc, "spec.template.spec.containers.0.volumeMounts.0.name"); v == nil || v != m {
		t.Errorf("volume %v is mounted as %v", v, m)
	}
}

func checkPolicy(t *testing.T, doc any) {
	t.Helper()
	rules, _ := value(t, doc, "spec.podFailurePolicy.rules").([]any)
	actions := map[int]string{}
	for i, r := range rules {
		codes, onCodes := value(t, r, "onExitCodes.values").([]any)
		_, onConditions := value(t, r, "onPodConditions").([]any)
		if onCodes == onConditions {
			t.Errorf("rule %d has not one of codes and conditions", i)
		}
		if onCodes && value(t, r, "onExitCodes.containerName") != value(t, doc, "spec.template.spec.containers.0.name") {
			t.Errorf("rule %d is of another container", i)
		}
		var list []int
		for _, c := range codes {
			list = append(list, c.(int))
			actions[c.(int)], _ = value(t, r, "action").(string)
		}
		if !slices.IsSorted(list) || slices.Contains(list, 0) { // validation refuses both
			t.Errorf("rule %d: codes %v", i, list)
		}
	}
	want := map[int]string{1: "Count", 2: "FailIndex", 75: "Ignore", 130: "Ignore"}
	if fmt.Sprint(actions) != fmt.Sprint(want) {
		t.Errorf("actions %v, want %v", actions, want)
	}
	if first := rules[0]; value(t, first, "action") != "Ignore" || value(t, first, "onPodConditions.0.type") != "DisruptionTarget" {
		t.Errorf("the first rule is %v: a pod that is evicted may end with any code", first)
	}
}

func TestOptionsThatMakeNoJob(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no image":              func(o *Options) { o.Image = "" },
		"an image with a space": func(o *Options) { o.Image = "a b" },
		"no claim":              func(o *Options) { o.Claim = "" },
		"a claim in capitals":   func(o *Options) { o.Claim = "Sweeps" },
		"a relative mount":      func(o *Options) { o.Mount = "sweeps" },
		"a mount with a colon":  func(o *Options) { o.Mount = "/a:b" },
		"a directory with dots": func(o *Options) { o.Dir = "/sweeps/../etc" },
		"memory in words":       func(o *Options) { o.Memory = "much" },
		"fewer than no retries": func(o *Options) { o.Retries = -1 },
		"less than no grace":    func(o *Options) { o.Grace = -time.Second },
	} {
		o := options
		change(&o)
		if text, err := Manifest(plan("test", 3), o); !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

func TestNamesTellPlansApart(t *testing.T) {
	a, b := Name(plan("a b", 3), 3), Name(plan("a_b", 4), 4)
	if a == b || !strings.HasPrefix(a, "tern-a-b-") {
		t.Errorf("%s and %s", a, b)
	}
	if again := Name(plan("a b", 3), 3); again != a {
		t.Errorf("%s, then %s", a, again)
	}
}

// A dollar sign is the beginning of a variable for Kubernetes, and two are one.
func TestDollarSignsStayWhatTheyAre(t *testing.T) {
	o := options
	o.Dir = "/sweeps/$(HOSTNAME) $$"
	text, err := Manifest(plan("test", 3), o)
	if err != nil || !strings.Contains(string(text), "/sweeps/$$(HOSTNAME) $$$$") {
		t.Errorf("%v\n%s", err, text)
	}
}
