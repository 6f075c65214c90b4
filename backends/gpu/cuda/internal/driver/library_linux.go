//go:build linux && !android && (amd64 || arm64)

package driver

import "github.com/ebitengine/purego"

const reachable = true

func load(path string) (uintptr, error) {
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func lookup(handle uintptr, name string) uintptr {
	p, err := purego.Dlsym(handle, name)
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
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}

func callSlice(fn uintptr, args []uintptr) uintptr {
	r, _, _ := purego.SyscallN(fn, args...)
	return r
}
