package process

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheRingKeepsTheLastWholeLines(t *testing.T) {
	for _, c := range []struct {
		writes []string
		want   string
	}{
		{nil, ""},
		{[]string{"one\n", "two\n"}, "one\ntwo"},
		{[]string{"a long first line\n", "second\n", "third"}, "second\nthird"},
		{[]string{strings.Repeat("x", 100)}, strings.Repeat("x", 20)},
		{[]string{"red \x1b[31m\n"}, "red ?[31m"},
		{[]string{"\xff\xfe ok"}, "? ok"},
	} {
		var all bytes.Buffer
		r := newRing(20, &all)
		for _, w := range c.writes {
			if n, err := r.Write([]byte(w)); n != len(w) || err != nil {
				t.Fatal(n, err)
			}
		}
		if got := r.String(); got != c.want {
			t.Errorf("%q keeps %q, want %q", c.writes, got, c.want)
		}
		if got := all.String(); got != strings.Join(c.writes, "") {
			t.Errorf("passes on %q", got)
		}
	}
}

func TestOnlyListedVariablesPass(t *testing.T) {
	got := environment([]string{"PATH=/bin", "HOME=/h", "LD_PRELOAD=/evil.so", "AWS_SECRET_ACCESS_KEY=x", "PATHOLOGY=1", "TERN_PLUGIN=x", "=", "LANG=C", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_HOME=/cuda", "CUDA_SECRET=x"})
	if want := []string{"PATH=/bin", "HOME=/h", "LANG=C", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_HOME=/cuda"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheImageIsTheHashedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	data := bytes.Repeat([]byte("not a program "), 220_000)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:])
	im, err := load(path, want)
	if err != nil {
		t.Fatal(err)
	}
	defer im.close()
	if im.sum != want {
		t.Errorf("hash %s, want %s", im.sum, want)
	}
	if runtime.GOOS == "linux" {
		if im.file == nil {
			t.Fatal("no sealed copy")
		}
		if _, err := im.file.WriteAt([]byte("x"), 0); err == nil {
			t.Error("the copy can be written")
		}
		if err := im.file.Truncate(0); err == nil {
			t.Error("the copy can be cut")
		}
		if err := os.WriteFile(path, []byte("another"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(im.path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the copy changed with the file: %v", err)
		}
	}
	if _, err := load(path, strings.Repeat("ab", 32)); !errors.Is(err, ErrPin) {
		t.Errorf("another hash: %v, want ErrPin", err)
	}
	for _, bad := range []string{filepath.Dir(path), path + ".missing", os.DevNull} {
		if _, err := load(bad, ""); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// What runs is the copy: the program inherits its files from descriptor 3 on,
// however many there are, and not the copy itself.
func TestFilesAreInheritedInOrder(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "files")
	image := loading(sh, "")
	im, err := image()
	if err != nil {
		t.Fatal(err)
	}
	defer im.close()
	var files []*os.File
	for range 3 {
		f, err := os.CreateTemp(t.TempDir(), "f")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		files = append(files, f)
	}
	r := &runner{image: image, files: files, path: path, tail: newRing(100, nil)}
	if _, err := r.open(nil, &exec.Cmd{}, ""); err != nil {
		t.Fatal(err)
	}
	r.cmd.Args = []string{"sh", "-c", "echo a >&3; echo b >&4; echo c >&5; echo done >&2; cat"} // cat ends: no standard input
	if err := r.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = new(bytes.Buffer).ReadFrom(r.Stdout()) }()
	_, _ = new(bytes.Buffer).ReadFrom(r.Stderr())
	wait(r.done, 10*time.Second)
	if r.exit != "exit status 0" || r.tail.String() != "done" {
		t.Errorf("%q, standard error %q", r.exit, r.tail)
	}
	for i, f := range files {
		if got, err := os.ReadFile(f.Name()); err != nil || string(got) != string(rune('a'+i))+"\n" {
			t.Errorf("file %d holds %q, %v", i, got, err)
		}
	}
	r.killGroup() // of a process that is gone: nothing happens
}

func TestWhoMustUpdateIsSaid(t *testing.T) {
	p := &Process{path: "/x/tern-plugin-y", run: &runner{}, tail: newRing(10, nil)}
	for msg, hint := range map[string]string{
		"incompatible API version with plugin. Plugin version: 2, Client versions: [1]": "version 2, this program has version 1",
		"incompatible API version with plugin. Plugin version: 0, Client versions: [1]": "version 0, this program has version 1",
	} {
		if err := p.explain(errors.New(msg), time.Second); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: %v", msg, err)
		}
	}
}
