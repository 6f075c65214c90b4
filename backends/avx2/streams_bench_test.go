//go:build linux

package avx2_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// The sizes of a step of 1,024 tokens at nano-125m's width.
const benchRows, benchCols = 1024, 768

// streamBench is an op on a residual stream of S streams and the floats of
// memory that it must touch.
type streamBench struct {
	name   string
	floats func(S int) int
	build  func(b *graph.Builder, S int, in func(dims ...int) graph.Value) []graph.Value
}

// narrow is the number of coefficients that S streams get from a token: to
// read, to write, and of each permutation.
func narrow(S int) int { return map[int]int{2: 6, 4: 32, 8: 22}[S] }

func streamBenches() []streamBench {
	const N, C = benchRows, benchCols
	type value = graph.Value
	vjp := func(b *graph.Builder, op string, attr any, x ...value) []value {
		return b.Apply(graph.Lookup(op+".vjp"), attr, x...)
	}
	return []streamBench{
		{"sum", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.Sum(in(N, S*C), 1)}
		}},
		{"add", func(S int) int { return 3 * N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.Add(in(N, S*C), in(N, S*C))}
		}},
		{"read", func(S int) int { return N * (S + 1) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.StreamRead(in(N, S, C), in(N, S))}
		}},
		{"write", func(S int) int { return N * (2*S + 1) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.StreamWrite(in(N, S, C), in(N, C), in(N, S, S), in(N, S))}
		}},
		{"read.static", func(S int) int { return N * (S + 1) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.StreamRead(in(N, S, C), in(S))}
		}},
		{"write.static", func(S int) int { return N * (2*S + 1) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.StreamWrite(in(N, S, C), in(N, C), in(S, S), in(S))}
		}},
		{"read.vjp", func(S int) int { return N * (2*S + 1) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return vjp(b, "streamread", nil, in(N, S, C), in(N, S), in(N, C))
		}},
		{"write.vjp", func(S int) int { return N * (3*S + 2) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return vjp(b, "streamwrite", nil, in(N, S, C), in(N, C), in(N, S, S), in(N, S), in(N, S, C))
		}},
		{"write.vjp.static", func(S int) int { return N * (3*S + 2) * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return vjp(b, "streamwrite", nil, in(N, S, C), in(N, C), in(S, S), in(S), in(N, S, C))
		}},
		{"rmsnorm", func(S int) int { return 2 * N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.RMSNorm(in(N, S*C), in(S*C), 1e-6)}
		}},
		{"rmsnorm.vjp", func(S int) int { return 3 * N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return vjp(b, "rmsnorm", graph.NormAttr{Eps: 1e-6}, in(N, S*C), in(S*C), in(N, S*C))
		}},
		{"normlinear", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.NormLinear(in(N, S*C), in(S*C), in(narrow(S), S*C), 1e-6)}
		}},
		{"normlinear.vjp", func(S int) int { return 2 * N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return vjp(b, "normlinear", graph.NormAttr{Eps: 1e-6}, in(N, S*C), in(S*C), in(narrow(S), S*C), in(N, narrow(S)))
		}},
		{"x w", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.MatMul(in(N, S*C), in(S*C, narrow(S)), false, false)}
		}},
		{"x wT", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.MatMul(in(N, S*C), in(narrow(S), S*C), false, true)}
		}},
		{"dx=g wT", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.MatMul(in(N, narrow(S)), in(S*C, narrow(S)), false, true)}
		}},
		{"dx=g w", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.MatMul(in(N, narrow(S)), in(narrow(S), S*C), false, false)}
		}},
		{"dw=xT g", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.MatMul(in(N, S*C), in(N, narrow(S)), true, false)}
		}},
		{"dw=gT x", func(S int) int { return N * S * C }, func(b *graph.Builder, S int, in func(dims ...int) value) []value {
			return []value{b.MatMul(in(N, narrow(S)), in(N, S*C), true, false)}
		}},
	}
}

// BenchmarkStreams reports the rate at which an op on a residual stream passes
// over the memory that it must touch, in GB a second of processor time. Each of
// the ops of a run has operands of its own: together they exceed the caches.
func BenchmarkStreams(b *testing.B) {
	if !avx2.Supported() {
		b.Skip("the processor or the build has no AVX2")
	}
	for _, S := range []int{2, 4, 8} {
		for _, c := range streamBenches() {
			b.Run(fmt.Sprintf("%s/S%d", c.name, S), func(b *testing.B) { benchStreams(b, c, S) })
		}
	}
}

func benchStreams(b *testing.B, c streamBench, S int) {
	ops := max(2, int(3e8)/(4*c.floats(S)))
	g, err := graph.Trace(func(gb *graph.Builder) {
		for i := range ops {
			k := 0
			in := func(dims ...int) graph.Value {
				k++
				return gb.Buffer(fmt.Sprintf("x%d.%d", i, k), tensor.T(tensor.F32, dims...))
			}
			for j, v := range c.build(gb, S, in) {
				gb.Output(fmt.Sprintf("y%d.%d", i, j), gb.Slice(v, 0, 0, 1))
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	be, err := framework.Backends.Open("avx2:threads=1")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = be.Close() }()
	exe, err := be.Compile(ctx, g)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = exe.Close() }()
	store, err := be.NewStore()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	fillStates(b, store, g)
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = tensor.New(o.Value.Type())
	}
	run := func() time.Duration {
		start := processTime()
		if err := exe.Run(ctx, store, nil, out); err != nil {
			b.Fatal(err)
		}
		return processTime() - start
	}
	run()
	best := run()
	for b.Loop() {
		best = min(best, run())
	}
	b.ReportMetric(float64(4*ops*c.floats(S))/float64(best.Nanoseconds()), "GB/s")
	b.ReportMetric(best.Seconds()*1e3/float64(ops), "ms/op")
	b.ReportMetric(0, "ns/op")
}

// fillStates puts numbers into the states of g: pages that were never written
// would all be read from one.
func fillStates(b *testing.B, store framework.Store, g *graph.Graph) {
	for _, n := range g.States {
		x := tensor.New(n.Out[0])
		for i, v := 0, uint32(1); i < len(x.F32()); i++ {
			v = v*1664525 + 1013904223
			x.F32()[i] = float32(int32(v)) / (1 << 31)
		}
		if err := store.Put(context.Background(), n.Name(), x); err != nil {
			b.Fatal(err)
		}
	}
}

// processTime is the processor time of the process: other programs on the
// machine do not count.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
