package gguf

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"
)

// TestAnotherReaderAgrees reads our file with github.com/gpustack/gguf-parser-go.
func TestAnotherReaderAgrees(t *testing.T) {
	meta, tensors := sample(t)
	meta = append(meta, nested)
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := WriteFile(path, meta, tensors); err != nil {
		t.Fatal(err)
	}
	ours, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := parser.ParseGGUFFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if int64(theirs.Size) != ours.Size || theirs.TensorDataStartOffset != ours.DataStart {
		t.Errorf("size %d, data at %d; we say %d, %d", theirs.Size, theirs.TensorDataStartOffset, ours.Size, ours.DataStart)
	}
	if len(theirs.Header.MetadataKV) != len(meta) {
		t.Fatalf("%d keys, %d were written", len(theirs.Header.MetadataKV), len(meta))
	}
	for i, kv := range theirs.Header.MetadataKV {
		if kv.Key != meta[i].Key || plainValue(kv.Value) != plainValue(meta[i].Value) {
			t.Errorf("key %s is %s, we wrote %s = %s", kv.Key, plainValue(kv.Value), meta[i].Key, plainValue(meta[i].Value))
		}
	}
	if len(theirs.TensorInfos) != len(tensors) {
		t.Fatalf("%d tensors, %d were written", len(theirs.TensorInfos), len(tensors))
	}
	for i, x := range theirs.TensorInfos {
		w := ours.Tensors[i]
		shape := make([]int, 0, 4)
		for _, d := range x.Dimensions {
			shape = append(shape, int(d))
		}
		slices.Reverse(shape)
		if x.Name != w.Name || uint32(x.Type) != uint32(w.Type) || !slices.Equal(shape, w.Shape) ||
			int64(x.Offset)+theirs.TensorDataStartOffset != w.Offset || int64(x.Bytes()) != w.Size {
			t.Errorf("tensor %s %v%v at %d, %d bytes; we say %+v", x.Name, x.Type, shape, x.Offset, x.Bytes(), w)
		}
	}
}

// plainValue prints a metadata value so that the two readers' values compare.
func plainValue(v any) string {
	if a, ok := v.(parser.GGUFMetadataKVArrayValue); ok {
		s := "["
		for _, e := range a.Array {
			s += plainValue(e) + ","
		}
		return s + "]"
	}
	s := "["
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			s += plainValue(e) + ","
		}
		return s + "]"
	case []string:
		for _, e := range v {
			s += plainValue(e) + ","
		}
		return s + "]"
	case string, bool, float32, float64:
		return fmt.Sprintf("%T %q", v, fmt.Sprint(v))
	}
	if t, _, err := valueType(v); err == nil && t != TypeArray {
		return fmt.Sprintf("%T %v", v, v)
	}
	return s + elements(v) + "]"
}

func elements(v any) (s string) {
	switch v := v.(type) {
	case []uint8:
		s = each(v)
	case []int8:
		s = each(v)
	case []uint16:
		s = each(v)
	case []int16:
		s = each(v)
	case []uint32:
		s = each(v)
	case []int32:
		s = each(v)
	case []uint64:
		s = each(v)
	case []int64:
		s = each(v)
	case []float32:
		s = each(v)
	case []float64:
		s = each(v)
	case []bool:
		s = each(v)
	}
	return s
}

func each[E any](v []E) (s string) {
	for _, e := range v {
		s += plainValue(e) + ","
	}
	return s
}
