package gguf

import "github.com/cockroachdb/errors"

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
