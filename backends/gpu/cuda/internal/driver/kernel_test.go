package driver

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

func TestWhatIsWrongWithAKernelIsSaidWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		name, code  string
		block       Dim
		cuda, fault string
	}{
		{
			"a write after the end", `extern "C" __global__ void k(float *x) { x[threadIdx.x + 1024] = 1; }`,
			Dim{X: 1},
			"CUDA_ERROR_ILLEGAL_ADDRESS", "kernel k, block (0,0,0), thread (0,0,0): reads or writes 3072 bytes after the end of an allocation of 1024 bytes",
		},
		{
			"a read before the start", `extern "C" __global__ void k(float *x) { x[0] = x[-2000 + (int)threadIdx.x]; }`,
			Dim{X: 1},
			"CUDA_ERROR_ILLEGAL_ADDRESS", "before the start of an allocation of 1024 bytes",
		},
		{
			"a write just before the start", `extern "C" __global__ void k(float *x) { if (threadIdx.x == 3) x[-1] = 1; }`,
			Dim{X: 4},
			"CUDA_ERROR_ILLEGAL_ADDRESS", "kernel k wrote 4 bytes before the start of an allocation of 1024 bytes",
		},
		{
			"no address at all", `extern "C" __global__ void k(float *x) { if (threadIdx.y == 1) *(float *)8 = 1; }`,
			Dim{X: 2, Y: 2},
			"CUDA_ERROR_ILLEGAL_ADDRESS", "thread (0,1,0): reads or writes 0x8, which is no memory of the device",
		},
		{
			"a vector that is not aligned", `extern "C" __global__ void k(float *x) { *(float4 *)(x + threadIdx.x) = make_float4(1, 2, 3, 4); }`,
			Dim{X: 2},
			"CUDA_ERROR_MISALIGNED_ADDRESS", "thread (1,0,0)",
		},
		{
			"an index beyond shared memory", `extern "C" __global__ void k(float *x) { __shared__ float s[2][3]; s[threadIdx.x][threadIdx.y] = x[0]; x[1] = s[0][threadIdx.x]; }`,
			Dim{X: 2, Y: 4},
			"CUDA_ERROR_MISALIGNED_ADDRESS", "thread (0,3,0): an address that is not aligned for its type, or an index beyond an array",
		},
		{
			"dynamic shared memory that is too small", `extern "C" __global__ void k(float *x) { extern __shared__ float s[]; s[threadIdx.x] = 1; x[0] = s[0]; }`,
			Dim{X: 40},
			"CUDA_ERROR_ILLEGAL_ADDRESS", "thread (32,0,0)",
		},
		{
			"a barrier that not all reach", "extern \"C\" __global__ void k(float *x) {\n if (threadIdx.x < 3) __syncthreads();\n else __shfl_sync(0xfu, x[0], 0); }",
			Dim{X: 4},
			"CUDA_ERROR_LAUNCH_TIMEOUT", "thread (3,0,0): the block cannot go on: 3 wait at __syncthreads in line 2, 1 wait in a warp intrinsic in line 3, 0 have ended",
		},
		{
			"two barriers at once", "extern \"C\" __global__ void k(float *x) {\n if (threadIdx.x < 3)\n __syncthreads();\n else\n __syncthreads(); }",
			Dim{X: 4},
			"CUDA_ERROR_LAUNCH_FAILED", "waits at __syncthreads in line 5, and another thread of the block at the one in line 3",
		},
		{
			"a lane that its mask does not name", `extern "C" __global__ void k(float *x) { x[0] = __shfl_sync(1u, x[0], 0); }`,
			Dim{X: 2},
			"CUDA_ERROR_LAUNCH_FAILED", "thread (1,0,0): is not in the mask of its warp intrinsic in line 1",
		},
		{
			"lanes in different intrinsics", `extern "C" __global__ void k(float *x) { if (threadIdx.x) x[0] = __shfl_sync(3u, x[0], 0); else x[1] = __any_sync(3u, 1); }`,
			Dim{X: 2},
			"CUDA_ERROR_LAUNCH_TIMEOUT", "2 wait in a warp intrinsic in line 1, 0 have ended",
		},
		{"an assertion", `extern "C" __global__ void k(float *x) { assert(x[threadIdx.x] == 0); }`, Dim{X: 1}, "CUDA_ERROR_ASSERT", "fails assert(x["},
		{"a division by zero", `extern "C" __global__ void k(int *x) { x[0] = 7 / (int)threadIdx.x; }`, Dim{X: 1}, "CUDA_ERROR_LAUNCH_FAILED", "divides an integer by zero"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newFake(t)
			f := r.kernel(t, c.code)
			l := f.Launch(Dim{X: 1}, c.block, r.alloc(t, 1024))
			l.Shared = 128
			must(t, l.Run(r.s))
			err := r.s.Synchronize()
			if !errors.Is(err, ErrDeviceLost) {
				t.Errorf("got %v, want %v", err, ErrDeviceLost)
			}
			named(t, err, c.cuda)
			if got := fake.Fault(r.dir); !strings.Contains(got, c.fault) {
				t.Errorf("said %q, want %q", got, c.fault)
			}
		})
	}
}

func TestALaunchThatTheDeviceCannotHoldIsRefused(t *testing.T) {
	r := newFake(t)
	f := r.kernel(t, `extern "C" __global__ void __launch_bounds__(4 * 16, 2) k(float *x) { extern __shared__ float s[]; s[threadIdx.x] = 1; x[0] = s[0]; }`)
	p := r.alloc(t, 4)
	l := f.Launch(Dim{X: 1}, Dim{X: 65}, p)
	err := l.Run(r.s)
	named(t, err, "CUDA_ERROR_INVALID_VALUE")
	if !strings.Contains(err.Error(), "kernel k, grid {1 0 0}, block {65 0 0}, 0 bytes") {
		t.Errorf("%v does not say what was launched", err)
	}
	if n, err := f.Attribute(MaxThreadsPerBlock); n != 64 || err != nil {
		t.Errorf("%d threads at most, %v", n, err)
	}
	l.Block.X, l.Shared = 64, 60<<10
	named(t, l.Run(r.s), "CUDA_ERROR_INVALID_VALUE")
	named(t, f.SetDynamicShared(1<<20), "CUDA_ERROR_INVALID_VALUE")
	must(t, f.SetDynamicShared(60<<10))
	must(t, l.Run(r.s))
	must(t, r.s.Synchronize())
	if got := r.read(t, p, 1); got[0] != 1 {
		t.Error(got)
	}
}

// All that launch a kernel share its attributes: one that asks for less must not
// take from another what that has asked for.
func TestSharedMemoryThatWasAskedForStays(t *testing.T) {
	r := newRig(t)
	p, err := r.n.Compile(Source{Name: "test.cu", Code: `extern "C" __global__ void k(float *x) { extern __shared__ float s[]; s[threadIdx.x] = 7; x[0] = s[0]; }`}, r.arch)
	must(t, err)
	m, err := r.c.Load(p.Code)
	must(t, err)
	first, err := m.Function("k")
	must(t, err)
	second, err := m.Function("k")
	must(t, err)
	must(t, first.SetDynamicShared(90<<10))
	must(t, second.SetDynamicShared(60<<10))
	x := r.floats(t, 0)
	l := first.Launch(Dim{X: 1}, Dim{X: 1}, x)
	l.Shared = 90 << 10
	must(t, l.Run(r.s))
	if got := r.read(t, x, 1); got[0] != 7 {
		t.Error(got)
	}
}

func TestCodeThatDoesNotFitIsNamed(t *testing.T) {
	r := newRig(t, "capability=86")
	const code = `extern "C" __global__ void k(float *x) { *x = 5; }`
	load := func(arch string) (*Module, error) {
		p, err := r.n.Compile(Source{Name: "a.cu", Code: code}, "--gpu-architecture="+arch)
		must(t, err)
		return r.c.Load(p.Code)
	}
	_, err := load("sm_90")
	named(t, err, "CUDA_ERROR_NO_BINARY_FOR_GPU")
	_, junk := r.c.Load([]byte("junk"))
	_, empty := r.c.Load(nil)
	for _, err := range []error{err, junk, empty} {
		if !errors.Is(err, ErrInvalidKernel) {
			t.Errorf("got %v, want %v", err, ErrInvalidKernel)
		}
	}
	m, err := load("compute_80") // PTX runs on every later device
	must(t, err)
	if _, err = m.Function("other"); err == nil || !strings.Contains(err.Error(), `kernel "other"`) {
		t.Errorf("got %v", err)
	}
	named(t, err, "CUDA_ERROR_NOT_FOUND")
	f, err := m.Function("k")
	must(t, err)
	p := r.alloc(t, 4)
	must(t, f.Launch(Dim{}, Dim{}, p).Run(r.s))
	if got := r.read(t, p, 1); got[0] != 5 {
		t.Error(got)
	}
	must(t, m.Unload())
	named(t, f.Launch(Dim{}, Dim{}, p).Run(r.s), "CUDA_ERROR_INVALID_HANDLE")
}

func TestACompilersMessagesComeWithItsError(t *testing.T) {
	r := newFake(t)
	_, err := r.n.Compile(Source{Name: "bad.cu", Code: "\nextern \"C\" __global__ void k() { int x = nothing; }"}, "--gpu-architecture=sm_80")
	if !errors.Is(err, ErrCompile) || !strings.Contains(err.Error(), "bad.cu:2") || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
	_, err = r.n.Compile(Source{Name: "a.cu", Code: " "}, "--no-such-option")
	named(t, err, "NVRTC_ERROR_INVALID_OPTION")
	_, err = r.n.Compile(Source{Name: "a.cu", Code: " "}, "--gpu-architecture=sm_12")
	named(t, err, "NVRTC_ERROR_INVALID_OPTION")
	if major, _ := r.n.Version(); major != 12 || !slices.Contains(r.n.Archs(), 90) {
		t.Errorf("version %d, %v", major, r.n.Archs())
	}
}

// Without the barrier a thread reads what another has not yet written, which
// only one of the orders shows.
func TestAMissingBarrierShowsInAnotherOrder(t *testing.T) {
	sum := func(order, barrier string) float32 {
		r := newFake(t, "order="+order)
		f := r.kernel(t, `extern "C" __global__ void k(float *x) {
			__shared__ float s[64];
			s[threadIdx.x] = x[threadIdx.x];
			`+barrier+`
			if (threadIdx.x == 63) { float t = 0; for (int i = 0; i < 64; i++) t += s[i]; x[0] = t; }
		}`)
		ones := slices.Repeat([]float32{1}, 64)
		p := r.floats(t, ones...)
		must(t, f.Launch(Dim{}, Dim{X: 64}, p).Run(r.s))
		return r.read(t, p, 1)[0]
	}
	for _, order := range []string{"", "reverse", "shuffle"} {
		if got := sum(order, "__syncthreads();"); got != 64 {
			t.Errorf("order %q: %v", order, got)
		}
	}
	if got := sum("", ""); got != 64 {
		t.Errorf("no barrier, in order: %v", got)
	}
	if got := sum("reverse", ""); got == got {
		t.Errorf("no barrier, reversed: %v, not NaN", got)
	}
}

func TestACapturedStepIsReplayedWithItsArguments(t *testing.T) {
	r := newRig(t)
	f := r.kernel(t, `extern "C" __global__ void k(float *x, float a) { x[threadIdx.x] = a * x[threadIdx.x] + 1; }`)
	p, q := r.floats(t, 1, 2, 3), r.floats(t, 0, 0, 0)
	in, err := r.c.Pin(12)
	must(t, err)
	l := f.Launch(Dim{}, Dim{X: 3}, p, float32(2))
	g, err := r.s.Capture(func() error {
		return errors.Join(r.s.Upload(p, in, 0, 12), l.Run(r.s), l.Run(r.s), r.s.Copy(q, p, 12))
	})
	must(t, err)
	if got := r.read(t, p, 3); !slices.Equal(got, []float32{1, 2, 3}) || g.Nodes() != 4 {
		t.Fatalf("%v after the capture of %d nodes", got, g.Nodes())
	}
	l.Set(1, float32(100)) // the graph keeps what it was captured with
	copy(in.Bytes(), bytesOf([]float32{10, 20, 30}))
	must(t, g.Launch(r.s))
	must(t, r.s.Synchronize())
	if got := r.read(t, q, 3); !slices.Equal(got, []float32{43, 83, 123}) {
		t.Error(got)
	}
	copy(in.Bytes(), bytesOf([]float32{0, 1, 2})) // pinned memory is read when it runs
	must(t, g.Launch(r.s))
	must(t, r.s.Synchronize())
	if got := r.read(t, q, 3); !slices.Equal(got, []float32{3, 7, 11}) {
		t.Error(got)
	}
	must(t, l.Run(r.s))
	if got := r.read(t, p, 3); !slices.Equal(got, []float32{301, 701, 1101}) {
		t.Error(got)
	}
	must(t, g.Destroy())
	if err := g.Launch(r.s); err == nil {
		t.Error("a destroyed graph runs")
	}
}

func TestWhatMustNotBeCapturedIsAnError(t *testing.T) {
	r := newFake(t)
	p := r.alloc(t, 4)
	for name, fn := range map[string]func() error{
		"an allocation":     func() error { _, err := r.c.Alloc(4); return err },
		"a wait":            func() error { return r.s.Synchronize() },
		"a copy that waits": func() error { return r.c.Upload(p, make([]byte, 4)) },
	} {
		g, err := r.s.Capture(fn)
		if g != nil || err == nil {
			t.Fatalf("%s was captured", name)
		}
		named(t, err, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
		// One that does not look at errors learns of it at the end.
		_, err = r.s.Capture(func() error { _ = fn(); return nil })
		named(t, err, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
	}
	must(t, r.s.Fill(p, 0, 4))
	must(t, r.s.Synchronize())
}

// A run of a step must leave nothing to the garbage collector.
func TestLaunchesAllocateNothing(t *testing.T) {
	r := newRig(t)
	f := r.kernel(t, `extern "C" __global__ void k(float *x, int n) { x[0] = n; }`)
	p := r.alloc(t, 64)
	l := f.Launch(Dim{}, Dim{}, p, int32(1))
	g, err := r.s.Capture(func() error { return l.Run(r.s) })
	must(t, err)
	b, err := r.c.OpenCuBLAS(r.search)
	must(t, err)
	m, err := b.Plan(MatmulSpec{A: Matrix{Rows: 2, Cols: 2}, B: Matrix{Rows: 2, Cols: 2}, D: Matrix{Rows: 2, Cols: 2}, Compute: ComputeF32, Alpha: 1, Align: [3]int{2: 32}})
	must(t, err)
	for name, fn := range map[string]func() error{
		"launch": func() error { return l.Run(r.s) },
		"graph":  func() error { return g.Launch(r.s) },
		"matmul": func() error { return m.Run(r.s, p, p, 0, p+32, 0) },
		"fill":   func() error { return r.s.Fill(p, 0, 4) },
	} {
		if n := testing.AllocsPerRun(100, func() { must(t, fn()) }); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
