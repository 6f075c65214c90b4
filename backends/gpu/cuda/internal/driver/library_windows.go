//go:build windows && (amd64 || arm64)

package driver

import (
	"path/filepath"
	"syscall"

	"golang.org/x/sys/windows"
)

const reachable = true

// load takes a bare name from the system's directory alone, and a library with
// a path together with what lies beside it: never from the working directory.
func load(path string) (uintptr, error) {
	flags := uintptr(windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if filepath.IsAbs(path) {
		flags |= windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR
	}
	h, err := windows.LoadLibraryEx(path, 0, flags)
	return uintptr(h), err
}

func lookup(handle uintptr, name string) uintptr {
	p, err := windows.GetProcAddress(windows.Handle(handle), name)
	if err != nil {
		return 0
	}
	return p
}

// call calls a C function of integers and pointers. A pointer that is converted
// in its arguments stays where it is until the call returns. The arguments are
// allocated: fast is for what is called in a step.
//
//go:uintptrescapes
func call(fn uintptr, args ...uintptr) uintptr {
	r, _, _ := syscall.SyscallN(fn, args...)
	return r
}

func callSlice(fn uintptr, args []uintptr) uintptr {
	r, _, _ := syscall.SyscallN(fn, args...)
	return r
}
