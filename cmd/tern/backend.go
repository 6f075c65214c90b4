package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/backends/gpu"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/plugins"
)

// openBackend opens a backend by spec; "auto" is the fastest of this machine's
// processor, with the same options, and never a device: its bits differ, and
// others may be using it. threads above 0 is passed on as the option of that name,
// which spec must not have then.
func openBackend(spec string, threads int) (framework.Backend, error) {
	if threads < 0 {
		return nil, usagef("0 is one for each processor", "--threads %d", threads)
	}
	spec = withThreads(gpu.Spec(spec), threads)
	name, options, some := strings.Cut(spec, ":")
	if name != "auto" {
		be, err := framework.Backends.Open(spec)
		if err == nil {
			hosts.Load().brought(be)
		}
		return be, err
	}
	if some {
		options = ":" + options
	}
	if slices.Contains(framework.Backends.Names(), "avx2") {
		be, err := framework.Backends.Open("avx2" + options)
		if err == nil || !errors.Is(err, framework.ErrUnsupported) {
			return be, err
		}
	}
	return framework.Backends.Open("scalar" + options)
}

// precisions are the values of --precision.
var precisions = []string{"bf16", "f32"}

// takes reports whether the backend of a spec has an option, as far as that is
// known before it is opened.
func takes(spec, option string) bool {
	name, rest, _ := strings.Cut(spec, ":")
	switch name {
	case gpu.Name:
		return slices.Contains(gpu.Options(), option)
	case pluginScheme:
		h := hosts.Load()
		if h == nil {
			return true
		}
		name, _, _ = strings.Cut(rest, ":")
		p, err := h.dial(name)
		return err != nil || // opening it says why
			slices.ContainsFunc(p.Info().Options, func(o plugins.Option) bool { return o.Name == option })
	}
	return option == "threads"
}

// options parses the options of a spec, and returns its name, with the scheme.
func options(spec string) (name string, o framework.Options, err error) {
	rest, plugin := strings.CutPrefix(spec, pluginScheme+":")
	if name, o, err = framework.ParseSpec(rest); err != nil {
		return "", o, errors.Wrap(err, "backend")
	}
	if plugin {
		name = pluginScheme + ":" + name
	}
	return name, o, nil
}

// withPrecision adds what --precision says to a spec, where the backend has that
// option.
func withPrecision(spec, precision string) (string, error) {
	if precision == "" {
		return spec, nil
	}
	if !slices.Contains(precisions, precision) {
		return "", usagef(framework.Suggest(precision, precisions), "--precision %s", precision)
	}
	name, o, err := options(spec)
	switch {
	case err != nil:
		return "", err
	case !takes(spec, "precision"):
		return "", usagef("it is for --backend gpu; leave it out", "--precision %s: backend %s has no precision to choose", precision, name)
	case o.String("precision", "") != "":
		return "", usagef("leave one of them out", "--precision %s beside --backend %s: the precision is given twice", precision, spec)
	}
	return withOption(spec, "precision="+precision), nil
}

// chooseBackend brings the ways of naming a backend together. It returns the spec
// with all its options but the threads, and those.
func (a *app) chooseBackend(spec, precision string, threads int, given bool) (string, int, error) {
	spec, err := withPrecision(gpu.Spec(spec), precision)
	if err != nil {
		return "", 0, err
	}
	return a.chooseThreads(spec, threads, given)
}

// chooseThreads brings the two ways of naming threads together: --backend with
// the option threads, and --threads, which is given or not. It returns the spec
// without that option, and the number, lowered to what the machine runs at once,
// or 0 for a backend that has no threads.
func (a *app) chooseThreads(spec string, threads int, given bool) (string, int, error) {
	name, o, err := options(spec)
	if err != nil {
		return "", 0, err
	}
	inSpec := o.String("threads", "") != ""
	switch {
	case !inSpec && threads <= 0:
		return spec, threads, nil
	case !takes(spec, "threads"): // opening it refuses the option
		if !inSpec {
			a.note("note: --threads %d means nothing to %s, which has no threads to choose", threads, name)
		}
		return spec, 0, nil
	case !inSpec:
		return spec, a.clampThreads("--threads ", threads), nil
	case given:
		return "", 0, usagef("leave one of them out", "--threads %d beside --backend %s: the threads are given twice", threads, spec)
	}
	if threads, err = o.Int("threads", 0); err != nil {
		return "", 0, errors.Wrapf(err, "backend %q", spec)
	}
	if threads < 0 {
		return "", 0, usagef("0 is one for each processor", "--backend %s", spec)
	}
	return withoutThreads(spec, name), a.clampThreads("threads=", threads), nil
}

// withoutThreads is the spec of the named backend without its threads.
func withoutThreads(spec, name string) string {
	var others []string
	for f := range strings.SplitSeq(spec[len(name)+1:], ",") {
		if !strings.HasPrefix(f, "threads=") {
			others = append(others, f)
		}
	}
	if len(others) > 0 {
		name += ":" + strings.Join(others, ",")
	}
	return name
}

// openChosen opens a backend as chooseBackend understands the flags.
func (a *app) openChosen(spec, precision string, threads int, given bool) (framework.Backend, error) {
	spec, threads, err := a.chooseBackend(spec, precision, threads, given)
	if err != nil {
		return nil, err
	}
	return openBackend(spec, threads)
}

func withThreads(spec string, threads int) string {
	if threads == 0 {
		return spec
	}
	return withOption(spec, fmt.Sprintf("threads=%d", threads))
}

// withOption adds an option to a spec.
func withOption(spec, option string) string {
	sep := ":"
	if strings.Contains(strings.TrimPrefix(spec, pluginScheme+":"), ":") {
		sep = ","
	}
	return spec + sep + option
}

// describe returns what a backend says of itself.
func describe(be framework.Backend) framework.Info {
	if d, ok := be.(framework.Describer); ok {
		return d.Describe()
	}
	return framework.Info{Name: be.Name()}
}

// backendFlags are the flags that choose a backend.
type backendFlags struct {
	spec      string
	precision string
	threads   int
	given     func() bool // whether --threads is
}

// What the help says of the flags that choose a backend.
const (
	backendUsage   = "what computes, such as scalar, avx2:threads=4, gpu or gpu:1; auto is the processor"
	precisionUsage = "of --backend gpu: bf16, which is its default, or f32"
	threadsUsage   = "worker threads; 0 is one for each processor"
)

func (b *backendFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&b.spec, "backend", "auto", backendUsage)
	fs.StringVar(&b.precision, "precision", "", precisionUsage)
	fs.IntVar(&b.threads, "threads", 0, threadsUsage)
	b.given = func() bool { return fs.Changed("threads") }
}

func (b *backendFlags) open(a *app) (framework.Backend, error) {
	return a.openChosen(b.spec, b.precision, b.threads, b.given())
}

// clampThreads lowers a number of threads to what the machine runs at once, and
// says so, with how they were given: workers wait for each other, so more of
// them than that are slower.
func (a *app) clampThreads(how string, n int) int {
	most := runtime.GOMAXPROCS(0)
	if n <= most {
		return n
	}
	a.note("note: %s%d is more than the %d that this machine runs at once: using %d", how, n, most, most)
	return most
}
