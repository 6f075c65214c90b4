package modelfile

import (
	"io"
	"math"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// llamaWriter collects the tensors of a file.
type llamaWriter struct {
	LlamaOptions
	arch   string
	halves bool // rotary pairs are element i and i + D/2 of a head
	scales bool // scales are f32 values, whatever Type is
	w      *Weights
	out    []gguf.TensorInfo
	loss   Loss
}

// collect describes the tensors. Their contents are made when they are written.
func (l *llamaWriter) collect() error {
	nodes, err := states(l.w.Model)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := l.state(n); err != nil {
			return err
		}
	}
	return nil
}

// ropeFactors describes the divisors of rotary frequencies, if there are any.
func (l *llamaWriter) ropeFactors() error {
	f := l.w.Model.RoPEFactors
	if f == nil {
		return nil
	}
	t := tensor.New(tensor.T(tensor.F32, len(f)))
	for i, v := range f {
		t.F32()[i] = float32(v)
	}
	info, err := gguf.FromTensor(ropeFreqs, t)
	l.out = append(l.out, info)
	return err
}

func (l *llamaWriter) state(n *graph.Node) error {
	base, kind := cutKind(n.Name())
	if strings.HasSuffix(base, ".scaled") || kind == "scales" || kind == "mins" {
		return nil // folded, or written with the codes
	}
	if base == "lm_head" && kind == "codes" && l.w.Model.Head == model.HeadInt8 {
		return l.int8Head(n, base)
	}
	if kind == "codes" || isLinear(base) || base == "lm_head" && n.Out[0].DType == tensor.F32 {
		if k := n.Out[0].Shape[1]; k%l.Type.Block() != 0 {
			return errors.WithHint(errors.Wrapf(ggml.ErrLossy, "tensor %q: rows of %d are no multiple of the %d of %v", fileName(base+".weight"), k, l.Type.Block(), l.Type),
				"choose --type f16 or f32, or q2_0 where rows are a multiple of 64")
		}
		l.out = append(l.out, l.linear(n, base))
		return nil
	}
	t, err := l.w.Tensor(n.Name())
	if err != nil {
		return err
	}
	info, err := gguf.FromTensor(fileName(n.Name()), t)
	l.out = append(l.out, info)
	return err
}

// int8Head describes a head of int8, which in every type of file is Q8_0: its codes
// as they are.
func (l *llamaWriter) int8Head(n *graph.Node, base string) error {
	x, err := l.w.matrix(n)
	if err != nil {
		return err
	}
	info, err := gguf.FromCodes(fileName(base+".weight"), ggml.Q8_0, x.Codes.Codes, x.Scales)
	l.out = append(l.out, info)
	return err
}

// linear describes the weight of a linear layer in the type asked for.
func (l *llamaWriter) linear(n *graph.Node, base string) gguf.TensorInfo {
	name := fileName(base + ".weight")
	return gguf.TensorInfo{Name: name, Type: l.Type, Shape: n.Out[0].Shape, Data: func(out io.Writer) error {
		x, err := l.matrix(n, base)
		if err != nil {
			return err
		}
		return errors.Wrapf(l.write(out, name, x), "as %v", l.Type)
	}}
}

// matrix is the weight whose codes, or floats, are the state n, as the file has it:
// with the gain of the residual, and its rows in the file's order.
func (l *llamaWriter) matrix(n *graph.Node, base string) (matrix, error) {
	x, err := l.w.matrix(n)
	if err != nil {
		return x, err
	}
	x = l.fold(base, x)
	if l.halves && isRotated(base) {
		x = x.reorder(func(t *tensor.Tensor) *tensor.Tensor { return halveRows(t, l.w.Model.HeadDim()) })
	}
	return x, nil
}

// write writes the bytes of a weight.
func (l *llamaWriter) write(out io.Writer, name string, x matrix) error {
	if ggml.EncodesTwoBit(l.Type) && x.ternary() {
		codes, err := ggml.Writer(l.Type, x.Codes.Codes, x.Scales)
		if err == nil {
			return codes(out)
		}
		if !l.Lossy || !errors.Is(err, ggml.ErrLossy) {
			return err
		}
	}
	f := x.f32().F32()
	size, err := l.Type.Bytes(x.shape())
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if err := l.Type.Quantize(data, f); err != nil {
		return err
	}
	off, err := distance(l.Type, data, f)
	switch {
	case err != nil:
		return err
	case off > 0 && ggml.EncodesTwoBit(l.Type) && !l.Lossy:
		return l.notTernary()
	case off > l.loss.Error:
		l.loss.Error, l.loss.Tensor = off, name
	}
	_, err = out.Write(data)
	return err
}

// distance is the norm of what is different in data by the norm of want.
func distance(t ggml.Type, data []byte, want []float32) (float64, error) {
	got := make([]float32, len(want))
	if err := t.Dequantize(got, data); err != nil {
		return 0, err
	}
	var off, norm float64
	for i, v := range want {
		d := float64(got[i]) - float64(v)
		off, norm = off+d*d, norm+float64(v)*float64(v)
	}
	return math.Sqrt(off / max(norm, math.SmallestNonzeroFloat64)), nil
}

// notTernary refuses weights that a ternary type does not hold.
func (l *llamaWriter) notTernary() error {
	return errors.WithHint(errors.Wrapf(ggml.ErrLossy, "its weights are not ternary (quantizer %s)", l.w.Model.Quant),
		"choose --type f16 or f32, or --allow-lossy, which rounds them to ternary ones")
}

// fold multiplies scales, or a weight, by the gain of the sub-layer that the
// weight ends. Scales stay f16 values where the file has no others.
func (l *llamaWriter) fold(base string, x matrix) matrix {
	sub, last := strings.CutSuffix(base, ".wo")
	if !last {
		sub, last = strings.CutSuffix(base, ".down")
	}
	gain := l.w.Tensors[sub+".scaled.gain"]
	if !last || gain == nil {
		return x
	}
	g := gain.F32()[0]
	return x.mapScales(func(v float32) float32 {
		want := float64(v) * float64(g)
		got := float32(want)
		if l.Type != ggml.F32 && !l.scales {
			got = tensor.F16ToF32(tensor.F32ToF16(got))
		}
		if want != 0 {
			l.loss.Folded = max(l.loss.Folded, math.Abs(float64(got)/want-1))
		}
		return got
	})
}
