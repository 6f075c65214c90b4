package gguf

import (
	"math"

	"github.com/cockroachdb/errors"
)

// ValueType is the type of a metadata value, by its number in the file.
type ValueType uint32

// The metadata value types.
const (
	TypeUint8 ValueType = iota
	TypeInt8
	TypeUint16
	TypeInt16
	TypeUint32
	TypeInt32
	TypeFloat32
	TypeBool
	TypeString
	TypeArray
	TypeUint64
	TypeInt64
	TypeFloat64
	numValueTypes
)

var valueTypes = [numValueTypes]struct {
	name  string
	bytes int // on disk; for a string and an array the least an element can take
}{
	TypeUint8: {"u8", 1}, TypeInt8: {"i8", 1}, TypeUint16: {"u16", 2}, TypeInt16: {"i16", 2},
	TypeUint32: {"u32", 4}, TypeInt32: {"i32", 4}, TypeFloat32: {"f32", 4}, TypeBool: {"bool", 1},
	TypeString: {"string", 8}, TypeArray: {"array", 12}, TypeUint64: {"u64", 8}, TypeInt64: {"i64", 8},
	TypeFloat64: {"f64", 8},
}

// String returns a short name, such as "u32".
func (t ValueType) String() string {
	if t < numValueTypes {
		return valueTypes[t].name
	}
	return "unknown"
}

// KV is one metadata entry. Value is a uint8, int8, uint16, int16, uint32,
// int32, uint64, int64, float32, float64, bool or string, a slice of one of
// these, or, for an array of arrays, a []any of such slices (legal, but ggml's
// own reader refuses it).
type KV struct {
	Key   string
	Value any
}

// Metadata is what a file says about itself, in the file's order; keys are
// unique.
type Metadata []KV

// KeyAlignment is the metadata key that sets the alignment of tensor data, a
// uint32; DefaultAlignment holds where it is missing.
const (
	KeyAlignment     = "general.alignment"
	DefaultAlignment = 32
)

// Get returns the value of key, and whether there is one.
func (m Metadata) Get(key string) (any, bool) {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value, true
		}
	}
	return nil, false
}

// find returns the value of key or ErrNotFound.
func (m Metadata) find(key string) (any, error) {
	if v, ok := m.Get(key); ok {
		return v, nil
	}
	return nil, errors.WithHint(errors.Wrapf(ErrNotFound, "metadata key %q", key),
		"the file was made for another architecture or by an incomplete writer; list its keys with `tern inspect`")
}

func wrongType(key string, v any, want string) error {
	return errors.WithHint(errors.Wrapf(ErrType, "metadata key %q holds a %s, not a %s", key, typeName(v), want),
		"the file was written by a program with other ideas of this key; rewrite it with the type asked for")
}

// outOfRange returns an ErrRange that says what is wrong.
func outOfRange(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrRange, format, args...), hintDamaged)
}

// typeName names the type of a metadata value as the format does.
func typeName(v any) string {
	t, elem, err := valueType(v)
	if err != nil {
		return "value of no known type"
	}
	if t == TypeArray {
		return "array of " + elem.String()
	}
	return t.String()
}

// exact returns the value of key as a T and nothing else.
func exact[T any](m Metadata, key, want string) (T, error) {
	v, err := m.find(key)
	if err != nil {
		var zero T
		return zero, err
	}
	t, ok := v.(T)
	if !ok {
		return t, wrongType(key, v, want)
	}
	return t, nil
}

// String returns the string at key; errors are ErrNotFound and ErrType.
func (m Metadata) String(key string) (string, error) { return exact[string](m, key, "string") }

// Bool returns the bool at key; errors are ErrNotFound and ErrType.
func (m Metadata) Bool(key string) (bool, error) { return exact[bool](m, key, "bool") }

// Strings returns the array of strings at key; errors are ErrNotFound and
// ErrType. The slice is the metadata's own.
func (m Metadata) Strings(key string) ([]string, error) {
	return exact[[]string](m, key, "array of string")
}

// Float32s returns the array of f32 at key; errors are ErrNotFound and ErrType.
// The slice is the metadata's own.
func (m Metadata) Float32s(key string) ([]float32, error) {
	return exact[[]float32](m, key, "array of f32")
}

// Int32s returns the array of i32 at key; errors are ErrNotFound and ErrType.
// The slice is the metadata's own.
func (m Metadata) Int32s(key string) ([]int32, error) {
	return exact[[]int32](m, key, "array of i32")
}

// Uint32s returns the array of u32 at key; errors are ErrNotFound and ErrType.
// The slice is the metadata's own.
func (m Metadata) Uint32s(key string) ([]uint32, error) {
	return exact[[]uint32](m, key, "array of u32")
}

// Uint32 returns the number at key, of any integer type in which it is no
// negative number and fits; errors are ErrNotFound, ErrType and ErrRange.
func (m Metadata) Uint32(key string) (uint32, error) {
	n, err := m.Uint64(key)
	if err == nil && n > math.MaxUint32 {
		return 0, outOfRange("metadata key %q holds %d, too large for a u32", key, n)
	}
	return uint32(n), err
}

// Uint64 returns the number at key, of any integer type in which it is no
// negative number; errors are ErrNotFound, ErrType and ErrRange.
func (m Metadata) Uint64(key string) (uint64, error) {
	v, err := m.find(key)
	if err != nil {
		return 0, err
	}
	var signed int64
	switch n := v.(type) {
	case uint8:
		return uint64(n), nil
	case uint16:
		return uint64(n), nil
	case uint32:
		return uint64(n), nil
	case uint64:
		return n, nil
	case int8:
		signed = int64(n)
	case int16:
		signed = int64(n)
	case int32:
		signed = int64(n)
	case int64:
		signed = n
	default:
		return 0, wrongType(key, v, "whole number")
	}
	if signed < 0 {
		return 0, outOfRange("metadata key %q holds %d, which is negative", key, signed)
	}
	return uint64(signed), nil
}

// Int returns the number at key as an int that is at least 0 and at most
// limit: what a count or an index must be before it is used as one. Errors
// are ErrNotFound, ErrType and ErrRange.
func (m Metadata) Int(key string, limit int) (int, error) {
	n, err := m.Uint64(key)
	if err == nil && n > uint64(max(limit, 0)) {
		return 0, outOfRange("metadata key %q holds %d, at most %d is allowed", key, n, limit)
	}
	return int(n), err
}

// Float32 returns the f32 at key, or an f64 rounded to one; errors are
// ErrNotFound and ErrType.
func (m Metadata) Float32(key string) (float32, error) {
	v, err := m.find(key)
	if err != nil {
		return 0, err
	}
	switch n := v.(type) {
	case float32:
		return n, nil
	case float64:
		return float32(n), nil
	}
	return 0, wrongType(key, v, "f32")
}

// valueType returns the type of a metadata value and, for an array, of its
// elements.
func valueType(v any) (t, elem ValueType, err error) {
	switch v.(type) {
	case uint8:
		return TypeUint8, 0, nil
	case int8:
		return TypeInt8, 0, nil
	case uint16:
		return TypeUint16, 0, nil
	case int16:
		return TypeInt16, 0, nil
	case uint32:
		return TypeUint32, 0, nil
	case int32:
		return TypeInt32, 0, nil
	case float32:
		return TypeFloat32, 0, nil
	case bool:
		return TypeBool, 0, nil
	case string:
		return TypeString, 0, nil
	case uint64:
		return TypeUint64, 0, nil
	case int64:
		return TypeInt64, 0, nil
	case float64:
		return TypeFloat64, 0, nil
	}
	elem, err = elemType(v)
	return TypeArray, elem, err
}

// elemType returns the type of the elements of an array value.
func elemType(v any) (ValueType, error) {
	switch v.(type) {
	case []uint8:
		return TypeUint8, nil
	case []int8:
		return TypeInt8, nil
	case []uint16:
		return TypeUint16, nil
	case []int16:
		return TypeInt16, nil
	case []uint32:
		return TypeUint32, nil
	case []int32:
		return TypeInt32, nil
	case []float32:
		return TypeFloat32, nil
	case []bool:
		return TypeBool, nil
	case []string:
		return TypeString, nil
	case []any:
		return TypeArray, nil
	case []uint64:
		return TypeUint64, nil
	case []int64:
		return TypeInt64, nil
	case []float64:
		return TypeFloat64, nil
	}
	return 0, errors.Wrapf(ErrType, "no metadata value can be a %T", v)
}
