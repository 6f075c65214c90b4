package safetensors

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/atomicfile"
)

// metaKey is the header's entry for metadata; no tensor may be called so.
const metaKey = "__metadata__"

// maxHeader is the longest header that readers accept, Hugging Face's too.
const maxHeader = 100_000_000

// Entry is one tensor to write. Data is called once and must write
// Type.Bytes() bytes.
type Entry struct {
	Name string
	Type tensor.Type
	Data func(w io.Writer) error
	// As names the dtype in the file where it is another than Type's with
	// elements of the same size, such as "U8" for bytes that are an I8 here.
	As string
}

// dtype is what the file calls the entry's encoding; "" if it has none.
func (e Entry) dtype() string {
	if e.As == "" {
		return dtypeName(e.Type.DType)
	}
	if i, ok := dtypes[e.As]; !ok || e.Type.DType.Codes() || i.bits != 8*e.Type.DType.Bytes() {
		return ""
	}
	return e.As
}

// Of describes a tensor in memory.
func Of(name string, t *tensor.Tensor) Entry {
	return Entry{Name: name, Type: t.Type, Data: func(w io.Writer) error {
		_, err := w.Write(t.Data)
		return err
	}}
}

// WriteFile writes a file whole or not at all, replacing one at path. Errors
// are those of Write and of the file system.
func WriteFile(path string, metadata map[string]string, tensors []Entry) error {
	return atomicfile.Write(path, func(w io.Writer) error { return Write(w, metadata, tensors) })
}

// Write writes metadata and tensors of any dtype. Tensors lie in the file by
// falling element size, then by name, so that each is aligned for its
// elements; the header lists them in that order and is padded to a multiple
// of 8 bytes. The order of the arguments leaves no trace. Names must be
// unique, not empty, UTF-8 and not "__metadata__"; metadata keys that begin
// with "tern.type." are this package's. Errors are ErrFormat, what Data
// returns, and what w returns.
func Write(w io.Writer, metadata map[string]string, tensors []Entry) error {
	order := slices.Clone(tensors)
	slices.SortFunc(order, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Type.DType.Bytes(), a.Type.DType.Bytes()), cmp.Compare(a.Name, b.Name))
	})
	head, err := header(metadata, order)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if _, err := out.Write(head); err != nil {
		return errors.Wrap(err, "write safetensors header")
	}
	for _, t := range order {
		c := &counter{w: out, room: int64(t.Type.Bytes())}
		if err := t.Data(c); err != nil {
			return errors.Wrapf(err, "write tensor %q", t.Name)
		}
		if c.room != 0 {
			return unwritable("tensor %q: its data is %d bytes short of %v", t.Name, c.room, t.Type)
		}
	}
	return errors.Wrap(out.Flush(), "write safetensors")
}

// header returns the length and the JSON header for tensors in file order.
func header(metadata map[string]string, order []Entry) ([]byte, error) {
	meta := maps.Clone(metadata)
	if meta == nil {
		meta = map[string]string{}
	}
	var body bytes.Buffer
	seen := make(map[string]bool, len(order))
	var offset int64
	for _, t := range order {
		if seen[t.Name] {
			return nil, unwritable("tensor %q occurs twice", t.Name)
		}
		seen[t.Name] = true
		if err := checkEntry(t); err != nil {
			return nil, err
		}
		if t.Type.DType.Codes() {
			meta[typePrefix+t.Name] = t.Type.String()
		}
		end := offset + int64(t.Type.Bytes())
		if end < offset {
			return nil, unwritable("tensor %q: the file's size overflows", t.Name)
		}
		body.WriteByte(',')
		if err := member(&body, t.Name, description{t.dtype(), storedShape(t.Type), [2]int64{offset, end}}); err != nil {
			return nil, err
		}
		offset = end
	}
	if err := checkMeta(metadata); err != nil {
		return nil, err
	}
	var head bytes.Buffer
	head.Write(make([]byte, 8))
	head.WriteByte('{')
	if len(meta) > 0 {
		if err := member(&head, metaKey, meta); err != nil { // keys sorted by encoding/json
			return nil, err
		}
		head.Write(body.Bytes())
	} else if body.Len() > 0 {
		head.Write(body.Bytes()[1:])
	}
	head.WriteByte('}')
	for head.Len()%8 != 0 {
		head.WriteByte(' ')
	}
	if head.Len()-8 > maxHeader {
		return nil, unwritable("the header takes %d bytes, at most %d are allowed", head.Len()-8, maxHeader)
	}
	b := head.Bytes()
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b, nil
}

// description is a tensor in the header.
type description struct {
	DType   string       `json:"dtype"`
	Shape   tensor.Shape `json:"shape"`
	Offsets [2]int64     `json:"data_offsets"`
}

// member appends "name":value.
func member(b *bytes.Buffer, name string, value any) error {
	k, err := json.Marshal(name)
	if err != nil {
		return unwritable("%q: %v", name, err)
	}
	v, err := json.Marshal(value)
	if err != nil {
		return unwritable("%q: %v", name, err)
	}
	b.Write(k)
	b.WriteByte(':')
	b.Write(v)
	return nil
}

func checkEntry(t Entry) error {
	if t.Name == "" || t.Name == metaKey || !utf8.ValidString(t.Name) {
		return unwritable("%q cannot be a tensor's name", t.Name)
	}
	if err := t.Type.Check(); err != nil {
		return unwritable("tensor %q: %v", t.Name, err)
	}
	if t.dtype() == "" {
		return unwritable("tensor %q: no dtype %q of the format holds %v", t.Name, t.As, t.Type)
	}
	return nil
}

func checkMeta(metadata map[string]string) error {
	for k, v := range metadata {
		if len(k) >= len(typePrefix) && k[:len(typePrefix)] == typePrefix {
			return unwritable("metadata key %q is reserved", k)
		}
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return unwritable("metadata key %q: not UTF-8", k)
		}
	}
	return nil
}

// counter is what a tensor's Data writes to: no more than the tensor's size.
type counter struct {
	w    io.Writer
	room int64
}

func (c *counter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.room {
		return 0, unwritable("%d bytes more than the tensor's type takes", int64(len(p))-c.room)
	}
	n, err := c.w.Write(p)
	c.room -= int64(n)
	return n, err
}
