package tensor

import "fmt"

// DType names an element encoding. A block encoding packs several elements
// into one storage unit.
type DType uint8

// The element encodings. U1, U2 and U4 hold unsigned codes, least significant
// bits first: element i of a row sits in byte i*bits/8.
const (
	Invalid DType = iota
	F32
	F64 // what an F32 value is carried as by a backend that computes in float64
	F16
	BF16
	I8
	I32
	Bool // one byte, 0 or 1
	U1   // eight codes a byte
	U2   // four codes a byte
	U4   // two codes a byte
	numDTypes
)

var dtypes = [numDTypes]struct {
	name         string
	block, bytes int
}{
	Invalid: {"invalid", 1, 0},
	F32:     {"f32", 1, 4},
	F64:     {"f64", 1, 8},
	F16:     {"f16", 1, 2},
	BF16:    {"bf16", 1, 2},
	I8:      {"i8", 1, 1},
	I32:     {"i32", 1, 4},
	Bool:    {"bool", 1, 1},
	U1:      {"u1", 8, 1},
	U2:      {"u2", 4, 1},
	U4:      {"u4", 2, 1},
}

// String returns the name used in the text form of graphs, such as "f32".
func (d DType) String() string {
	if d >= numDTypes {
		return fmt.Sprintf("dtype(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Block returns the number of elements in one storage unit.
func (d DType) Block() int {
	if d >= numDTypes {
		return 1
	}
	return dtypes[d].block
}

// Bytes returns the size of one storage unit.
func (d DType) Bytes() int {
	if d >= numDTypes {
		return 0
	}
	return dtypes[d].bytes
}

// Float reports whether d is a floating-point encoding.
func (d DType) Float() bool { return d >= F32 && d <= BF16 }

// Codes reports whether d is a packed code encoding.
func (d DType) Codes() bool { return d >= U1 && d <= U4 }

// ParseDType is the inverse of String.
func ParseDType(s string) (DType, error) {
	for d := F32; d < numDTypes; d++ {
		if dtypes[d].name == s {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("tensor: unknown dtype %q", s)
}
