package gguf

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/atomicfile"
)

// version is what Write writes.
const version = 3

// TensorInfo is one tensor to write. Data is called once, in the order of the
// tensors, and must write Type.Bytes(Shape) bytes.
type TensorInfo struct {
	Name  string
	Type  ggml.Type
	Shape tensor.Shape // outermost first
	Data  func(w io.Writer) error
}

// FromTensor describes a tensor of a plain type (f32, f16, bf16, f64, i8,
// i32), written as it is; ErrType for others.
func FromTensor(name string, t *tensor.Tensor) (TensorInfo, error) {
	tt, err := ggml.TypeOf(t.DType)
	if err != nil {
		return TensorInfo{}, errors.Wrapf(errors.Mark(err, ErrType), "tensor %q", name)
	}
	return FromBytes(name, tt, t.Shape, t.Data), nil
}

// FromBytes describes a tensor of any type whose bytes are at hand.
func FromBytes(name string, t ggml.Type, shape tensor.Shape, data []byte) TensorInfo {
	return TensorInfo{name, t, shape, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// WriteFile writes a file whole or not at all, replacing one at path. Errors
// are those of Write and of the file system.
func WriteFile(path string, meta []KV, tensors []TensorInfo) error {
	return atomicfile.Write(path, func(w io.Writer) error { return Write(w, meta, tensors) })
}

// Write writes a version 3 file: metadata and tensors in the order given,
// tensor data aligned as the metadata's general.alignment says (32 without
// it) and padded with zeros, the last tensor's too, as ggml demands. A tensor
// without dimensions is written as [1]. The same arguments give the same bytes.
// Everything but the tensors' data is checked before the first byte is
// written. Errors are ErrFormat, ErrType for a metadata value of no known type,
// what Data returns and what w returns.
func Write(w io.Writer, meta []KV, tensors []TensorInfo) error {
	head, offsets, align, err := layout(meta, tensors)
	if err != nil {
		return err
	}
	out := &counter{w: bufio.NewWriterSize(w, 1<<20)}
	if _, err := out.Write(head); err != nil {
		return errors.Wrap(err, "write gguf header")
	}
	for i, t := range tensors {
		if err := out.zeros(int64(len(head)) + offsets[i] - out.n); err != nil {
			return errors.Wrap(err, "write gguf padding")
		}
		start := out.n
		out.room, _ = t.Type.Bytes(t.Shape) // layout has checked it
		size := out.room
		if err := t.Data(&limited{out}); err != nil {
			return errors.Wrapf(err, "write tensor %q", t.Name)
		}
		if out.n-start != size {
			return unwritable("tensor %q: its data is %d bytes, %v%v takes %d", t.Name, out.n-start, t.Type, t.Shape, size)
		}
	}
	if err := out.zeros(pad(out.n, align) - out.n); err != nil {
		return errors.Wrap(err, "write gguf padding")
	}
	return errors.Wrap(out.w.Flush(), "write gguf")
}

// Size returns how many bytes Write would write.
func Size(meta []KV, tensors []TensorInfo) (int64, error) {
	head, offsets, align, err := layout(meta, tensors)
	if err != nil || len(tensors) == 0 {
		return int64(len(head)), err
	}
	last := len(tensors) - 1
	n, _ := tensors[last].Type.Bytes(tensors[last].Shape)
	return int64(len(head)) + offsets[last] + pad(n, align), nil
}

// layout checks what is to be written and returns the header, padded to where
// tensor data begins, and the tensors' offsets from there.
func layout(meta []KV, tensors []TensorInfo) (head []byte, offsets []int64, align int64, err error) {
	align, wrong := alignment(meta)
	if wrong != "" {
		return nil, nil, 0, unwritable("%s", wrong)
	}
	if max(len(tensors), len(meta)) > maxEntries {
		return nil, nil, 0, unwritable("%d tensors and %d metadata keys, at most %d are allowed", len(tensors), len(meta), maxEntries)
	}
	head = binary.LittleEndian.AppendUint32(head, magic)
	head = binary.LittleEndian.AppendUint32(head, version)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(tensors)))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(meta)))
	if head, err = appendMetadata(head, meta); err != nil {
		return nil, nil, 0, err
	}
	head, offsets, err = appendTensors(head, tensors, align)
	if err != nil {
		return nil, nil, 0, err
	}
	if len(head) > maxHeader {
		return nil, nil, 0, unwritable("the header takes %d bytes, at most %d are allowed", len(head), maxHeader)
	}
	head = append(head, make([]byte, pad(int64(len(head)), align)-int64(len(head)))...)
	return head, offsets, align, nil
}

// appendMetadata appends keys and values.
func appendMetadata(head []byte, meta []KV) (_ []byte, err error) {
	seen := make(map[string]bool, len(meta))
	for _, kv := range meta {
		if err := checkText(kv.Key, maxKey); err != "" {
			return nil, unwritable("metadata key %q %s", kv.Key, err)
		}
		if seen[kv.Key] {
			return nil, unwritable("metadata key %q occurs twice", kv.Key)
		}
		seen[kv.Key] = true
		head = appendString(head, kv.Key)
		if head, err = appendTyped(head, kv.Value); err != nil {
			return nil, errors.Wrapf(err, "metadata key %q", kv.Key)
		}
	}
	return head, nil
}

// appendTensors appends the tensors' descriptions.
func appendTensors(head []byte, tensors []TensorInfo, align int64) ([]byte, []int64, error) {
	seen := make(map[string]bool, len(tensors))
	offsets := make([]int64, len(tensors))
	var offset int64
	for i, t := range tensors {
		if err := checkText(t.Name, maxName); err != "" {
			return nil, nil, unwritable("tensor name %q %s", t.Name, err)
		}
		if seen[t.Name] {
			return nil, nil, unwritable("tensor %q occurs twice", t.Name)
		}
		seen[t.Name] = true
		size, err := t.Type.Bytes(t.Shape)
		if err != nil {
			return nil, nil, errors.WithHint(errors.Wrapf(errors.Mark(err, ErrFormat), "tensor %q", t.Name), hintWrite)
		}
		head = appendString(head, t.Name)
		shape := t.Shape
		if len(shape) == 0 {
			shape = tensor.Shape{1} // as ggml does; some readers refuse no dimensions
		}
		head = binary.LittleEndian.AppendUint32(head, uint32(len(shape)))
		for _, d := range slices.Backward(shape) { // ggml puts the innermost first
			head = binary.LittleEndian.AppendUint64(head, uint64(d))
		}
		head = binary.LittleEndian.AppendUint32(head, uint32(t.Type))
		head = binary.LittleEndian.AppendUint64(head, uint64(offset))
		offsets[i] = offset
		offset = pad(offset+size, align)
		if offset < 0 {
			return nil, nil, unwritable("tensor %q: the file's size overflows", t.Name)
		}
	}
	return head, offsets, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// appendText appends a string value.
func appendText(b []byte, s string) ([]byte, error) {
	if len(s) > maxText {
		return nil, unwritable("a string of %d bytes, at most %d are allowed", len(s), maxText)
	}
	return appendString(b, s), nil
}

// appendTyped appends a metadata value with its type in front.
func appendTyped(b []byte, v any) ([]byte, error) {
	t, _, err := valueType(v)
	if err != nil {
		return nil, errors.WithHint(err, hintWrite)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(t))
	switch v := v.(type) {
	case string:
		return appendText(b, v)
	case bool:
		return append(b, boolByte(v)), nil
	}
	if t == TypeArray {
		return appendArray(b, v, 1)
	}
	return binary.Append(b, binary.LittleEndian, v)
}

// appendArray appends an array: element type, length, elements.
func appendArray(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxNested {
		return nil, unwritable("arrays are nested more than %d deep", maxNested)
	}
	elem, err := elemType(v)
	if err != nil {
		return nil, errors.WithHint(err, hintWrite)
	}
	n := lengthOf(v, elem)
	if n > maxElements {
		return nil, unwritable("an array of %d elements, at most %d are allowed", n, maxElements)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(elem))
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	switch v := v.(type) {
	case []string:
		for _, s := range v {
			if b, err = appendText(b, s); err != nil {
				return nil, err
			}
		}
		return b, nil
	case []any:
		for _, e := range v {
			if b, err = appendArray(b, e, depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return binary.Append(b, binary.LittleEndian, v) // a bool is one byte, 0 or 1
}

// lengthOf returns the length of an array value.
func lengthOf(v any, elem ValueType) int {
	switch v := v.(type) {
	case []string:
		return len(v)
	case []any:
		return len(v)
	}
	return binary.Size(v) / valueTypes[elem].bytes
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// counter is a buffered writer that knows how far it has come.
type counter struct {
	w    *bufio.Writer
	n    int64 // written so far
	room int64 // what the tensor being written may still write
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// zeros writes n zero bytes.
func (c *counter) zeros(n int64) error {
	var z [4096]byte
	for n > 0 {
		m, err := c.Write(z[:min(n, int64(len(z)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// limited is what a tensor's Data writes to: no more than the tensor's size.
type limited struct{ c *counter }

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.c.room {
		return 0, unwritable("%d bytes more than the tensor's type and shape take", int64(len(p))-l.c.room)
	}
	n, err := l.c.Write(p)
	l.c.room -= int64(n)
	return n, err
}
