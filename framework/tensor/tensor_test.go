package tensor_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/ternlm/tern/framework/tensor"
)

func TestSizesFollowTheEncoding(t *testing.T) {
	for _, c := range []struct {
		d     tensor.DType
		dims  []int
		bytes int
	}{
		{tensor.F32, []int{2, 3}, 24},
		{tensor.F64, []int{2, 3}, 48},
		{tensor.F16, []int{2, 3}, 12},
		{tensor.BF16, []int{2, 3}, 12},
		{tensor.I8, []int{2, 3}, 6},
		{tensor.I32, []int{2, 3}, 24},
		{tensor.Bool, []int{2, 3}, 6},
		{tensor.F32, nil, 4},
		{tensor.U1, []int{2, 8}, 2},
		{tensor.U1, []int{2, 9}, 4}, // each row is packed on its own
		{tensor.U2, []int{3, 5}, 6},
		{tensor.U4, []int{3, 5}, 9},
		{tensor.U2, []int{2, 3, 4}, 6},
	} {
		typ := tensor.T(c.d, c.dims...)
		if got := typ.Bytes(); got != c.bytes {
			t.Errorf("%v has %d bytes, want %d", typ, got, c.bytes)
		}
		if got := len(tensor.New(typ).Data); got != c.bytes {
			t.Errorf("a new %v has %d bytes, want %d", typ, got, c.bytes)
		}
	}
}

func TestDataIsAligned(t *testing.T) {
	for n := range 200 {
		b := tensor.AlignedBytes(n)
		if len(b) != n || cap(b) != n {
			t.Fatalf("%d bytes: length %d, capacity %d", n, len(b), cap(b))
		}
		if p := uintptr(unsafe.Pointer(unsafe.SliceData(b))); n > 0 && p%64 != 0 {
			t.Errorf("%d bytes start at %d modulo 64", n, p%64)
		}
	}
}

func TestParseTypeRefusesWhatIsNoType(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       `bad type ""`,
		"f32":                                    `bad type "f32"`,
		"f32[":                                   `bad type "f32["`,
		"f32]2[":                                 `bad type "f32]2["`,
		"f32[2":                                  `bad type "f32[2"`,
		"[2]":                                    `unknown dtype ""`,
		"invalid[2]":                             `unknown dtype "invalid"`,
		"F32[2]":                                 `unknown dtype "F32"`,
		"f32[2,]":                                `bad dimension "" in "f32[2,]"`,
		"f32[,]":                                 `bad dimension "" in "f32[,]"`,
		"f32[2 ]":                                `bad dimension "2 " in "f32[2 ]"`,
		"f32[x]":                                 `bad dimension "x" in "f32[x]"`,
		"f32[-1]":                                "dimension -1 of f32[-1] is not positive",
		"f32[0]":                                 "dimension 0 of f32[0] is not positive",
		"f32[99999999999999999999]":              `bad dimension "99999999999999999999"`,
		"f32[1099511627776,2]":                   "more than 1099511627776 elements",
		"f32[4294967296,4294967296]":             "more than 1099511627776 elements",
		"f32[1,1,1,1,1,1,1,1,1]":                 "9 dimensions",
		"f32[" + strings.Repeat("2,", 70) + "2]": "71 dimensions",
	} {
		if typ, err := tensor.ParseType(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v and error %v, want %q", text, typ, err, want)
		}
	}
}

func TestCheckRefusesUnknownEncodings(t *testing.T) {
	for _, d := range []tensor.DType{tensor.Invalid, 200} {
		if tensor.T(d, 2).Check() == nil {
			t.Errorf("%v is accepted", d)
		}
	}
}

// FuzzParseType: an error, or a type that prints as it was written but for
// leading zeros and signs, and whose size does not overflow.
func FuzzParseType(f *testing.F) {
	for _, s := range []string{"f32[2,3]", "u2[7]", "i32[]", "f16[1,2,3,4]", "f32[1099511627776]", "bool[007]", "bf16[+3]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		typ, err := tensor.ParseType(text)
		if err != nil {
			return
		}
		again, err := tensor.ParseType(typ.String())
		if err != nil || !again.Equal(typ) {
			t.Fatalf("%q gives %v, which gives %v, %v", text, typ, again, err)
		}
		if n := typ.Shape.Numel(); n < 1 || n > tensor.MaxElements {
			t.Fatalf("%q has %d elements", text, n)
		}
		if b := typ.Bytes(); b < 1 || b > 8*tensor.MaxElements {
			t.Fatalf("%q has %d bytes", text, b)
		}
	})
}

func TestTensorsHoldCopies(t *testing.T) {
	src := []float32{1, 2, 3, 4}
	a := tensor.FromF32(src, 2, 2)
	b := a.Clone()
	src[0], a.F32()[1] = 9, 9
	if got := a.Floats(); !slices.Equal(got, []float64{1, 9, 3, 4}) {
		t.Errorf("the tensor is %v after its source changed", got)
	}
	if got := b.Floats(); !slices.Equal(got, []float64{1, 2, 3, 4}) {
		t.Errorf("the clone is %v after the tensor changed", got)
	}
}

func TestFloatsWidensEveryFloat(t *testing.T) {
	want := []float64{1, -2, 0.5}
	half, brain := tensor.New(tensor.T(tensor.F16, 3)), tensor.New(tensor.T(tensor.BF16, 3))
	copy(half.U16(), []uint16{0x3c00, 0xc000, 0x3800})
	copy(brain.U16(), []uint16{0x3f80, 0xc000, 0x3f00})
	for _, x := range []*tensor.Tensor{half, brain, tensor.FromF32([]float32{1, -2, 0.5}, 3), tensor.FromF64(want, 3)} {
		if got := x.Floats(); !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", x.Type, got, want)
		}
	}
}

func TestViewOfNothingIsNothing(t *testing.T) {
	if v := tensor.View[float32](nil); v != nil {
		t.Errorf("got %v", v)
	}
	if v := tensor.View[float32](make([]byte, 3)); v != nil {
		t.Errorf("three bytes give %v", v)
	}
}

func TestNamesOfEncodingsParse(t *testing.T) {
	for d := tensor.F32; d <= tensor.U4; d++ {
		if got, err := tensor.ParseDType(d.String()); err != nil || got != d {
			t.Errorf("%v parses as %v, %v", d, got, err)
		}
	}
	if got := tensor.DType(77).String(); got != "dtype(77)" {
		t.Errorf("unknown encoding prints as %q", got)
	}
}

// small is a binary floating-point format of 16 bits.
type small struct {
	name             string
	exponent, digits int // bits of the exponent and of the fraction
	narrow           func(float32) uint16
	widen            func(uint16) float32
}

var smalls = []small{
	{"f16", 5, 10, tensor.F32ToF16, tensor.F16ToF32},
	{"bf16", 8, 7, tensor.F32ToBF16, tensor.BF16ToF32},
}

// value is what the bits stand for, by the formula of IEEE 754.
func (s small) value(h uint16) float64 {
	sign := 1 - 2*float64(h>>15)
	e, frac := int(h>>s.digits)&(1<<s.exponent-1), float64(h&(1<<s.digits-1))
	bias, unit := 1<<(s.exponent-1)-1, math.Ldexp(1, -s.digits)
	switch {
	case e == 1<<s.exponent-1 && frac != 0:
		return math.NaN()
	case e == 1<<s.exponent-1:
		return sign * math.Inf(1)
	case e == 0:
		return sign * math.Ldexp(frac*unit, 1-bias)
	}
	return sign * math.Ldexp(1+frac*unit, e-bias)
}

func TestHalvesWidenExactly(t *testing.T) {
	for _, s := range smalls {
		for h := range 1 << 16 {
			got, want := float64(s.widen(uint16(h))), s.value(uint16(h))
			if math.Float64bits(got) != math.Float64bits(want) && !(math.IsNaN(got) && math.IsNaN(want)) {
				t.Fatalf("%s %#04x widens to %v, want %v", s.name, h, got, want)
			}
		}
	}
}

func TestHalvesSurviveTheRoundTrip(t *testing.T) {
	for _, s := range smalls {
		for h := range 1 << 16 {
			back := s.narrow(s.widen(uint16(h)))
			if math.IsNaN(s.value(uint16(h))) {
				if !math.IsNaN(s.value(back)) {
					t.Fatalf("%s NaN %#04x comes back as %#04x", s.name, h, back)
				}
				continue
			}
			if back != uint16(h) {
				t.Fatalf("%s %#04x comes back as %#04x", s.name, h, back)
			}
		}
	}
}

// Between two neighbors, what lies below their middle rounds down, what lies
// above rounds up, and the middle goes to the even one.
func TestRoundingIsToNearestHalfToEven(t *testing.T) {
	for _, s := range smalls {
		top := uint16((1<<s.exponent - 1) << s.digits) // infinity
		for h := range top {
			lo, hi := s.value(h), s.value(h+1)
			if h+1 == top { // the next value, were there one
				hi = 2*lo - s.value(h-1)
			}
			middle := (lo + hi) / 2
			even := h
			if h&1 == 1 {
				even = h + 1
			}
			for _, c := range []struct {
				x    float32
				want uint16
			}{
				{float32(middle), even},
				{math.Nextafter32(float32(middle), 0), h},
				{math.Nextafter32(float32(middle), math.MaxFloat32), h + 1},
			} {
				if float64(float32(middle)) != middle {
					t.Fatalf("%s: %v is no float32", s.name, middle)
				}
				if got := s.narrow(c.x); got != c.want {
					t.Fatalf("%s: %v rounds to %#04x, want %#04x", s.name, c.x, got, c.want)
				}
				if got := s.narrow(-c.x); got != c.want|0x8000 {
					t.Fatalf("%s: %v rounds to %#04x, want %#04x", s.name, -c.x, got, c.want|0x8000)
				}
			}
		}
		for _, x := range []float32{math.MaxFloat32, float32(math.Inf(1))} {
			if got := s.narrow(x); got != top {
				t.Errorf("%s: %v becomes %#04x, want infinity", s.name, x, got)
			}
		}
		for _, bits := range []uint32{0x7fc00000, 0x7f800001, 0xffffffff, 0x7fffffff} {
			if got := s.value(s.narrow(math.Float32frombits(bits))); !math.IsNaN(got) {
				t.Errorf("%s: NaN %#08x becomes %v", s.name, bits, got)
			}
		}
	}
}

func ExampleType_String() {
	fmt.Println(tensor.T(tensor.U2, 4096, 2560))
	// Output: u2[4096,2560]
}
