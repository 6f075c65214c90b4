package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/tensor"
)

// embeddingStd makes logits with a deviation of 1 at a width of 2,560.
const embeddingStd = 0.02

// weights collects tensors whose values are drawn when they are written, one
// tensor at a time.
type weights struct {
	typ   ggml.Type // of linears
	seed  uint64
	block int
	out   []gguf.TensorInfo
}

// add appends a tensor; data gets a generator of its own.
func (w *weights) add(name string, t ggml.Type, shape tensor.Shape, data func(io.Writer, *rand.PCG) error) {
	seed, stream := w.seed, uint64(len(w.out))
	w.out = append(w.out, gguf.TensorInfo{Name: name, Type: t, Shape: shape, Data: func(to io.Writer) error {
		return data(to, rand.NewPCG(seed, stream))
	}})
}

func (w *weights) name(of string) string { return fmt.Sprintf("blk.%d.%s.weight", w.block, of) }

// norm appends the gains f32[n] of a norm of the block.
func (w *weights) norm(of string, n int) { w.ones(w.name(of), n) }

// ones appends f32[n] of ones.
func (w *weights) ones(name string, n int) {
	w.add(name, ggml.F32, tensor.Shape{n}, func(to io.Writer, _ *rand.PCG) error {
		buf := make([]byte, 0, 4*n)
		for range n {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(1))
		}
		_, err := to.Write(buf)
		return err
	})
}

// embedding appends f16[m,k] of normal values.
func (w *weights) embedding(name string, m, k int) {
	w.add(name, ggml.F16, tensor.Shape{m, k}, func(to io.Writer, src *rand.PCG) error {
		r := rand.New(src)
		return rows(to, m, k, func(int) uint16 { return tensor.F32ToF16(float32(r.NormFloat64() * embeddingStd)) })
	})
}

// linear appends a matrix [m,k] of the block whose weights are -s, 0 and s, each
// as often, with s such that it keeps the deviation of what it multiplies.
func (w *weights) linear(of string, m, k int) {
	typ := w.typ
	w.add(w.name(of), typ, tensor.Shape{m, k}, func(to io.Writer, src *rand.PCG) error {
		scale := tensor.F32ToF16(float32(1 / math.Sqrt(2./3*float64(k))))
		codes := tensor.New(tensor.T(tensor.U2, m, k))
		for i := range codes.Data {
			codes.Data[i] = fourCodes[src.Uint64()>>32*81>>32]
		}
		if typ == ggml.F16 {
			values := [3]uint16{scale | 1<<15, 0, scale}
			return rows(to, m, k, func(i int) uint16 { return values[codes.Data[i/4]>>(i%4*2)&3] })
		}
		scales := tensor.New(tensor.T(tensor.F32, 1))
		scales.F32()[0] = tensor.F16ToF32(scale)
		write, err := ggml.Writer(typ, codes, scales)
		if err != nil {
			return err
		}
		return write(to)
	})
}

// fourCodes are the 81 ways to set four codes 0, 1 and 2 in a byte.
var fourCodes = func() (t [81]byte) {
	for i := range t {
		t[i] = byte(i%3 | i/3%3<<2 | i/9%3<<4 | i/27<<6)
	}
	return t
}()

// rows writes m rows of k values of 16 bits, those of elements 0 to m*k-1.
func rows(to io.Writer, m, k int, value func(i int) uint16) error {
	buf := make([]byte, 2*k)
	for r := range m {
		for c := range k {
			binary.LittleEndian.PutUint16(buf[2*c:], value(r*k+c))
		}
		if _, err := to.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
