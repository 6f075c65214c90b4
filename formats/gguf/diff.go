package gguf

import (
	"bytes"
	"slices"

	"github.com/cockroachdb/errors"
)

// diffChunk is how many bytes of each tensor are compared at a time.
const diffChunk = 256 << 10

// Difference is what differs between two files, a and b. Names are in the
// order of a, those that only b has in the order of b.
type Difference struct {
	KeysOnlyA   []string `json:"keys_only_a"`
	KeysOnlyB   []string `json:"keys_only_b"`
	KeysChanged []string `json:"keys_changed"` // of another type or value

	TensorsOnlyA    []string `json:"tensors_only_a"`
	TensorsOnlyB    []string `json:"tensors_only_b"`
	TensorsReshaped []string `json:"tensors_reshaped"` // of another shape
	TensorsRetyped  []string `json:"tensors_retyped"`  // of the same shape and another type
	TensorsChanged  []string `json:"tensors_changed"`  // of the same shape and type, with other bytes
}

// Equal reports whether nothing differs.
func (d Difference) Equal() bool {
	return len(d.KeysOnlyA)+len(d.KeysOnlyB)+len(d.KeysChanged)+len(d.TensorsOnlyA)+len(d.TensorsOnlyB)+
		len(d.TensorsReshaped)+len(d.TensorsRetyped)+len(d.TensorsChanged) == 0
}

// Comparable returns the tensors whose values differ or may differ element by
// element: those of one shape in both files, retyped or changed.
func (d Difference) Comparable() []string {
	return slices.Concat(d.TensorsRetyped, d.TensorsChanged)
}

// Diff compares two files: metadata but for the keys of splitting, where a NaN
// equals the same NaN, and tensors byte by byte, a chunk of both at a time.
// The order of keys and tensors, padding and version do not count. Errors are
// those of reading.
func Diff(a, b *File) (Difference, error) {
	var d Difference
	if err := d.metadata(withoutSplitting(a.Metadata), withoutSplitting(b.Metadata)); err != nil {
		return d, err
	}
	bufA, bufB := make([]byte, diffChunk), make([]byte, diffChunk)
	for _, t := range a.Tensors {
		i, ok := b.byName[t.Name]
		switch {
		case !ok:
			d.TensorsOnlyA = append(d.TensorsOnlyA, t.Name)
			continue
		case !t.Shape.Equal(b.Tensors[i].Shape):
			d.TensorsReshaped = append(d.TensorsReshaped, t.Name)
			continue
		case t.Type != b.Tensors[i].Type:
			d.TensorsRetyped = append(d.TensorsRetyped, t.Name)
			continue
		}
		same, err := sameBytes(a, b, t, b.Tensors[i], bufA, bufB)
		if err != nil {
			return d, err
		}
		if !same {
			d.TensorsChanged = append(d.TensorsChanged, t.Name)
		}
	}
	for _, t := range b.Tensors {
		if _, ok := a.byName[t.Name]; !ok {
			d.TensorsOnlyB = append(d.TensorsOnlyB, t.Name)
		}
	}
	return d, nil
}

// metadata compares the encodings of values, which differ if types or bits do.
func (d *Difference) metadata(a, b Metadata) error {
	inA, inB := a.index(), b.index()
	for _, kv := range a {
		i, ok := inB[kv.Key]
		if !ok {
			d.KeysOnlyA = append(d.KeysOnlyA, kv.Key)
			continue
		}
		va, err := appendTyped(nil, kv.Value)
		if err != nil {
			return errors.Wrapf(err, "metadata key %q", kv.Key)
		}
		vb, err := appendTyped(nil, b[i].Value)
		if err != nil {
			return errors.Wrapf(err, "metadata key %q", kv.Key)
		}
		if !bytes.Equal(va, vb) {
			d.KeysChanged = append(d.KeysChanged, kv.Key)
		}
	}
	for _, kv := range b {
		if _, ok := inA[kv.Key]; !ok {
			d.KeysOnlyB = append(d.KeysOnlyB, kv.Key)
		}
	}
	return nil
}

// index returns the keys' places.
func (m Metadata) index() map[string]int {
	places := make(map[string]int, len(m))
	for i, kv := range m {
		places[kv.Key] = i
	}
	return places
}

// sameBytes compares two tensors of one size.
func sameBytes(a, b *File, ta, tb Tensor, bufA, bufB []byte) (bool, error) {
	for at := int64(0); at < ta.Size; at += int64(len(bufA)) {
		n := min(ta.Size-at, int64(len(bufA)))
		if err := a.readAt(bufA[:n], ta, at); err != nil {
			return false, err
		}
		if err := b.readAt(bufB[:n], tb, at); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}
