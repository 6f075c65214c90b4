package mmap

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// open maps a new file of n bytes, each its position modulo 251.
func open(t *testing.T, n int) (m *Mapping, path string) {
	t.Helper()
	want := make([]byte, n)
	for i := range want {
		want[i] = byte(i % 251)
	}
	path = filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, want, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err = Map(f, int64(n))
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	if !bytes.Equal(m.Bytes(), want) {
		t.Fatal("the mapping is not what was written")
	}
	return m, path
}

// sum reads every byte. Inlined, its loads would be dropped where nobody wants
// the sum.
//
//go:noinline
func sum(b []byte) (n int) {
	for _, v := range b {
		n += int(v)
	}
	return n
}

func TestShrunkFileIsAnErrorInsideGuard(t *testing.T) {
	m, path := open(t, 3*os.Getpagesize())
	if err := Guard(m.Holds, func() error { sum(m.Bytes()); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1); err != nil {
		t.Fatal(err)
	}
	if err := Guard(m.Holds, func() error { sum(m.Bytes()); return nil }); !errors.Is(err, ErrFault) {
		t.Errorf("read by the program: %v", err)
	}
	err := Guard(m.Holds, func() error {
		out, err := os.Create(filepath.Join(t.TempDir(), "copy"))
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = out.Write(m.Bytes()[2*os.Getpagesize():])
		return err
	})
	if !errors.Is(err, ErrFault) {
		t.Errorf("read by the kernel: %v", err)
	}
}

func TestGuardLeavesOtherFailuresAlone(t *testing.T) {
	m, path := open(t, 2*os.Getpagesize())
	cause := errors.New("cause")
	if err := Guard(m.Holds, func() error { return cause }); !errors.Is(err, cause) || errors.Is(err, ErrFault) {
		t.Errorf("error %v", err)
	}
	panics := func(fn func()) (r any) {
		defer func() { r = recover() }()
		_ = Guard(m.Holds, func() error { fn(); return nil })
		return nil
	}
	if r := panics(func() { panic("mine") }); r != "mine" {
		t.Errorf("panic %v", r)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	none := func(uintptr) bool { return false }
	if r := panics(func() {
		_ = Guard(none, func() error { sum(m.Bytes()); return nil })
		t.Error("a fault in memory of others passes")
	}); r != nil {
		t.Errorf("the outer guard, whose memory it is: %v", r)
	}
}

func TestGuardDoesNotAllocate(t *testing.T) {
	m, _ := open(t, 100)
	total := 0
	if n := testing.AllocsPerRun(100, func() {
		_ = Guard(m.Holds, func() error { total += sum(m.Bytes()); return nil })
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReleasedPagesComeBack(t *testing.T) {
	page := os.Getpagesize()
	m, _ := open(t, 64*page+7)
	want := sum(m.Bytes())
	before, ok := resident(m)
	for _, r := range [][2]int{{1, 64*page + 7}, {5, 6}, {-1, 1 << 60}, {10, 3}} {
		m.Release(r[0], r[1])
	}
	m.Release(1, 64*page)
	if after, _ := resident(m); ok && after > before/2 {
		t.Errorf("%d kB before, %d kB after", before, after)
	}
	if got := sum(m.Bytes()); got != want {
		t.Errorf("sum %d, not %d", got, want)
	}
}

// resident returns the kilobytes of the mapping that are in the process'
// memory, as Linux tells them.
func resident(m *Mapping) (kb int, ok bool) {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return 0, false
	}
	_, rest, ok := strings.Cut(string(smaps), address(m)+"-")
	if !ok {
		return 0, false
	}
	_, rest, _ = strings.Cut(rest, "Rss:")
	number, _, _ := strings.Cut(rest, "kB")
	kb, err = strconv.Atoi(strings.TrimSpace(number))
	return kb, err == nil
}

func TestEmptyFileAndClose(t *testing.T) {
	m, _ := open(t, 0)
	if len(m.Bytes()) != 0 || m.Holds(0) {
		t.Error("an empty file has bytes")
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	m, _ = open(t, 10)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if m.Bytes() != nil {
		t.Error("bytes after Close")
	}
	if _, err := Map(nil, -1); !errors.Is(err, ErrUnsupported) {
		t.Errorf("negative size: %v", err)
	}
}

// address is where the mapping begins, as smaps writes it.
func address(m *Mapping) string {
	return strconv.FormatUint(uint64(uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))), 16)
}
