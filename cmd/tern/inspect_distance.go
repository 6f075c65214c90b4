package main

import (
	"context"
	"fmt"
	"io"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
)

// diffElements is how many elements of both tensors are in memory at a time: a
// multiple of every type's block.
const diffElements = 1 << 16

// distance is how far the elements of a tensor are from those of another, b from a,
// both as float32.
type distance struct {
	Elements  int64    `json:"elements"`
	Differ    int64    `json:"differ"`             // elements of another value
	Largest   float64  `json:"largest"`            // of |a - b|
	Relative  *float64 `json:"relative,omitempty"` // |a - b| / |a|, Euclidean norms; nil if all of a is 0 and b is not
	NotFinite int64    `json:"not_finite"`         // elements that differ and of which one is infinite or NaN, which no other field but Differ counts
}

func (d *distance) columns() string {
	relative := "-"
	if d.Relative != nil {
		relative = fmt.Sprintf("%.3g", *d.Relative)
	}
	s := fmt.Sprintf("%s of %s\t%.3g\t%s", thousands(d.Differ), thousands(d.Elements), d.Largest, relative)
	if d.NotFinite > 0 {
		s += fmt.Sprintf(" (%s not finite)", plural(int(d.NotFinite), "element"))
	}
	return s
}

// elementsOf reads the elements of a tensor in order.
type elementsOf struct {
	r      io.Reader
	typ    ggml.Type
	raw    []byte
	values []float32
}

func newElements(f *gguf.File, name string) (*elementsOf, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	r, err := f.Section(name)
	if err != nil {
		return nil, err
	}
	n := min(diffElements, t.Shape.Numel())
	return &elementsOf{r: r, typ: t.Type, raw: make([]byte, n/t.Type.Block()*t.Type.BlockBytes()), values: make([]float32, n)}, nil
}

// errUnreadable is returned for bytes that are no elements of their type.
var errUnreadable = errors.New("no values")

// next returns the next n elements; errUnreadable if these bytes are none.
func (e *elementsOf) next(n int) ([]float32, error) {
	raw := e.raw[:n/e.typ.Block()*e.typ.BlockBytes()]
	if _, err := io.ReadFull(e.r, raw); err != nil {
		return nil, errors.WithHint(errors.Wrapf(gguf.ErrFormat, "cut short while it is read: %v", err), "leave the files alone while they are compared")
	}
	if err := e.typ.Dequantize(e.values[:n], raw); err != nil {
		return nil, errors.Mark(err, errUnreadable)
	}
	return e.values[:n], nil
}

// distanceOf compares the elements of a tensor that both files have in one shape,
// or says why that cannot be.
func distanceOf(ctx context.Context, a, b *gguf.File, name string) (d *distance, note string, err error) {
	ea, err := newElements(a, name)
	if err != nil {
		return nil, "", err
	}
	eb, err := newElements(b, name)
	if err != nil {
		return nil, "", err
	}
	t, err := a.Tensor(name)
	if err != nil {
		return nil, "", err
	}
	switch d, err = measure(ctx, ea, eb, t.Shape.Numel()); {
	case errors.Is(err, errUnreadable):
		return nil, message(err), nil
	case err != nil:
		return nil, "", errors.Wrapf(err, "tensor %q", name)
	}
	return d, "", nil
}

// measure compares n elements, a block of both at a time.
func measure(ctx context.Context, a, b *elementsOf, n int) (*distance, error) {
	d := distance{Elements: int64(n)}
	var sum, of float64 // squares of a - b, and of a
	for at := 0; at < n; at += diffElements {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		va, err := a.next(min(n-at, diffElements))
		if err != nil {
			return nil, errors.Wrap(err, "A")
		}
		vb, err := b.next(len(va))
		if err != nil {
			return nil, errors.Wrap(err, "B")
		}
		s, o := d.add(va, vb)
		sum, of = sum+s, of+o
	}
	if sum == 0 {
		d.Relative = new(float64)
	} else if of > 0 {
		r := math.Sqrt(sum / of)
		d.Relative = &r
	}
	return &d, nil
}

// add compares elements, and returns the sums of the squares of a - b and of a.
func (d *distance) add(a, b []float32) (sum, of float64) {
	for i, x := range a {
		y := b[i]
		if x != x && y != y { // both NaN
			continue
		}
		if x != y {
			d.Differ++
		}
		wide, diff := float64(x), float64(x)-float64(y)
		if diff-diff != 0 { // one is infinite or NaN
			if x != y {
				d.NotFinite++
			}
			continue
		}
		d.Largest = max(d.Largest, math.Abs(diff))
		sum += diff * diff
		of += wide * wide
	}
	return sum, of
}
