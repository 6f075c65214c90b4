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

// openBackend opens a backend by spec; "auto" is the fastest of this machine.
// threads above 0 is passed on as the option of that name.
func openBackend(spec string, threads int) (framework.Backend, error) {
	if threads < 0 {
		return nil, usagef("0 is one for each processor", "--threads %d", threads)
	}
	if spec != "auto" {
		return framework.Backends.Open(withThreads(spec, threads))
	}
	if slices.Contains(framework.Backends.Names(), "avx2") {
		be, err := framework.Backends.Open(withThreads("avx2", threads))
		if err == nil || !errors.Is(err, framework.ErrUnsupported) {
			return be, err
		}
	}
	return framework.Backends.Open(withThreads("scalar", threads))
}

func withThreads(spec string, threads int) string {
	if threads == 0 {
		return spec
	}
	sep := ":"
	if strings.Contains(spec, ":") {
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
}

func (b *backendFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&b.spec, "backend", "auto", "what computes, such as scalar or avx2:threads=4")
	fs.IntVar(&b.threads, "threads", 0, "worker threads; 0 is one for each processor")
}

func (b *backendFlags) open(a *app) (framework.Backend, error) {
	return openBackend(b.spec, a.clampThreads(b.threads))
}

// clampThreads lowers a number of threads to what the machine runs at once, and
// says so: workers wait for each other, so more of them than that are slower.
func (a *app) clampThreads(n int) int {
	most := runtime.GOMAXPROCS(0)
	if n <= most {
		return n
	}
	a.note("note: --threads %d is more than the %d that this machine runs at once: using %d", n, most, most)
	return most
}
