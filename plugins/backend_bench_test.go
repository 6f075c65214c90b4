package plugins

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// built is the path of tern-plugin-scalar, built with flags.
func built(b *testing.B, flags ...string) string {
	path := filepath.Join(b.TempDir(), "tern-plugin-scalar")
	args := slices.Concat([]string{"build", "-o", path}, flags, []string{"./cmd/tern-plugin-scalar"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return path
}

// ways are a backend in this process, and in another one.
func ways(b *testing.B, run func(b *testing.B, be framework.Backend)) {
	c := dial(b, "scalar")
	for _, way := range []struct {
		name string
		open func() (framework.Backend, error)
	}{
		{"here", func() (framework.Backend, error) { return framework.Backends.Open("scalar:threads=1") }},
		{"shared", func() (framework.Backend, error) { return c.Backend("threads=1") }},
		{"streams", func() (framework.Backend, error) { return streamed(must(c.Backend("threads=1"))), nil }},
	} {
		b.Run(way.name, func(b *testing.B) {
			be := must(way.open())
			defer func() { _ = be.Close() }()
			run(b, be)
		})
	}
}

// BenchmarkBackendStart is from the start of the process to the answer of the
// first call, of a program with its symbols and of one without, as documents
// recommend.
func BenchmarkBackendStart(b *testing.B) {
	b.Run("symbols", func(b *testing.B) { benchmarkStart(b, built(b)) })
	b.Run("stripped", func(b *testing.B) { benchmarkStart(b, built(b, "-trimpath", "-ldflags=-s -w")) })
}

func benchmarkStart(b *testing.B, path string) {
	opened := time.Duration(0)
	for b.Loop() {
		c, err := Dial(context.Background(), DialOptions{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		s := must(must(c.Backend("threads=1")).NewStore())
		_ = s.Names()
		opened += time.Since(start)
		b.StopTimer()
		_ = c.Close()
		b.StartTimer()
	}
	if st, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(st.Size())/1e6, "MB")
	}
	b.ReportMetric(float64(opened.Microseconds())/float64(b.N), "us-opening/op")
}

// BenchmarkBackendRun is a run that computes next to nothing on a batch of 8
// windows of 257 tokens, or gives the logits of a token.
func BenchmarkBackendRun(b *testing.B) {
	for name, c := range map[string]struct{ in, out tensor.Type }{
		"batch":  {tensor.T(tensor.I32, 8, 257), tensor.T(tensor.F32, 1)},
		"logits": {tensor.T(tensor.I32, 1), tensor.T(tensor.F32, 50_257)},
	} {
		b.Run(name, func(b *testing.B) {
			ways(b, func(b *testing.B, be framework.Backend) {
				g := must(graph.Trace(func(g *graph.Builder) {
					g.Input("x", c.in.DType, c.in.Shape...)
					g.Output("y", g.Buffer("y", c.out))
				}))
				ctx := context.Background()
				exe, s := must(be.Compile(ctx, g)), must(be.NewStore())
				in, out := []*tensor.Tensor{tensor.New(c.in)}, []*tensor.Tensor{tensor.New(c.out)}
				b.ReportAllocs()
				for b.Loop() {
					if err := exe.Run(ctx, s, in, out); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkBackendLoad puts 619 MiB of parameters: those of a model of 12 layers
// of width 1024 with a vocabulary of 16,384.
func BenchmarkBackendLoad(b *testing.B) {
	params := []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, 16_384, 1024)), tensor.New(tensor.T(tensor.F32, 1024))}
	total := len(params[0].Data)
	for layer := 0; total < 619<<20; layer++ {
		for _, dims := range [][]int{{1024, 1024}, {1024, 1024}, {1024, 1024}, {1024, 1024}, {4096, 1024}, {1024, 4096}, {1024}, {1024}} {
			t := tensor.New(tensor.T(tensor.F32, dims...))
			total += len(t.Data)
			params = append(params, t)
		}
	}
	for _, t := range params {
		for i := range t.F32() {
			t.F32()[i] = float32(i)
		}
	}
	put := func(s framework.Store) {
		for i, t := range params {
			if err := s.Put(context.Background(), fmt.Sprint("p", i), t); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("into new memory", func(b *testing.B) {
		b.SetBytes(int64(total))
		for b.Loop() {
			b.StopTimer()
			c, be := remote(b, "scalar", "threads=1")
			s := must(be.NewStore())
			b.StartTimer()
			put(s)
			b.StopTimer()
			_ = c.Close()
			b.StartTimer()
		}
	})
	ways(b, func(b *testing.B, be framework.Backend) {
		b.SetBytes(int64(total))
		s := must(be.NewStore())
		put(s) // the rest is the way alone: the memory is there
		for b.Loop() {
			put(s)
		}
	})
}
