package driver

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	cockroach "github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

func bytesOf[T any](v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

func TestEachLackIsAnErrorOfItsOwnWithAHint(t *testing.T) {
	openDriver := func(s Search) error { _, err := Open(s); return err }
	openNVRTC := func(s Search) error { _, err := OpenNVRTC(s); return err }
	for _, c := range []struct {
		name string
		o    fake.Options
		open func(Search) error
		want error
		say  string
	}{
		{"no libcuda", fake.Options{Omit: []string{"libcuda.so.1"}}, openDriver, ErrNoDriver, "libcuda.so.1"},
		{"an old driver", fake.Options{Settings: []string{"version=11080"}}, openDriver, ErrDriverTooOld, "CUDA 11.8, 12.0 is the least"},
		{"a driver without a function", fake.Options{Without: []string{"cuGraphLaunch"}}, openDriver, ErrDriverTooOld, "no function cuGraphLaunch"},
		{"something else called libcuda", fake.Options{Without: []string{"cuDriverGetVersion"}}, openDriver, ErrNoDriver, "cuDriverGetVersion"},
		{"no device", fake.Options{Settings: []string{"devices=0"}}, openDriver, ErrNoDevice, "CUDA_ERROR_NO_DEVICE"},
		{"no NVRTC", fake.Options{Omit: []string{"libnvrtc.so.12"}}, openNVRTC, ErrNoNVRTC, "libnvrtc.so.12"},
		{"an NVRTC without a function", fake.Options{Without: []string{"nvrtcGetCUBIN"}}, openNVRTC, ErrNoNVRTC, "no function nvrtcGetCUBIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.open(Search{Dir: fake.Build(t, c.o), Only: true})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) {
				t.Fatalf("got %v, want %v with %q", err, c.want, c.say)
			}
			if cockroach.FlattenHints(err) == "" {
				t.Errorf("%v has no hint", err)
			}
		})
	}
}

func TestTheVariableOfTheFakeWinsOverItsFile(t *testing.T) {
	dir := fake.Build(t, fake.Options{Settings: []string{"version=12080"}})
	t.Setenv("TERN_FAKE_CUDA", "version=11040,devices=2")
	if _, err := Open(Search{Dir: dir, Only: true}); !errors.Is(err, ErrDriverTooOld) {
		t.Fatalf("got %v, want %v", err, ErrDriverTooOld)
	}
}

func TestAFileThatIsNoLibraryIsNamedWithTheLoadersWords(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "libcuda.so.1"), []byte("no library"), 0o644))
	_, err := Open(Search{Dir: dir, Only: true})
	if !reachable {
		t.Skip("there are no CUDA libraries on this system")
	}
	if !errors.Is(err, ErrNoDriver) || !strings.Contains(err.Error(), filepath.Join(dir, "libcuda.so.1")+" (") {
		t.Fatalf("got %v", err)
	}
}

func TestLibrariesOfALaterMajorVersionThanTheDriverAreNotTaken(t *testing.T) {
	all := libnvrtc.candidates(Search{Dir: "/d", Only: true})
	got := libnvrtc.candidates(Search{Dir: "/d", Only: true, Version: 12040})
	if len(all) != 9 || len(got) != 6 || !strings.Contains(all[0], "13") {
		t.Fatalf("all %v, for 12.4 %v", all, got)
	}
	for _, path := range got {
		if strings.Contains(filepath.Base(path), "13") {
			t.Errorf("%s for a driver of 12.4", path)
		}
	}
}

func TestTheDirectoryOfPythonsPackagesHoldsBothLibraries(t *testing.T) {
	built := fake.Build(t, fake.Options{})
	dir := t.TempDir()
	for name, sub := range map[string]string{"libnvrtc.so.12": "cuda_nvrtc", "libcublasLt.so.12": "cublas", "shim": "cuda_nvrtc"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub, "lib"), 0o755))
		must(t, os.Symlink(filepath.Join(built, name), filepath.Join(dir, sub, "lib", name)))
	}
	for _, l := range []library{libnvrtc, libcublas} {
		_, path, err := l.open(Search{Dir: dir, Only: true})
		if err != nil || !strings.HasPrefix(path, dir) {
			t.Errorf("%s: %q, %v", l.what, path, err)
		}
	}
}

func TestADeviceIsDescribed(t *testing.T) {
	r := newRig(t, "devices=2", "capability=86", "memory=123456789")
	devices, err := r.d.Devices()
	must(t, err)
	if len(devices) != 2 {
		t.Fatalf("%d devices", len(devices))
	}
	v := devices[1]
	if v.Name != "Fake CUDA device 1" || v.Major != 8 || v.Minor != 6 || v.Memory != 123456789 || v.Multiprocessors != 4 ||
		v.SharedOptIn != 227<<10 || v.Shared != 48<<10 || v.Warp != 32 || v.MaxThreads != 1024 || !v.Pools || v.Integrated {
		t.Errorf("%+v", v)
	}
	if want := "GPU-7465726e-2d66-616b-652d-677075000001"; v.ID() != want {
		t.Errorf("ID %s, want %s", v.ID(), want)
	}
	if r.d.Version() != 12080 {
		t.Errorf("version %d", r.d.Version())
	}
}

func TestCopiesGoThroughDeviceMemoryAndBack(t *testing.T) {
	r := newRig(t)
	const n = 1000
	in, err := r.c.Pin(n)
	must(t, err)
	out, err := r.c.Pin(n)
	must(t, err)
	for i := range in.Bytes() {
		in.Bytes()[i] = byte(i * 7)
	}
	a, b := r.alloc(t, n), r.alloc(t, n)
	must(t, r.s.Fill(a, 0xab, n))
	must(t, r.s.Upload(a+100, in, 100, 500))
	must(t, r.s.Copy(b, a, n))
	must(t, r.s.Fill32(b+800, 0x01020304, 25))
	must(t, r.s.Download(out, 0, n, b))
	must(t, r.s.Synchronize())
	want := bytes.Repeat([]byte{0xab}, n)
	copy(want[100:600], in.Bytes()[100:600])
	for i := 800; i < 900; i += 4 {
		copy(want[i:], []byte{4, 3, 2, 1})
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("the bytes are others")
	}
	direct := make([]byte, n)
	must(t, r.c.Download(direct, b))
	if !bytes.Equal(direct, want) {
		t.Error("the bytes of Download are others")
	}
	must(t, in.Free())
	must(t, out.Free())
	must(t, r.c.Free(a))
	if err := r.c.Free(a); err == nil {
		t.Error("memory was freed twice")
	}
}

func TestACopyBeyondAnAllocationIsRefused(t *testing.T) {
	r := newFake(t)
	p := r.alloc(t, 100)
	pin, err := r.c.Pin(200)
	must(t, err)
	named(t, r.c.Upload(p, make([]byte, 101)), "CUDA_ERROR_INVALID_VALUE")
	named(t, r.c.Download(make([]byte, 2), p+99), "CUDA_ERROR_INVALID_VALUE")
	named(t, r.s.Fill(p-1, 0, 1), "CUDA_ERROR_INVALID_VALUE")
	named(t, r.s.Copy(p, p+1, 100), "CUDA_ERROR_INVALID_VALUE")
	named(t, r.s.Upload(p, pin, 0, 101), "CUDA_ERROR_INVALID_VALUE")
	if err := r.s.Upload(p, pin, 150, 51); err == nil {
		t.Error("read beyond pinned memory")
	}
	must(t, r.c.Upload(p, make([]byte, 100)))
}

func TestAFullDeviceSaysHowMuchIsFree(t *testing.T) {
	r := newRig(t, "memory=1000000", "oom=600000")
	p := r.alloc(t, 500000)
	_, err := r.c.Alloc(200000)
	if !errors.Is(err, ErrOutOfMemory) || !strings.Contains(err.Error(), "200000 bytes asked for, 500000 free of 1000000") {
		t.Fatalf("got %v", err)
	}
	named(t, err, "CUDA_ERROR_OUT_OF_MEMORY")
	if _, err := r.s.Alloc(200000); !errors.Is(err, ErrOutOfMemory) {
		t.Fatalf("from the pool: got %v", err)
	}
	must(t, r.c.Free(p))
	q, err := r.s.Alloc(200000) // the error did not stick
	must(t, err)
	must(t, r.s.Free(q))
	must(t, r.c.Trim(0))
	if free, total, err := r.c.Memory(); err != nil || free != total {
		t.Fatalf("%d of %d bytes are free: %v", free, total, err)
	}
}

func TestEventsMeasureTime(t *testing.T) {
	r := newRig(t)
	a, err := r.c.NewEvent()
	must(t, err)
	b, err := r.c.NewEvent()
	must(t, err)
	if _, err := b.Since(a); err == nil {
		t.Error("events that were not recorded have a distance")
	}
	must(t, a.Record(r.s))
	must(t, b.Record(r.s))
	must(t, r.s.Wait(b))
	must(t, b.Synchronize())
	must(t, b.Query())
	if d, err := b.Since(a); err != nil || d < 0 {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := a.Since(b); err != nil || d > 0 {
		t.Errorf("backwards %v, %v", d, err)
	}
	must(t, a.Destroy())
	must(t, b.Destroy())
	must(t, r.s.Query())
	must(t, r.s.Destroy())
	must(t, r.c.Synchronize())
}

// Goroutines of two devices move between threads; each call finds its own
// context current.
func TestGoroutinesShareDevices(t *testing.T) {
	r := newRig(t, "devices=2")
	devices, err := r.d.Devices()
	must(t, err)
	second, err := r.d.Retain(devices[1])
	must(t, err)
	defer second.Release()
	var wg sync.WaitGroup
	for i := range 8 {
		c := []*Context{r.c, second}[i%2]
		wg.Go(func() {
			for range 50 {
				p, err := c.Alloc(64)
				if err != nil {
					t.Error(err)
					return
				}
				want := bytes.Repeat([]byte{byte(i)}, 64)
				got := make([]byte, 64)
				// Of another context the memory would not be there.
				err = errors.Join(c.Upload(p, want), c.Download(got, p), c.Free(p))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("goroutine %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestALostDeviceStaysLost(t *testing.T) {
	r := newRig(t, "lost=3", "lostcode=46")
	f := r.kernel(t, `extern "C" __global__ void k(float *x) { x[threadIdx.x] += 1; }`)
	p := r.floats(t, 1, 2)
	l := f.Launch(Dim{X: 1}, Dim{X: 2}, p)
	must(t, l.Run(r.s))
	must(t, l.Run(r.s))
	must(t, r.s.Synchronize())
	if got := r.read(t, p, 2); !slices.Equal(got, []float32{3, 4}) {
		t.Fatal(got)
	}
	must(t, l.Run(r.s)) // as on a device, the error is that of a later call
	for name, err := range map[string]error{
		"synchronize": r.s.Synchronize(), "launch": l.Run(r.s), "copy": r.c.Download(make([]byte, 4), p), "free": r.c.Free(p),
	} {
		if !errors.Is(err, ErrDeviceLost) || !strings.Contains(cockroach.FlattenHints(err), "start the program again") {
			t.Errorf("%s: got %v", name, err)
		}
		named(t, err, "CUDA_ERROR_DEVICE_UNAVAILABLE")
	}
}

// The layout is that of cublasLt.h, on which the library writes.
func TestStructsHaveTheLayoutOfTheHeaders(t *testing.T) {
	var h heuristicResult
	for name, c := range map[string][2]uintptr{
		"size":          {unsafe.Sizeof(h), 96},
		"workspaceSize": {unsafe.Offsetof(h.workspace), 64},
		"state":         {unsafe.Offsetof(h.state), 72},
		"wavesCount":    {unsafe.Offsetof(h.waves), 76},
		"CUuuid":        {unsafe.Sizeof(Device{}.UUID), 16},
		"CUdeviceptr":   {unsafe.Sizeof(Pointer(0)), 8},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", name, c[0], c[1])
		}
	}
}
