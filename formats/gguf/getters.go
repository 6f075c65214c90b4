package gguf

import (
	"math"

	"github.com/cockroachdb/errors"
)

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

// Or returns what get returns for key, or def where there is no such key:
//
//	base, err := gguf.Or(f.Metadata.Float32, "llama.rope.freq_base", 10000)
//
// A key that is there with another type or out of range stays an error.
func Or[T any](get func(key string) (T, error), key string, def T) (T, error) {
	v, err := get(key)
	if errors.Is(err, ErrNotFound) {
		return def, nil
	}
	return v, err
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

// Float64s returns the array of f64 at key; errors are ErrNotFound and ErrType.
// The slice is the metadata's own.
func (m Metadata) Float64s(key string) ([]float64, error) {
	return exact[[]float64](m, key, "array of f64")
}

// Bools returns the array of bools at key; errors are ErrNotFound and ErrType.
// The slice is the metadata's own.
func (m Metadata) Bools(key string) ([]bool, error) {
	return exact[[]bool](m, key, "array of bool")
}

// Ints returns the array at key, of any integer type, as numbers that are each
// at least 0 and at most limit; errors are ErrNotFound, ErrType and ErrRange.
func (m Metadata) Ints(key string, limit int) ([]int, error) {
	v, err := m.find(key)
	if err != nil {
		return nil, err
	}
	var out []int
	at, ok := 0, true // the first that is out of range
	switch a := v.(type) {
	case []uint8:
		out, at, ok = bounded(a, limit)
	case []uint16:
		out, at, ok = bounded(a, limit)
	case []uint32:
		out, at, ok = bounded(a, limit)
	case []uint64:
		out, at, ok = bounded(a, limit)
	case []int8:
		out, at, ok = bounded(a, limit)
	case []int16:
		out, at, ok = bounded(a, limit)
	case []int32:
		out, at, ok = bounded(a, limit)
	case []int64:
		out, at, ok = bounded(a, limit)
	default:
		return nil, wrongType(key, v, "array of whole numbers")
	}
	if !ok {
		return nil, outOfRange("metadata key %q: element %d is not from 0 to %d", key, at, limit)
	}
	return out, nil
}

// bounded converts numbers that are at least 0 and at most limit, or says which
// is not.
func bounded[E uint8 | uint16 | uint32 | uint64 | int8 | int16 | int32 | int64](a []E, limit int) (out []int, at int, ok bool) {
	out = make([]int, len(a))
	for i, n := range a {
		if uint64(n) > uint64(max(limit, 0)) { // as a negative n is, too
			return nil, i, false
		}
		out[i] = int(n)
	}
	return out, 0, true
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

// Float64 returns the f64 at key, or an f32 as one; errors are ErrNotFound and
// ErrType.
func (m Metadata) Float64(key string) (float64, error) {
	v, err := m.find(key)
	if err != nil {
		return 0, err
	}
	switch n := v.(type) {
	case float32:
		return float64(n), nil
	case float64:
		return n, nil
	}
	return 0, wrongType(key, v, "f64")
}
