package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/framework"
)

// openBackend opens a backend by spec; "auto" is the fastest of this machine,
// with the same options. threads above 0 is passed on as the option of that
// name, which spec must not have then.
func openBackend(spec string, threads int) (framework.Backend, error) {
	if threads < 0 {
		return nil, usagef("0 is one for each processor", "--threads %d", threads)
	}
	spec = withThreads(spec, threads)
	name, options, some := strings.Cut(spec, ":")
	if name != "auto" {
		return framework.Backends.Open(spec)
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

// chooseThreads brings the two ways of naming threads together: --backend with
// the option threads, and --threads, which is given or not. It returns the spec
// without that option, and the number, lowered to what the machine runs at once.
func (a *app) chooseThreads(spec string, threads int, given bool) (string, int, error) {
	name, scheme := spec, ""
	if rest, ok := strings.CutPrefix(spec, pluginScheme+":"); ok {
		name, scheme = rest, pluginScheme+":"
	}
	name, o, err := framework.ParseSpec(name)
	if err != nil {
		return "", 0, errors.Wrap(err, "backend")
	}
	name = scheme + name
	if o.String("threads", "") == "" {
		return spec, a.clampThreads("--threads ", threads), nil
	}
	if given {
		return "", 0, usagef("leave one of them out", "--threads %d beside --backend %s: the threads are given twice", threads, spec)
	}
	if threads, err = o.Int("threads", 0); err != nil {
		return "", 0, errors.Wrapf(err, "backend %q", spec)
	}
	if threads < 0 {
		return "", 0, usagef("0 is one for each processor", "--backend %s", spec)
	}
	var others []string
	for f := range strings.SplitSeq(spec[len(name)+1:], ",") {
		if !strings.HasPrefix(f, "threads=") {
			others = append(others, f)
		}
	}
	if len(others) > 0 {
		name += ":" + strings.Join(others, ",")
	}
	return name, a.clampThreads("threads=", threads), nil
}

// openChosen opens a backend as chooseThreads understands the flags.
func (a *app) openChosen(spec string, threads int, given bool) (framework.Backend, error) {
	spec, threads, err := a.chooseThreads(spec, threads, given)
	if err != nil {
		return nil, err
	}
	return openBackend(spec, threads)
}

func withThreads(spec string, threads int) string {
	if threads == 0 {
		return spec
	}
	sep := ":"
	if strings.Contains(strings.TrimPrefix(spec, pluginScheme+":"), ":") {
		sep = ","
	}
	return fmt.Sprintf("%s%sthreads=%d", spec, sep, threads)
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
	spec    string
	threads int
	given   func() bool // whether --threads is
}

func (b *backendFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&b.spec, "backend", "auto", "what computes, such as scalar or avx2:threads=4")
	fs.IntVar(&b.threads, "threads", 0, "worker threads; 0 is one for each processor")
	b.given = func() bool { return fs.Changed("threads") }
}

func (b *backendFlags) open(a *app) (framework.Backend, error) {
	return a.openChosen(b.spec, b.threads, b.given())
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
