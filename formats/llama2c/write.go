package llama2c

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/atomicfile"
)

// Write writes a checkpoint whole or not at all. of returns the f32 tensor of
// each name of Names and is called once for each, in file order. Errors are
// ErrFormat, what of returns, and those of the file system.
func Write(path string, c Config, of func(name string) (*tensor.Tensor, error)) error {
	if wrong := c.check(); wrong != "" {
		return unwritable("%s", wrong)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		if err := writeHeader(w, c); err != nil {
			return err
		}
		tables := 0
		for _, g := range c.groups() {
			if g.name == "" {
				if err := writeRotation(w, c, tables); err != nil {
					return err
				}
				tables++
				continue
			}
			for l := range g.count {
				if err := writeTensor(w, g.tensorName(l), g.shape, of); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func writeHeader(w io.Writer, c Config) error {
	n := c.numbers()
	if !c.Shared {
		n[5] = -n[5]
	}
	var b []byte
	for _, v := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(int32(v)))
	}
	_, err := w.Write(b)
	return err
}

func writeTensor(w io.Writer, name string, shape tensor.Shape, of func(string) (*tensor.Tensor, error)) error {
	t, err := of(name)
	if err != nil {
		return errors.Wrapf(err, "tensor %q", name)
	}
	want := tensor.Type{DType: tensor.F32, Shape: shape}
	if !t.Type.Equal(want) || len(t.Data) != want.Bytes() {
		return unwritable("tensor %q is %v with %d bytes, the model needs %v", name, t.Type, len(t.Data), want)
	}
	_, err = w.Write(t.Data)
	return err
}

// writeRotation writes the cosines (which 0) or sines (which 1) of the angles
// t*10000^(-2i/size), [SeqLen, size/2], with the rounding of export.py: the
// frequency and the angle are f32.
func writeRotation(w io.Writer, c Config, which int) error {
	size := c.headSize()
	row := make([]byte, 0, 2*size)
	for t := range c.SeqLen {
		row = row[:0]
		for i := 0; i < size; i += 2 {
			freq := 1 / float32(math.Pow(10000, float64(float32(i)/float32(size))))
			v := math.Cos
			if which == 1 {
				v = math.Sin
			}
			row = binary.LittleEndian.AppendUint32(row, math.Float32bits(float32(v(float64(float32(t)*freq)))))
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}
