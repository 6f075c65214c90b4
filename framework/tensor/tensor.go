package tensor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// MaxElements bounds the number of elements a type read from text or from a
// file may have, so that a hostile shape cannot overflow or exhaust memory.
const MaxElements = 1 << 40

// Shape is a list of dimensions, outermost first.
type Shape []int

// Numel returns the number of elements, 1 for the empty shape.
func (s Shape) Numel() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether s and u have the same dimensions.
func (s Shape) Equal(u Shape) bool { return slices.Equal(s, u) }

// Type is the static type of a tensor.
type Type struct {
	DType DType
	Shape Shape
}

// T is shorthand for Type{d, dims}.
func T(d DType, dims ...int) Type { return Type{d, dims} }

// Bytes returns the storage size. Block encodings pack each innermost row on
// its own, so the last dimension is rounded up to a whole block.
func (t Type) Bytes() int {
	block := t.DType.Block()
	if block == 1 || len(t.Shape) == 0 {
		return t.Shape.Numel() * t.DType.Bytes()
	}
	last := len(t.Shape) - 1
	rowUnits := (t.Shape[last] + block - 1) / block
	return t.Shape[:last].Numel() * rowUnits * t.DType.Bytes()
}

// Equal reports whether t and u are the same type.
func (t Type) Equal(u Type) bool { return t.DType == u.DType && t.Shape.Equal(u.Shape) }

// String returns the text form, such as "f32[8,256]".
func (t Type) String() string {
	b := append(make([]byte, 0, 24), t.DType.String()...)
	b = append(b, '[')
	for i, d := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	return string(append(b, ']'))
}

// Check reports whether t is a well-formed type: a known dtype, positive
// dimensions, at most eight of them, and at most MaxElements elements.
func (t Type) Check() error {
	if t.DType == Invalid || t.DType >= numDTypes {
		return fmt.Errorf("tensor: invalid dtype %d", t.DType)
	}
	if len(t.Shape) > 8 {
		return fmt.Errorf("tensor: %d dimensions, at most 8 are allowed", len(t.Shape))
	}
	n := 1
	for _, d := range t.Shape {
		if d <= 0 {
			return fmt.Errorf("tensor: dimension %d of %v is not positive", d, t)
		}
		if n > MaxElements/d {
			return fmt.Errorf("tensor: %v has more than %d elements", t, MaxElements)
		}
		n *= d
	}
	return nil
}

// ParseType parses the form that String prints and checks it.
func ParseType(s string) (Type, error) {
	name, rest, ok := strings.Cut(s, "[")
	dims, closed := strings.CutSuffix(rest, "]")
	if !ok || !closed {
		return Type{}, fmt.Errorf("tensor: bad type %q", s)
	}
	d, err := ParseDType(name)
	if err != nil {
		return Type{}, err
	}
	t := Type{DType: d, Shape: Shape{}}
	if dims != "" {
		for f := range strings.SplitSeq(dims, ",") {
			n, err := strconv.Atoi(f)
			if err != nil {
				return Type{}, fmt.Errorf("tensor: bad dimension %q in %q", f, s)
			}
			t.Shape = append(t.Shape, n)
		}
	}
	return t, t.Check()
}

// Tensor is a dense row-major tensor in this process's memory.
type Tensor struct {
	Type
	Data []byte // Type.Bytes() long, 64-byte aligned when made by New
}

// New returns a zeroed tensor whose data starts on a 64-byte boundary.
func New(t Type) *Tensor { return &Tensor{Type: t, Data: AlignedBytes(t.Bytes())} }

// align is the boundary that the data of tensors start on, in bytes.
const align = 64

// Aligned reports whether b starts where AlignedBytes would have it.
func Aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%align == 0
}

// AlignedBytes returns n zero bytes that start on a 64-byte boundary.
func AlignedBytes(n int) []byte {
	buf := SparseBytes(n)
	adviseHuge(buf)
	return buf
}

// SparseBytes is AlignedBytes of which much may never be touched: what is not
// takes no memory.
func SparseBytes(n int) []byte {
	buf := make([]byte, n+align)
	skip := int(-uintptr(unsafe.Pointer(&buf[0])) % align)
	return buf[skip : skip+n : skip+n]
}

// FromF32 returns an f32 tensor holding a copy of vals.
func FromF32(vals []float32, dims ...int) *Tensor {
	t := New(T(F32, dims...))
	copy(t.F32(), vals)
	return t
}

// FromF64 returns an f64 tensor holding a copy of vals.
func FromF64(vals []float64, dims ...int) *Tensor {
	t := New(T(F64, dims...))
	copy(t.F64(), vals)
	return t
}

// FromI32 returns an i32 tensor holding a copy of vals.
func FromI32(vals []int32, dims ...int) *Tensor {
	t := New(T(I32, dims...))
	copy(t.I32(), vals)
	return t
}

// Clone returns a deep copy.
func (t *Tensor) Clone() *Tensor {
	u := New(t.Type)
	copy(u.Data, t.Data)
	return u
}

// F32 views the data as float32, without copying.
func (t *Tensor) F32() []float32 { return View[float32](t.Data) }

// F64 views the data as float64, without copying.
func (t *Tensor) F64() []float64 { return View[float64](t.Data) }

// I32 views the data as int32, without copying.
func (t *Tensor) I32() []int32 { return View[int32](t.Data) }

// I8 views the data as int8, without copying.
func (t *Tensor) I8() []int8 { return View[int8](t.Data) }

// U16 views the data as uint16: the bits of f16 and bf16 elements.
func (t *Tensor) U16() []uint16 { return View[uint16](t.Data) }

// Floats returns a float64 copy of the elements of an f32, f64, f16 or bf16
// tensor, for reports and tests.
func (t *Tensor) Floats() []float64 {
	out := make([]float64, t.Shape.Numel())
	switch t.DType {
	case F64:
		copy(out, t.F64())
	case F32:
		for i, v := range t.F32() {
			out[i] = float64(v)
		}
	case F16:
		for i, v := range t.U16() {
			out[i] = float64(F16ToF32(v))
		}
	case BF16:
		for i, v := range t.U16() {
			out[i] = float64(math.Float32frombits(uint32(v) << 16))
		}
	default:
		panic("tensor: Floats of " + t.Type.String())
	}
	return out
}

// View reinterprets b as a slice of E; b must be aligned for E.
func View[E any](b []byte) []E {
	var e E
	n := len(b) / int(unsafe.Sizeof(e))
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*E)(unsafe.Pointer(&b[0])), n)
}
