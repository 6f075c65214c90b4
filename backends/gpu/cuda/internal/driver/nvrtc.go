package driver

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// NVRTC compiles CUDA C++ for devices. It needs no device.
type NVRTC struct {
	fn           nvrtcFunctions
	path         string
	major, minor int
	archs        []int
}

// Sizes of what NVRTC gives back are bounded before memory is taken for it.
const (
	maxArchs   = 1024
	maxProgram = 1 << 30
)

// OpenNVRTC loads NVRTC. ErrNoNVRTC says what was tried.
func OpenNVRTC(s Search) (*NVRTC, error) {
	handle, path, err := libnvrtc.open(s)
	if err != nil {
		return nil, err
	}
	n := &NVRTC{path: path}
	if missing := resolve(handle, &n.fn); missing != "" {
		return nil, errors.WithHint(errors.Wrapf(ErrNoNVRTC, "%s has no function %s", path, missing), libnvrtc.hint)
	}
	var major, minor, count int32
	if err := n.check("nvrtcVersion", call(n.fn.Version, uintptr(unsafe.Pointer(&major)), uintptr(unsafe.Pointer(&minor)))); err != nil {
		return nil, err
	}
	n.major, n.minor = int(major), int(minor)
	if err := n.check("nvrtcGetNumSupportedArchs", call(n.fn.GetNumSupportedArchs, uintptr(unsafe.Pointer(&count)))); err != nil {
		return nil, err
	}
	if count < 1 || count > maxArchs {
		return nil, errors.Wrapf(ErrNoNVRTC, "%s compiles for %d architectures", path, count)
	}
	archs := make([]int32, count)
	if err := n.check("nvrtcGetSupportedArchs", call(n.fn.GetSupportedArchs, uintptr(unsafe.Pointer(&archs[0])))); err != nil {
		return nil, err
	}
	for _, a := range archs {
		n.archs = append(n.archs, int(a))
	}
	slices.Sort(n.archs)
	return n, nil
}

// Version is NVRTC's own.
func (n *NVRTC) Version() (major, minor int) { return n.major, n.minor }

// Path is the file, or the name that the system's loader knew.
func (n *NVRTC) Path() string { return n.path }

// Archs lists the architectures that it compiles for, ascending: 90 is
// compute capability 9.0.
func (n *NVRTC) Archs() []int { return slices.Clone(n.archs) }

func (n *NVRTC) check(name string, r uintptr) error {
	code := int(int32(r))
	if code == 0 {
		return nil
	}
	text := callString(n.fn.GetErrorString, uintptr(code))
	if text == "" {
		text = fmt.Sprintf("NVRTC error %d", code)
	}
	e := &Error{Call: name, Code: code, Name: text}
	if code == 6 { // NVRTC_ERROR_COMPILATION
		e.kind = ErrCompile
	}
	return hinted(e)
}

// callString calls a function that returns a string of the library's own.
func callString(fn uintptr, args ...uintptr) string {
	r := call(fn, args...)
	return cString(*(**byte)(unsafe.Pointer(&r)))
}

// Source is a program for NVRTC.
type Source struct {
	Name    string            // of the file, for messages
	Code    string            // CUDA C++
	Headers map[string]string // contents by the names that the code includes them under
}

// Program is what became of a source.
type Program struct {
	Code []byte // a cubin, or PTX that ends with a zero byte
	Log  string // the compiler's warnings
}

// Compile compiles a source. The options are NVRTC's; with
// --gpu-architecture=sm_90 the code is a cubin, and with compute_90 PTX. An error
// of the source is ErrCompile, with the compiler's messages.
func (n *NVRTC) Compile(src Source, options ...string) (*Program, error) {
	prog, err := n.create(src)
	if err != nil {
		return nil, err
	}
	defer func() { call(n.fn.DestroyProgram, uintptr(unsafe.Pointer(&prog))) }()
	opts := newStrings(options)
	r := call(n.fn.CompileProgram, prog, uintptr(len(options)), opts.pointer())
	runtime.KeepAlive(opts)
	log, logErr := n.bytes("nvrtcGetProgramLog", n.fn.GetProgramLogSize, n.fn.GetProgramLog, prog)
	text := string(bytes.TrimRight(log, "\x00\n"))
	if err := n.check("nvrtcCompileProgram", r); err != nil {
		return nil, errors.Wrapf(err, "%s\n%s", src.Name, text)
	}
	if logErr != nil {
		return nil, logErr
	}
	code, err := n.bytes("nvrtcGetCUBIN", n.fn.GetCUBINSize, n.fn.GetCUBIN, prog)
	if err != nil || len(code) == 0 { // for a virtual architecture there is no cubin
		code, err = n.bytes("nvrtcGetPTX", n.fn.GetPTXSize, n.fn.GetPTX, prog)
	}
	if err != nil {
		return nil, err
	}
	return &Program{Code: code, Log: text}, nil
}

func (n *NVRTC) create(src Source) (uintptr, error) {
	var names, contents []string
	for name := range src.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		contents = append(contents, src.Headers[name])
	}
	text, includes, bodies := newStrings([]string{src.Code, src.Name}), newStrings(names), newStrings(contents)
	var prog uintptr
	r := call(n.fn.CreateProgram, uintptr(unsafe.Pointer(&prog)), uintptr(unsafe.Pointer(text[0])), uintptr(unsafe.Pointer(text[1])),
		uintptr(len(names)), bodies.pointer(), includes.pointer())
	runtime.KeepAlive(text)
	runtime.KeepAlive(includes)
	runtime.KeepAlive(bodies)
	return prog, n.check("nvrtcCreateProgram", r)
}

// bytes asks for the size of something, and then for it.
func (n *NVRTC) bytes(name string, size, get, prog uintptr) ([]byte, error) {
	var count uint64
	if err := n.check(name+"Size", call(size, prog, uintptr(unsafe.Pointer(&count)))); err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, nil
	}
	if count > maxProgram {
		return nil, errors.Newf("%s: %d bytes", name, count)
	}
	out := make([]byte, count)
	return out, n.check(name, call(get, prog, uintptr(unsafe.Pointer(&out[0]))))
}

// cStrings are strings as C has them.
type cStrings []*byte

func newStrings(all []string) cStrings {
	var out cStrings
	for _, s := range all {
		b := append([]byte(s), 0)
		out = append(out, &b[0])
	}
	return out
}

func (s cStrings) pointer() uintptr {
	if len(s) == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(&s[0]))
}
