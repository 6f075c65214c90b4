package fake

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

//go:embed src
var sources embed.FS

// TB is what is needed of a testing.TB.
type TB interface {
	Helper()
	TempDir() string
	Skip(args ...any)
	Fatal(args ...any)
}

// Options are what a test wants of the libraries.
type Options struct {
	// Settings go to the file fake.conf, as "key=value". Those of the variable
	// TERN_FAKE_CUDA come after, and win: it has the same, with commas between.
	//
	//	version=12080    the driver's
	//	devices=1        how many
	//	capability=90    compute capability
	//	memory=BYTES     of a device
	//	oom=BYTES        allocations fail beyond so many
	//	lost=N           the device is lost at the Nth launch of a kernel
	//	lostcode=719     with that error
	//	order=reverse    of blocks and threads, or shuffle
	Settings []string
	Without  []string // functions that the libraries do not have
	Omit     []string // libraries that are not there, by file name
}

// NotChecked is what a test that is skipped begins its message with.
const NotChecked = "not checked here: "

// libraries, by the sources that they are made of.
var libraries = map[string][]string{
	"libcuda.so.1":      {"config.cpp", "memory.cpp", "exec.cpp", "fiber.cpp", "device.cpp", "stream.cpp", "module.cpp"},
	"libnvrtc.so.12":    {"nvrtc.cpp"},
	"libcublasLt.so.12": {"cublaslt.cpp"},
}

// Real reports whether tests run on the machine's own device, as TERN_CUDA=real
// asks for. What only a fake can do, such as being lost at the third launch, is
// then left out.
func Real() bool { return os.Getenv("TERN_CUDA") == "real" }

// RealLibraries is the directory in which the libraries of a real device are
// looked for first, "" if there is none.
func RealLibraries() string { return os.Getenv("TERN_CUDA_LIBRARIES") }

// Build returns a new directory with the three libraries, for driver.Search.
// Libraries of one directory share their state with nobody else's, though they
// are compiled once and then copied. Where there is no C++ compiler, or the
// system is not Linux, the test is skipped and says so; so is one that asks for a
// fake where tests run on a real device.
func Build(t TB, o Options) string {
	t.Helper()
	if Real() {
		t.Skip(NotChecked + "needs the fake device")
	}
	if runtime.GOOS != "linux" {
		t.Skip(NotChecked + "the fake CUDA libraries are for Linux")
	}
	cxx := compiler()
	if cxx == "" {
		t.Skip(NotChecked + "there is no C++ compiler (g++ or c++)")
	}
	built, err := compiled(t, cxx)
	if err != nil {
		t.Fatal("build the fake CUDA libraries: ", err)
	}
	dir := t.TempDir()
	if err := install(dir, built, o); err != nil {
		t.Fatal("fake CUDA libraries: ", err)
	}
	return dir
}

// Cache returns a directory for the kernels that these libraries compile: its name
// changes with their sources. It is for tests that run the same kernels again and
// again. Build is called first.
func Cache(t TB) string {
	t.Helper()
	built, err := compiled(t, compiler())
	if err != nil {
		t.Fatal("the fake CUDA libraries: ", err)
	}
	return filepath.Join(built, "kernels")
}

func compiler() string {
	for _, name := range []string{"g++", "c++"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// compiled returns a directory with the libraries, made by an earlier run from
// the same sources or now.
func compiled(t TB, cxx string) (string, error) {
	key, err := fingerprint(cxx)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "tern", "fake-cuda-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	parent := filepath.Dir(dir)
	if os.MkdirAll(parent, 0o755) != nil {
		parent = t.TempDir() // a cache that cannot be written: compile again each time
		dir = filepath.Join(parent, "built")
	}
	tmp, err := os.MkdirTemp(parent, ".fake-cuda-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := compile(tmp, cxx); err != nil {
		return "", err
	}
	err = os.Rename(tmp, dir)
	if _, stat := os.Stat(dir); stat == nil {
		return dir, nil // ours, or another test's that was first
	}
	return "", err
}

func fingerprint(cxx string) (string, error) {
	version, err := exec.Command(cxx, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", cxx, err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", cxx, version, runtime.GOARCH)
	err = fs.WalkDir(sources, "src", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:24], err
}

func compile(dir, cxx string) error {
	if err := os.CopyFS(dir, sources); err != nil {
		return err
	}
	src := filepath.Join(dir, "src")
	for lib, files := range libraries {
		args := []string{
			"-std=gnu++17", "-O2", "-Wall", "-U_FORTIFY_SOURCE", "-fvisibility=hidden", "-shared", "-fPIC",
			"-DTERN_CXX=\"" + cxx + "\"", "-o", filepath.Join(dir, lib),
		}
		for _, f := range files {
			args = append(args, filepath.Join(src, f))
		}
		if out, err := exec.Command(cxx, append(args, "-ldl", "-lpthread")...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", lib, err, out)
		}
	}
	return nil
}

// install copies what was compiled, so that it is loaded as a library of its
// own, and writes the settings.
func install(dir, built string, o Options) error {
	for lib := range libraries {
		data, err := os.ReadFile(filepath.Join(built, lib))
		if err != nil {
			return err
		}
		for _, name := range o.Without {
			data = hide(data, name)
		}
		if err := os.WriteFile(filepath.Join(dir, lib), data, 0o755); err != nil {
			return err
		}
	}
	for _, lib := range o.Omit {
		if err := os.Remove(filepath.Join(dir, lib)); err != nil {
			return err
		}
	}
	shim := filepath.Join(built, "src", "shim")
	if err := os.CopyFS(filepath.Join(dir, "shim"), os.DirFS(shim)); err != nil {
		return err
	}
	runtimeH, err := os.ReadFile(filepath.Join(built, "src", "runtime.h"))
	if err != nil {
		return err
	}
	conf := []byte(strings.Join(o.Settings, "\n") + "\n")
	return errors.Join(os.WriteFile(filepath.Join(dir, "shim", "runtime.h"), runtimeH, 0o644),
		os.WriteFile(filepath.Join(dir, "fake.conf"), conf, 0o644))
}

// hide gives a function another name in the library's table of them.
func hide(library []byte, name string) []byte {
	return bytes.ReplaceAll(library, []byte("\x00"+name+"\x00"), []byte("\x00"+"_"+name[1:]+"\x00"))
}

// Fault is what the fake driver said of the last fault of a kernel, "" if there
// was none.
func Fault(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "fault.txt"))
	if err != nil {
		return ""
	}
	return string(text)
}
