package gguf

import (
	"bytes"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
)

// valuesFile was written by gguf-py; testdata/ggml.py is the program.
const valuesFile = "testdata/values.gguf"

func TestReadsEveryValueOfGgufPy(t *testing.T) {
	f := openFile(t, valuesFile)
	want := Metadata{{"general.architecture", "tern-test"}}
	want = append(want, ends("uint8", uint8(0), math.MaxUint8)...)
	want = append(want, ends("int8", int8(math.MinInt8), math.MaxInt8)...)
	want = append(want, ends("uint16", uint16(0), math.MaxUint16)...)
	want = append(want, ends("int16", int16(math.MinInt16), math.MaxInt16)...)
	want = append(want, ends("uint32", uint32(0), math.MaxUint32)...)
	want = append(want, ends("int32", int32(math.MinInt32), math.MaxInt32)...)
	want = append(want, ends("uint64", uint64(0), math.MaxUint64)...)
	want = append(want, ends("int64", int64(math.MinInt64), math.MaxInt64)...)
	want = append(want, []KV{
		{"float32", float32(-1.5)},
		{"float64", 1e300},
		{"true", true},
		{"false", false},
		{"string", "Ġ\n✓"},
		{"empty", ""},
		{"array.float32", []float32{0.5, float32(math.Inf(1)), 0}},
		{"array.float64", []float64{0.1, math.Inf(-1)}},
		{"array.bool", []bool{true, false, true}},
		{"array.string", []string{"a", "", "três"}},
		{"array.array", []any{[]int32{1, 2}, []int32{3}}},
	}...)
	if diff := cmp.Diff(want, f.Metadata); diff != "" {
		t.Error(diff)
	}
	if a, err := f.Metadata.Float32s("array.float32"); err != nil || !math.Signbit(float64(a[2])) {
		t.Errorf("%v, %v: the last is no negative zero", a, err)
	}
	if original := must(os.ReadFile(valuesFile)); !bytes.Equal(original, rewrite(t, f)) {
		t.Error("written again, the bytes differ")
	}
}

// ends returns the smallest and largest number of a type, and an array.
func ends[E any](name string, low, high E) []KV {
	one := reflect.ValueOf(1).Convert(reflect.TypeFor[E]()).Interface().(E)
	return []KV{{"low." + name, low}, {"high." + name, high}, {"array." + name, []E{low, one, high}}}
}

func TestTypedGetters(t *testing.T) {
	m := Metadata{{"u8", uint8(3)}, {"neg", int64(-1)}, {"big", uint64(1 << 40)}, {"f64", 0.5}, {"s", "x"}}
	if n, err := m.Uint32("u8"); n != 3 || err != nil {
		t.Errorf("u8: %d, %v", n, err)
	}
	if v, err := m.Float32("f64"); v != 0.5 || err != nil {
		t.Errorf("f64: %v, %v", v, err)
	}
	for name, err := range map[string]error{
		"negative":  second(m.Uint32("neg")),
		"too large": second(m.Uint32("big")),
		"limit":     second(m.Int("u8", 2)),
	} {
		if !errors.Is(err, ErrRange) || errors.Is(err, ErrType) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"string": second(m.Uint64("s")),
		"number": second(m.String("u8")),
		"array":  second(m.Strings("s")),
		"float":  second(m.Float32("u8")),
	} {
		if !errors.Is(err, ErrType) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Bool("missing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
}

func TestArrayGetters(t *testing.T) {
	m := Metadata{
		{"u8", []uint8{1, 2}},
		{"i64", []int64{3, 0}},
		{"neg", []int32{1, -1}},
		{"big", []uint64{5, 1 << 63}},
		{"f64s", []float64{0.5}},
		{"bools", []bool{true}},
		{"f32", float32(0.25)},
	}
	for key, want := range map[string][]int{"u8": {1, 2}, "i64": {3, 0}} {
		if got, err := m.Ints(key, 3); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", key, got, err)
		}
	}
	for key, c := range map[string]struct {
		limit int
		says  string
	}{"neg": {2, "element 1"}, "big": {math.MaxInt, "element 1"}, "i64": {2, "element 0"}, "u8": {-1, "element 0"}} {
		if _, err := m.Ints(key, c.limit); !errors.Is(err, ErrRange) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if v, err := m.Float64("f32"); v != 0.25 || err != nil {
		t.Errorf("f32: %v, %v", v, err)
	}
	if v, err := m.Float64s("f64s"); err != nil || v[0] != 0.5 {
		t.Errorf("f64s: %v, %v", v, err)
	}
	if v, err := m.Bools("bools"); err != nil || !v[0] {
		t.Errorf("bools: %v, %v", v, err)
	}
	for name, err := range map[string]error{
		"ints":   second(m.Ints("f64s", 1)),
		"float":  second(m.Float64("u8")),
		"floats": second(m.Float64s("u8")),
		"bools":  second(m.Bools("u8")),
	} {
		if !errors.Is(err, ErrType) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOrTakesTheDefaultForMissingKeysOnly(t *testing.T) {
	m := Metadata{{"f", float32(2)}, {"s", "x"}, {"neg", int32(-1)}}
	if v, err := Or(m.Float32, "f", 10000); v != 2 || err != nil {
		t.Errorf("there: %v, %v", v, err)
	}
	if v, err := Or(m.Float32, "none", 10000); v != 10000 || err != nil {
		t.Errorf("missing: %v, %v", v, err)
	}
	if v, err := Or(m.String, "none", "gpt2"); v != "gpt2" || err != nil {
		t.Errorf("missing: %q, %v", v, err)
	}
	if _, err := Or(m.Float32, "s", 1); !errors.Is(err, ErrType) {
		t.Errorf("another type: %v", err)
	}
	if _, err := Or(m.Uint32, "neg", 1); !errors.Is(err, ErrRange) {
		t.Errorf("out of range: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
