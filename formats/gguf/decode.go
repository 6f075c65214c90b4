package gguf

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"slices"
)

// Limits of what a header may hold, far above real files (a vocabulary of
// 256,000 pieces with its merges is about 12 MB).
const (
	maxHeader   = 512 << 20 // bytes before the tensors' data
	maxText     = 64 << 20  // bytes of a string value
	maxElements = 16 << 20  // of an array
	maxEntries  = 1 << 20   // tensors, and keys
	maxNested   = 4         // arrays in arrays
	chunk       = 64 << 10  // bytes read before more is allocated
)

// decoder reads a header. The first error sticks: after it every method
// returns zeros, and the caller looks at err where it matters.
type decoder struct {
	r   *bufio.Reader
	pos int64
	end int64  // of the file, or of the longest header allowed
	at  string // what is being read, for errors
	err error
}

func newDecoder(r io.ReaderAt, size int64) *decoder {
	end := min(size, maxHeader)
	return &decoder{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, end), chunk), end: end}
}

func (d *decoder) left() int64 { return d.end - d.pos }

// fail records an error about what is being read, unless there is one.
func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed("%s at byte %d: "+format, append([]any{d.at, d.pos}, args...)...)
	}
}

// take fills p.
func (d *decoder) take(p []byte) {
	if d.err != nil {
		return
	}
	if int64(len(p)) > d.left() {
		d.fail("%d bytes wanted, %d left in the header", len(p), d.left())
		return
	}
	n, err := io.ReadFull(d.r, p)
	d.pos += int64(n)
	if err != nil {
		d.fail("reading: %v", err)
	}
}

func (d *decoder) u32() uint32 {
	var b [4]byte
	d.take(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (d *decoder) u64() uint64 {
	var b [8]byte
	d.take(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// count reads a u64 that counts things of at least size bytes each; so many
// must fit in what is left, and be at most limit.
func (d *decoder) count(what string, size, limit int) int {
	n := d.u64()
	switch {
	case d.err != nil:
		return 0
	case n > uint64(d.left())/uint64(size):
		d.fail("%d %s cannot fit in the %d bytes left of the header", n, what, d.left())
		return 0
	case n > uint64(limit):
		d.fail("%d %s, at most %d are allowed", n, what, limit)
		return 0
	}
	return int(n)
}

// bytes reads n bytes, which the caller has held against left. Memory grows
// with what is really there.
func (d *decoder) bytes(n int) []byte {
	var out []byte
	for len(out) < n && d.err == nil {
		m := min(n-len(out), max(chunk, len(out)))
		out = append(out, make([]byte, m)...)
		d.take(out[len(out)-m:])
	}
	return out
}

// str reads a string of at most limit bytes.
func (d *decoder) str(limit int) string {
	n := d.count("bytes of text", 1, limit)
	if n <= 64 {
		var b [64]byte
		d.take(b[:n])
		if d.err != nil {
			return ""
		}
		return string(b[:n])
	}
	return string(d.bytes(n))
}

// value reads a value of type t, inside depth arrays.
func (d *decoder) value(t ValueType, depth int) any {
	switch t {
	case TypeUint8, TypeInt8, TypeUint16, TypeInt16, TypeUint32, TypeInt32, TypeFloat32,
		TypeBool, TypeUint64, TypeInt64, TypeFloat64:
		var b [8]byte
		d.take(b[:valueTypes[t].bytes])
		return d.scalar(t, b)
	case TypeString:
		return d.str(maxText)
	case TypeArray:
		return d.array(depth + 1)
	}
	d.fail("unknown value type %d", uint32(t))
	return nil
}

// scalar decodes a little-endian number.
func (d *decoder) scalar(t ValueType, b [8]byte) any {
	u := binary.LittleEndian.Uint64(b[:])
	switch t {
	case TypeUint8:
		return uint8(u)
	case TypeInt8:
		return int8(u)
	case TypeUint16:
		return uint16(u)
	case TypeInt16:
		return int16(u)
	case TypeUint32:
		return uint32(u)
	case TypeInt32:
		return int32(u)
	case TypeFloat32:
		return math.Float32frombits(uint32(u))
	case TypeBool:
		if u > 1 {
			d.fail("a bool is %d, neither 0 nor 1", u)
		}
		return u == 1
	case TypeInt64:
		return int64(u)
	case TypeFloat64:
		return math.Float64frombits(u)
	}
	return u
}

// array reads an array's element type, length and elements.
func (d *decoder) array(depth int) any {
	if depth > maxNested {
		d.fail("arrays are nested more than %d deep", maxNested)
		return nil
	}
	t := ValueType(d.u32())
	if d.err == nil && t >= numValueTypes {
		d.fail("unknown type %d of an array's elements", uint32(t))
	}
	if d.err != nil {
		return nil
	}
	n := d.count("elements of type "+t.String(), valueTypes[t].bytes, maxElements)
	switch t {
	case TypeUint8:
		return numbers[uint8](d, n)
	case TypeInt8:
		return numbers[int8](d, n)
	case TypeUint16:
		return numbers[uint16](d, n)
	case TypeInt16:
		return numbers[int16](d, n)
	case TypeUint32:
		return numbers[uint32](d, n)
	case TypeInt32:
		return numbers[int32](d, n)
	case TypeFloat32:
		return numbers[float32](d, n)
	case TypeUint64:
		return numbers[uint64](d, n)
	case TypeInt64:
		return numbers[int64](d, n)
	case TypeFloat64:
		return numbers[float64](d, n)
	case TypeBool:
		return d.bools(n)
	case TypeString:
		return list(d, n, func() string { return d.str(maxText) })
	}
	return list(d, n, func() any { return d.array(depth + 1) })
}

// numbers reads n fixed-size elements.
func numbers[E any](d *decoder, n int) []E {
	var e E
	size := binary.Size(e)
	raw := d.bytes(n * size)
	if d.err != nil {
		return nil
	}
	out := make([]E, n)
	if _, err := binary.Decode(raw, binary.LittleEndian, out); err != nil {
		d.fail("decoding: %v", err)
	}
	return out
}

func (d *decoder) bools(n int) []bool {
	raw := d.bytes(n)
	out := make([]bool, len(raw))
	for i, b := range raw {
		if b > 1 {
			d.fail("a bool is %d, neither 0 nor 1", b)
			return nil
		}
		out[i] = b == 1
	}
	return out
}

// list reads n elements of no fixed size, growing with what is really there.
func list[E any](d *decoder, n int, read func() E) []E {
	out := make([]E, 0, min(n, chunk/16))
	for len(out) < n && d.err == nil {
		if len(out) == cap(out) { // append would take five times the memory in all
			out = slices.Grow(out, min(len(out), n-len(out)))
		}
		out = append(out, read())
	}
	return out
}
