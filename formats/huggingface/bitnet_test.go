package huggingface

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

func packedOf(rows, cols int, data ...byte) *tensor.Tensor {
	return &tensor.Tensor{Type: tensor.T(tensor.I8, rows, cols), Data: data}
}

// at is the code in a row and column of a u2 tensor.
func at(t *tensor.Tensor, r, c int) int {
	stride := (t.Shape[1] + 3) / 4
	return int(t.Data[r*stride+c/4]>>(2*(c%4))) & 3
}

// The example in the documentation of transformers' unpack_weights.
func TestUnpackIsThatOfTransformers(t *testing.T) {
	codes, err := Unpack(packedOf(2, 2, 0b10100001, 0b00011000, 0b10010000, 0b00001010))
	if err != nil {
		t.Fatal(err)
	}
	want := [8][2]int{{0, -1}, {-1, 1}, {-1, 1}, {-1, 1}, {1, 0}, {0, -1}, {1, -1}, {1, -1}}
	if !codes.Type.Equal(tensor.T(tensor.U2, 8, 2)) {
		t.Fatal(codes.Type)
	}
	for r, row := range want {
		for c, w := range row {
			if got := at(codes, r, c) - 1; got != w {
				t.Errorf("row %d column %d is %d, want %d", r, c, got, w)
			}
		}
	}
}

func TestPackIsTheInverse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, shape := range [][2]int{{1, 1}, {1, 4}, {3, 7}, {2, 8}, {2, 9}, {1, 15}, {16, 64}, {5, 33}, {3, 71}} {
		p := packedOf(shape[0], shape[1], make([]byte, shape[0]*shape[1])...)
		for i := range p.Data {
			for j := range 4 {
				p.Data[i] |= byte(r.IntN(3)) << (2 * j)
			}
		}
		codes, err := Unpack(p)
		if err != nil {
			t.Fatal(err)
		}
		for row := range codes.Shape[0] {
			for c := range codes.Shape[1] {
				want := int(p.Data[row%shape[0]*shape[1]+c]>>(2*(row/shape[0]))) & 3
				if at(codes, row, c) != want {
					t.Fatalf("%v: row %d column %d is %d, want %d", shape, row, c, at(codes, row, c), want)
				}
			}
		}
		again, err := Pack(codes)
		if err != nil || !bytes.Equal(again.Data, p.Data) || !again.Type.Equal(p.Type) {
			t.Errorf("%v: %v, %v", shape, again, err)
		}
	}
}

func TestPackingRefusesWhatIsNoTernaryWeight(t *testing.T) {
	for j := range 4 {
		_, err := Unpack(packedOf(1, 3, 0, 0b10101010, 3<<(2*j)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "column 2") {
			t.Errorf("code 3 in place %d: %v", j, err)
		}
		three := tensor.New(tensor.T(tensor.U2, 4, 1))
		three.Data[j] = 3
		if _, err := Pack(three); !errors.Is(err, ErrFormat) {
			t.Errorf("code 3 in row %d: %v", j, err)
		}
		for c := range 19 { // in whole words, and in what is left
			data := bytes.Repeat([]byte{0b10101010}, 19)
			data[c] |= 1 << (2 * j)
			if _, err := Unpack(packedOf(1, 19, data...)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("column %d ", c)) {
				t.Errorf("code 3 in place %d of column %d: %v", j, c, err)
			}
		}
	}
	for name, x := range map[string]*tensor.Tensor{
		"f32": tensor.FromF32([]float32{1}, 1, 1), "a vector": packedOf(1, 1, 0, 0), "three rows": tensor.New(tensor.T(tensor.U2, 3, 4)),
		"one dimension": {Type: tensor.T(tensor.I8, 2), Data: []byte{0, 0}},
	} {
		if _, err := Unpack(x); !errors.Is(err, ErrFormat) {
			t.Errorf("unpack %s: %v", name, err)
		}
		if _, err := Pack(x); !errors.Is(err, ErrFormat) {
			t.Errorf("pack %s: %v", name, err)
		}
	}
}
