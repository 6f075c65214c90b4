package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// large writes a file of two tensors of many pages, "a" and "b".
func large(t *testing.T) (path string, a, b []byte) {
	t.Helper()
	n := 64*os.Getpagesize() + 100
	a, b = bytes.Repeat([]byte{7}, n), bytes.Repeat([]byte{9}, n)
	path = filepath.Join(t.TempDir(), "large.gguf")
	if err := WriteFile(path, nil, []TensorInfo{
		FromBytes("a", ggml.I8, tensor.Shape{n}, a), FromBytes("b", ggml.I8, tensor.Shape{n}, b),
	}); err != nil {
		t.Fatal(err)
	}
	return path, a, b
}

func openFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// viewOf returns a view; the test is skipped where views are copies.
func viewOf(t *testing.T, f *File, name string) []byte {
	t.Helper()
	v, err := f.View(name)
	if err != nil {
		t.Fatal(err)
	}
	if f.parts[0].mapping == nil {
		t.Skip("files are not mapped here")
	}
	return v
}

func TestViewIsTheTensor(t *testing.T) {
	f := openFile(t, ggmlFile)
	copied := read(t, must(os.ReadFile(ggmlFile))) // a file that cannot be mapped
	for _, x := range f.Tensors {
		want, err := f.ReadRaw(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		for what, file := range map[string]*File{"mapped": f, "read": copied} {
			got, err := file.View(x.Name)
			if err != nil || !bytes.Equal(got, want) || cap(got) != len(want) {
				t.Errorf("%s, %s: %d bytes of capacity %d, %v", x.Name, what, len(got), cap(got), err)
			}
		}
	}
	for what, file := range map[string]*File{"mapped": f, "read": copied} {
		if _, err := file.View("none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestViewAllocatesNothingLarge(t *testing.T) {
	path, a, _ := large(t)
	f := openFile(t, path)
	viewOf(t, f, "a")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v := viewOf(t, f, "a")
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4096 {
		t.Errorf("a view of %d bytes allocates %d", len(v), n)
	}
	f.Release("a")
	f.Release("none")
	if !bytes.Equal(v, a) {
		t.Error("after Release the bytes differ")
	}
}

// TestFileThatShrinksUnderViewsIsAnError cuts the file where the second tensor
// lies, then all of it.
func TestFileThatShrinksUnderViewsIsAnError(t *testing.T) {
	path, a, b := large(t)
	f := openFile(t, path)
	va, vb := viewOf(t, f, "a"), viewOf(t, f, "b")
	compare := func(view, want []byte) func() error {
		return func() error {
			if !bytes.Equal(view, want) {
				return errors.New("the bytes differ")
			}
			return nil
		}
	}
	if err := f.Guard(compare(vb, b)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, f.Tensors[1].Offset); err != nil {
		t.Fatal(err)
	}
	wrong := f.Guard(compare(va, a))
	if !errors.Is(wrong, ErrFormat) {
		t.Errorf("the tensor that is still there, in a file that shrank: %v", wrong)
	}
	wrong = f.Guard(compare(vb, b))
	if !errors.Is(wrong, ErrFormat) || !strings.Contains(wrong.Error(), path) || len(errors.GetAllHints(wrong)) == 0 {
		t.Errorf("error %v", wrong)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := f.Guard(compare(va, a)); !errors.Is(err, ErrFormat) {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := f.ReadRaw("a"); !errors.Is(err, ErrFormat) {
		t.Errorf("read: %v", err)
	}
}

func TestFileThatShrankBeforeTheFirstViewIsAnError(t *testing.T) {
	path, _, _ := large(t)
	f := openFile(t, path)
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := f.View("b"); !errors.Is(err, ErrFormat) || len(errors.GetAllHints(err)) == 0 {
		t.Errorf("error %v", err)
	}
}

func TestGuardReturnsWhatItsFunctionReturns(t *testing.T) {
	f := openFile(t, ggmlFile)
	cause := errors.New("cause")
	if err := f.Guard(func() error { return cause }); !errors.Is(err, cause) || errors.Is(err, ErrFormat) {
		t.Errorf("error %v", err)
	}
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("panic %v", r)
		}
	}()
	_ = f.Guard(func() error { panic("mine") })
}

func TestClosedFileHasNoViews(t *testing.T) {
	f := openFile(t, ggmlFile)
	viewOf(t, f, "f32")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.View("f32"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("view: %v", err)
	}
	if _, err := f.ReadRaw("f32"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	f.Release("f32")
}

func TestViewsMayBeAskedForAtOnce(t *testing.T) {
	f := openFile(t, ggmlFile)
	want := must(f.ReadRaw("f32"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v, err := f.View("f32"); err != nil || !bytes.Equal(v, want) {
				t.Errorf("%v", err)
			}
			f.Release("f32")
		})
	}
	wg.Wait()
}
