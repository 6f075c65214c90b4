package kernel

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

// source reads a kernel of testdata, and the header that one of them includes.
func source(t *testing.T, name string) driver.Source {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return driver.Source{Name: name, Code: read(name), Headers: map[string]string{"round.cuh": read("round.cuh")}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a device with a compiler for it.
type bench struct {
	ctx      *driver.Context
	stream   *driver.Stream
	compiler *Compiler
	target   string // the device's own
}

// newBench opens the fake device, whose blocks and threads run in this order, or
// where tests run on a real one that.
func newBench(t *testing.T, order string) *bench {
	t.Helper()
	search := driver.Search{Dir: fake.RealLibraries()}
	if !fake.Real() {
		search = driver.Search{Dir: fake.Build(t, fake.Options{Settings: []string{"order=" + order}}), Only: true}
	}
	d, err := driver.Open(search)
	must(t, err)
	n, err := driver.OpenNVRTC(search)
	must(t, err)
	devices, err := d.Devices()
	must(t, err)
	b := &bench{target: fmt.Sprintf("sm_%d%d", devices[0].Major, devices[0].Minor)}
	b.ctx, err = d.Retain(devices[0])
	must(t, err)
	t.Cleanup(func() { _ = b.ctx.Release() })
	b.stream, err = b.ctx.NewStream()
	must(t, err)
	b.compiler, err = New(Options{NVRTC: n, Cache: &Cache{Dir: t.TempDir()}, Major: devices[0].Major, Minor: devices[0].Minor})
	must(t, err)
	return b
}

func (b *bench) function(t *testing.T, name string) *driver.Function {
	t.Helper()
	m, err := b.compiler.Load(b.ctx, source(t, name+".cu"))
	must(t, err)
	f, err := m.Function(name)
	must(t, err)
	return f
}

func bytesOf[T any](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

func upload[T any](t *testing.T, b *bench, v []T) driver.Pointer {
	t.Helper()
	p, err := b.ctx.Alloc(len(bytesOf(v)))
	must(t, err)
	must(t, b.ctx.Upload(p, bytesOf(v)))
	return p
}

func normal(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// The sample kernels are compared with loops in float64, in each order of
// threads and blocks: none may matter.
func TestKernelsComputeWhatLoopsInFloat64Do(t *testing.T) {
	for _, order := range []string{"", "reverse", "shuffle"} {
		t.Run("order="+order, func(t *testing.T) {
			b := newBench(t, order)
			rng := rand.New(rand.NewPCG(1, 2))
			checkAxpy(t, b, rng)
			checkRowsum(t, b, rng)
			checkMatmul(t, b, rng)
		})
	}
}

func checkAxpy(t *testing.T, b *bench, rng *rand.Rand) {
	const n = 1003
	x, y := normal(rng, n), normal(rng, n)
	narrow := make([]uint16, n)
	px, py, pn := upload(t, b, x), upload(t, b, y), upload(t, b, narrow)
	f := b.function(t, "axpy")
	must(t, f.Launch(driver.Dim{X: 3}, driver.Dim{X: 128}, float32(0.5), px, py, pn, int32(n)).Run(b.stream))
	got := make([]float32, n)
	must(t, errors.Join(b.stream.Synchronize(), b.ctx.Download(bytesOf(got), py), b.ctx.Download(bytesOf(narrow), pn)))
	for i := range got {
		want := 0.5*float64(x[i]) + float64(y[i])
		near(t, "axpy", float64(got[i]), want, 1e-6)
		near(t, "axpy in bf16", float64(math.Float32frombits(uint32(narrow[i])<<16)), want, 1.0/256)
	}
}

func checkRowsum(t *testing.T, b *bench, rng *rand.Rand) {
	const rows, columns = 5, 777
	x := normal(rng, rows*columns)
	px, sums, maxima := upload(t, b, x), upload(t, b, make([]float32, rows)), upload(t, b, make([]float32, rows))
	f := b.function(t, "rowsum")
	must(t, f.Launch(driver.Dim{X: rows}, driver.Dim{X: 256}, px, sums, maxima, int32(columns)).Run(b.stream))
	s, m := make([]float32, rows), make([]float32, rows)
	must(t, errors.Join(b.stream.Synchronize(), b.ctx.Download(bytesOf(s), sums), b.ctx.Download(bytesOf(m), maxima)))
	for r := range rows {
		row, sum := x[r*columns:(r+1)*columns], 0.0
		for _, v := range row {
			sum += float64(v)
		}
		near(t, "sum", float64(s[r]), sum, 1e-5)
		near(t, "maximum", float64(m[r]), float64(slices.Max(row)), 0)
	}
}

func checkMatmul(t *testing.T, b *bench, rng *rand.Rand) {
	const m, n, k = 37, 21, 50
	x, y := normal(rng, m*k), normal(rng, k*n)
	px, py, pc := upload(t, b, x), upload(t, b, y), upload(t, b, make([]float32, m*n))
	l := b.function(t, "matmul").Launch(driver.Dim{X: (n + 15) / 16, Y: (m + 15) / 16}, driver.Dim{X: 16, Y: 16}, px, py, pc, int32(m), int32(n), int32(k))
	l.Shared = 16 * 16 * 4
	must(t, l.Run(b.stream))
	got := make([]float32, m*n)
	must(t, errors.Join(b.stream.Synchronize(), b.ctx.Download(bytesOf(got), pc)))
	for i := range got {
		want := 0.0
		for j := range k {
			want += float64(x[i/n*k+j]) * float64(y[j*n+i%n])
		}
		near(t, "matmul", float64(got[i]), want, 1e-5)
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Max(1, math.Abs(want))) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func TestCodeIsCompiledOnce(t *testing.T) {
	b := newBench(t, "")
	src := source(t, "axpy.cu")
	first, err := b.compiler.Compile(src)
	must(t, err)
	again, err := b.compiler.Compile(src)
	must(t, err)
	other, err := b.compiler.Compile(src, "-DOTHER=1")
	must(t, err)
	if first.Cached || !again.Cached || other.Cached || !slices.Equal(first.Code, again.Code) || first.Target != b.target {
		t.Errorf("cached: first %v, again %v, with other options %v; target %s", first.Cached, again.Cached, other.Cached, first.Target)
	}
}

func TestGoroutinesShareACompilation(t *testing.T) {
	var s single
	inside, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = s.do(key{1}, func() (Image, error) { close(inside); <-leave; return Image{Target: "first"}, nil })
	})
	<-inside
	for range 4 {
		wg.Go(func() {
			// Whoever comes while it is made gets it, and whoever comes after makes his own.
			image, err := s.do(key{1}, func() (Image, error) { return Image{Target: "second"}, nil })
			if err != nil || image.Target == "" {
				t.Errorf("%+v, %v", image, err)
			}
		})
	}
	if image, _ := s.do(key{2}, func() (Image, error) { return Image{Target: "other"}, nil }); image.Target != "other" {
		t.Errorf("another key: %+v", image)
	}
	s.mu.Lock()
	waiting := s.under[key{1}]
	s.mu.Unlock()
	close(leave)
	wg.Wait()
	if waiting == nil || waiting.image.Target != "first" || len(s.under) != 0 {
		t.Errorf("the first was not kept for others, or for too long: %+v, %d under way", waiting, len(s.under))
	}
}

type embedded map[string]string

func (e embedded) PTX(name string) ([]byte, bool) { s, ok := e[name]; return []byte(s), ok }

func TestWithoutNVRTCThePTXOfTheProgramIsTaken(t *testing.T) {
	c, err := New(Options{PTX: embedded{"a.cu": ".version 8.0"}})
	must(t, err)
	image, err := c.Compile(driver.Source{Name: "a.cu"})
	if err != nil || string(image.Code) != ".version 8.0" {
		t.Errorf("%q, %v", image.Code, err)
	}
	none, err := New(Options{NoNVRTC: driver.ErrNoNVRTC})
	must(t, err)
	for _, c := range []*Compiler{c, none} {
		if _, err := c.Compile(driver.Source{Name: "b.cu"}); !errors.Is(err, driver.ErrNoNVRTC) || !strings.Contains(err.Error(), "b.cu") {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheTargetIsTheDevicesOrTheLatestBeforeIt(t *testing.T) {
	archs := []int{75, 80, 90, 100}
	for _, c := range []struct {
		major, minor int
		want         string
	}{{9, 0, "sm_90"}, {8, 6, "compute_80"}, {12, 0, "compute_100"}, {7, 5, "sm_75"}, {7, 0, ""}} {
		got, err := Target(archs, c.major, c.minor)
		if got != c.want || (c.want == "") != errors.Is(err, ErrArch) {
			t.Errorf("%d.%d: %q, %v, want %q", c.major, c.minor, got, err, c.want)
		}
	}
}
