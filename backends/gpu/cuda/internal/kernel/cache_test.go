package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
)

func TestAKeyDependsOnEverythingThatCodeIsMadeFrom(t *testing.T) {
	base := driver.Source{Name: "a.cu", Code: "code", Headers: map[string]string{"h": "x", "i": "y"}}
	seen := map[key]string{}
	for name, k := range map[string]key{
		"base":            keyOf("12.8", base, []string{"-a", "-b"}),
		"another NVRTC":   keyOf("12.9", base, []string{"-a", "-b"}),
		"another code":    keyOf("12.8", driver.Source{Name: "a.cu", Code: "cod", Headers: base.Headers}, []string{"-a", "-b"}),
		"another name":    keyOf("12.8", driver.Source{Name: "b.cu", Code: "code", Headers: base.Headers}, []string{"-a", "-b"}),
		"options apart":   keyOf("12.8", base, []string{"-a-b"}),
		"options swapped": keyOf("12.8", base, []string{"-b", "-a"}),
		"headers swapped": keyOf("12.8", driver.Source{Name: "a.cu", Code: "code", Headers: map[string]string{"h": "y", "i": "x"}}, []string{"-a", "-b"}),
		"option of code":  keyOf("12.8", driver.Source{Name: "a.cu", Headers: base.Headers}, []string{"code", "-a", "-b"}),
	} {
		if other, ok := seen[k]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[k] = name
	}
	for range 10 { // the order of a map does not count
		if _, ok := seen[keyOf("12.8", base, []string{"-a", "-b"})]; !ok {
			t.Fatal("the same source has another key")
		}
	}
}

func TestAnEntryIsGivenBackOnlyIfItIsWhole(t *testing.T) {
	c := &Cache{Dir: filepath.Join(t.TempDir(), "new", "cuda")}
	k, code := key{1}, bytes.Repeat([]byte("code"), 1000)
	if _, ok := c.get(k); ok {
		t.Fatal("found in an empty cache")
	}
	c.put(k, code)
	whole, err := os.ReadFile(c.path(k))
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{
		"empty": nil, "cut": whole[:len(whole)-1], "head only": whole[:90], "longer": append(bytes.Clone(whole), 0),
		"a bit of the code": flip(whole, len(whole)-5), "a bit of the sum": flip(whole, len(magic)+40),
		"another key": flip(whole, len(magic)), "another format": flip(whole, len(magic)-2),
	}
	for name, data := range damage {
		if err := os.WriteFile(c.path(k), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.get(k); ok {
			t.Errorf("%s: was taken", name)
		}
		c.put(k, code)
		if got, ok := c.get(k); !ok || !bytes.Equal(got, code) {
			t.Errorf("%s: was not written again", name)
		}
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

func TestTheCacheKeepsWhatWasUsedLast(t *testing.T) {
	c := &Cache{Dir: t.TempDir(), Limit: 3500}
	code := make([]byte, 1000)
	for i := range 3 {
		c.put(key{byte(i)}, code)
		old := time.Now().Add(time.Duration(i-10) * time.Minute)
		if err := os.Chtimes(c.path(key{byte(i)}), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.get(key{0}); !ok { // the oldest, and now the last used
		t.Fatal("an entry is gone within the limit")
	}
	left := filepath.Join(c.Dir, ".1"+suffix+".tmp-2")
	if err := os.WriteFile(left, code, 0o644); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(left, long, long); err != nil {
		t.Fatal(err)
	}
	c.put(key{3}, code)
	for i, want := range []bool{true, false, true, true} {
		if _, ok := c.get(key{byte(i)}); ok != want {
			t.Errorf("entry %d: there is %v, want %v", i, ok, want)
		}
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Error("what a killed writer left is still there")
	}
}

func TestACacheThatCannotBeWrittenIsNoError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Cache{nil, {Dir: filepath.Join(file, "below")}} {
		c.put(key{1}, []byte("code"))
		if _, ok := c.get(key{1}); ok {
			t.Error("kept nowhere, and found")
		}
	}
}

func FuzzEntry(f *testing.F) {
	var whole bytes.Buffer
	k := key{7}
	if err := encode(&whole, k, []byte("code")); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[:40])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		code, ok := decode(bytes.NewReader(data), k)
		if !ok {
			return
		}
		var again bytes.Buffer
		if err := encode(&again, k, code); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%q was taken for %q", data, code)
		}
	})
}
