package driver

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"

	"github.com/cockroachdb/errors"
)

// Search says where libraries are looked for.
type Search struct {
	Dir     string // a directory that is looked into first; "" for none
	Only    bool   // look nowhere else
	Version int    // the driver's, as Driver.Version: NVRTC and cuBLASLt must not be of a later major version; 0 for any
}

// library is one of NVIDIA's libraries.
type library struct {
	what   string
	files  []versioned // newest first
	subdir bool        // part of the toolkit, which CUDA_PATH and CUDA_HOME point to
	pip    []string    // where NVIDIA's Python packages have it, below the directory nvidia
	none   error
	hint   string
}

// versioned is a file of a library, and the major version of CUDA it came with.
type versioned struct {
	file  string
	major int
}

var (
	libcuda = library{
		what: "libcuda", none: ErrNoDriver,
		files: pick([]versioned{{"libcuda.so.1", 0}}, []versioned{{"nvcuda.dll", 0}}),
		hint:  "install NVIDIA's driver, 525 or later, or say where the library is",
	}
	libnvrtc = library{
		what: "NVRTC", none: ErrNoNVRTC, subdir: true, pip: []string{"cu13/lib", "cuda_nvrtc/lib"},
		files: pick(
			[]versioned{{"libnvrtc.so.13", 13}, {"libnvrtc.so.12", 12}, {"libnvrtc.so.11.2", 11}},
			[]versioned{{"nvrtc64_130_0.dll", 13}, {"nvrtc64_120_0.dll", 12}, {"nvrtc64_112_0.dll", 11}},
		),
		hint: "install the CUDA toolkit, or the Python package nvidia-cuda-nvrtc (nvidia-cuda-nvrtc-cu12 for CUDA 12), and say in which directory the library is",
	}
	libcublas = library{
		what: "cuBLASLt", none: ErrNoCuBLAS, subdir: true, pip: []string{"cu13/lib", "cublas/lib"},
		files: pick(
			[]versioned{{"libcublasLt.so.13", 13}, {"libcublasLt.so.12", 12}},
			[]versioned{{"cublasLt64_13.dll", 13}, {"cublasLt64_12.dll", 12}},
		),
		hint: "install the CUDA toolkit, or the Python package nvidia-cublas (nvidia-cublas-cu12 for CUDA 12), and say in which directory the library is",
	}
)

func pick(unix, windows []versioned) []versioned {
	if runtime.GOOS == "windows" {
		return windows
	}
	return unix
}

// candidates lists what is tried, in order: the directory that was named, where
// Python's packages have the library if that is their directory, what the system's
// loader finds, the toolkit's usual places.
func (l library) candidates(s Search) []string {
	var dirs []string
	if s.Dir != "" {
		dirs = append(dirs, s.Dir)
		for _, sub := range l.pip {
			dirs = append(dirs, filepath.Join(s.Dir, filepath.FromSlash(sub)))
		}
	}
	if !s.Only {
		dirs = append(dirs, "")
		if l.subdir {
			dirs = append(dirs, toolkits()...)
		} else if runtime.GOOS == "linux" {
			dirs = append(dirs, "/usr/lib/wsl/lib", "/usr/local/nvidia/lib64") // of WSL, and where clusters put the driver into containers
		}
	}
	var all []string
	for _, dir := range dirs {
		for _, f := range l.files {
			if s.Version == 0 || f.major <= s.Version/1000 {
				all = append(all, filepath.Join(dir, f.file))
			}
		}
	}
	return all
}

func toolkits() []string {
	var dirs []string
	sub := "lib64"
	if runtime.GOOS == "windows" {
		sub = "bin"
	}
	for _, v := range []string{"CUDA_PATH", "CUDA_HOME"} {
		if root := os.Getenv(v); filepath.IsAbs(root) {
			dirs = append(dirs, filepath.Join(root, sub))
		}
	}
	if runtime.GOOS == "linux" {
		dirs = append(dirs, "/usr/local/cuda/lib64", "/opt/cuda/lib64")
	}
	return dirs
}

// open loads the first candidate that is there, and returns its handle and
// where it was found.
func (l library) open(s Search) (handle uintptr, path string, err error) {
	if !reachable {
		err := errors.Wrapf(l.none, "%s on %s/%s", l.what, runtime.GOOS, runtime.GOARCH)
		return 0, "", errors.WithHint(err, "CUDA devices are used on Linux and Windows, on amd64 and arm64")
	}
	if s.Dir != "" && !filepath.IsAbs(s.Dir) {
		if s.Dir, err = filepath.Abs(s.Dir); err != nil {
			return 0, "", errors.Wrapf(err, "directory of %s", l.what)
		}
	}
	var tried []string
	for _, path := range l.candidates(s) {
		handle, err := load(path)
		if err == nil {
			return handle, path, nil
		}
		tried = append(tried, reason(path, err))
	}
	return 0, "", errors.WithHint(errors.Wrapf(l.none, "tried %s", strings.Join(tried, "; ")), l.hint)
}

// reason is why a candidate was not taken. A file that is not there needs no
// words of the loader; one that is there and cannot be loaded does.
func reason(path string, err error) string {
	if !filepath.IsAbs(path) {
		return path
	}
	if _, e := os.Stat(path); e != nil {
		return path
	}
	return path + " (" + err.Error() + ")"
}

// resolve fills the fields of the struct at table, each a uintptr tagged with a
// function's name. It returns the name of one that the library lacks, or "".
func resolve(handle uintptr, table any) (missing string) {
	v := reflect.ValueOf(table).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("sym")
		p := lookup(handle, name)
		if p == 0 {
			return name
		}
		v.Field(i).SetUint(uint64(p))
	}
	return ""
}
