package backendtest

import (
	"context"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// surrogateOps have a stated gradient in place of a derivative.
var surrogateOps = map[string]bool{"through": true, "cast": true, "int8": true, "bitlinear": true, "bitlinearcrossentropy": true}

type surrogate struct {
	name, rule string
	run        func(ctx context.Context, t *target) (float64, error)
}

func surrogates() []surrogate {
	return []surrogate{
		{"surrogate of through", "through(y, x) sends the whole cotangent to x and none to y", checkThrough},
		{"surrogate of cast", "a cast to f16 or bf16 and back passes the cotangent unchanged", checkCast},
		{"surrogate of int8", "int8 passes the cotangent unchanged", checkInt8},
		{"surrogate of bitlinear", "dX = dY W^ and dW = dY^T x^, with W^ dequantized and x^ fake-quantized", checkBitLinear},
		{"surrogate of bitlinearcrossentropy", "the gradients are those of bitlinear for the cotangent of the logits", checkBitLinearLoss},
		{"surrogate of codebookmatmul", "dX = dY W^, whatever the bits of the activations", checkCodeBook},
	}
}

// pulled runs build on inputs and returns the gradients of sum(r*y).
func (t *target) pulled(ctx context.Context, in []operand, r operand, build func(b *graph.Builder, x []graph.Value) graph.Value) (args, grads []*tensor.Tensor, err error) {
	s := sample{in: append(in, r), build: func(b *graph.Builder, x []graph.Value) []graph.Value {
		return []graph.Value{build(b, x)}
	}}
	g, err := graph.Trace(func(b *graph.Builder) {
		x := inputs(b, s.in)
		var wrt []graph.Value
		for _, v := range x[:len(in)] {
			if v.Type().DType == tensor.F32 {
				wrt = append(wrt, v)
			}
		}
		outputs(b, "d", b.Gradients(b.SumAll(b.Mul(build(b, x), x[len(in)])), wrt))
	})
	if err != nil {
		return nil, nil, err
	}
	args = s.tensors(seed, "surrogate")
	grads, err = t.once(ctx, g, nil, args...)
	return args, grads, err
}

// near returns the worst relative error of got, at most 1e-12.
func near(what string, got *tensor.Tensor, want []float64) (float64, error) {
	most, scale := 0.0, 0.0
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, g := range got.Floats() {
		e := math.Abs(g-want[i]) / max(scale, 1e-30)
		if g == want[i] {
			e = 0
		}
		if !(e <= 1e-12) {
			return e, errors.Newf("%s: element %d is %.15g, wants %.15g", what, i, g, want[i])
		}
		most = max(most, e)
	}
	return most, nil
}

func checkThrough(ctx context.Context, t *target) (float64, error) {
	args, d, err := t.pulled(ctx, []operand{f32(normal, 3, 5), f32(normal, 3, 5)}, f32(normal, 3, 5), func(b *graph.Builder, x []graph.Value) graph.Value {
		return b.Through(b.Mul(x[0], x[0]), x[1])
	})
	if err != nil {
		return 0, err
	}
	if _, err := near("gradient of y", d[0], make([]float64, 15)); err != nil {
		return 0, err
	}
	return near("gradient of x", d[1], args[2].Floats())
}

func checkCast(ctx context.Context, t *target) (float64, error) {
	for _, half := range []tensor.DType{tensor.F16, tensor.BF16} {
		args, d, err := t.pulled(ctx, []operand{f32(normal, 3, 5)}, f32(normal, 3, 5), func(b *graph.Builder, x []graph.Value) graph.Value {
			return b.Cast(b.Cast(x[0], half), tensor.F32)
		})
		if err == nil {
			_, err = near(half.String(), d[0], args[1].Floats())
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func checkInt8(ctx context.Context, t *target) (float64, error) {
	args, d, err := t.pulled(ctx, []operand{f32(normal, 3, 7)}, f32(normal, 3, 7), func(b *graph.Builder, x []graph.Value) graph.Value {
		return b.Int8(x[0])
	})
	if err != nil {
		return 0, err
	}
	return near("gradient of x", d[0], args[1].Floats())
}

// linearSizes of the surrogate checks: x [n,k], w [m,k], g groups a row.
const linearN, linearM, linearK, linearG = 3, 5, 12, 2

func checkBitLinear(ctx context.Context, t *target) (float64, error) {
	most := 0.0
	for _, act := range []int{0, 8} {
		a := graph.LinearAttr{Levels: ternaryLevels, ActBits: act}
		args, d, err := t.pulled(ctx, []operand{
			f32(normal, linearN, linearK), f32(normal, linearM, linearK),
			of(tensor.U2, below(3), linearM, linearK), f32(small, linearM, linearG),
		}, f32(normal, linearN, linearM), func(b *graph.Builder, x []graph.Value) graph.Value {
			return b.BitLinear(x[0], x[1], x[2], x[3], a)
		})
		if err != nil {
			return 0, err
		}
		x, g := args[0].Floats(), args[4].Floats()
		e1, err := near("dX", d[0], multiply(g, dequantized(args[2], args[3]), linearN, linearM, linearK))
		if err != nil {
			return e1, err
		}
		if act == 8 {
			x = fakeQuantized(x, linearK)
		}
		e2, err := near("dW", d[1], multiply(transposed(g, linearN, linearM), x, linearM, linearN, linearK))
		if err != nil {
			return e2, err
		}
		if _, err := near("gradient of the scales", d[2], make([]float64, linearM*linearG)); err != nil {
			return 0, err
		}
		most = max(most, e1, e2)
	}
	return most, nil
}

// checkBitLinearLoss compares with the two ops apart, whose rules are checked
// above and by finite differences.
func checkBitLinearLoss(ctx context.Context, t *target) (float64, error) {
	a := graph.LinearAttr{Levels: ternaryLevels, ActBits: 8}
	grads := func(loss func(b *graph.Builder, x []graph.Value) graph.Value) ([]*tensor.Tensor, error) {
		_, d, err := t.pulled(ctx, []operand{
			f32(normal, linearN, linearK), f32(normal, linearM, linearK),
			of(tensor.U2, below(3), linearM, linearK), f32(small, linearM, linearG), i32(listed(4, -1, 0), linearN),
		}, f32(normal, linearN), loss)
		return d, err
	}
	got, err := grads(func(b *graph.Builder, x []graph.Value) graph.Value {
		return b.BitLinearCrossEntropy(x[0], x[1], x[2], x[3], x[4], a)
	})
	if err != nil {
		return 0, err
	}
	want, err := grads(func(b *graph.Builder, x []graph.Value) graph.Value {
		return b.CrossEntropy(b.BitLinear(x[0], x[1], x[2], x[3], a), x[4])
	})
	if err != nil {
		return 0, err
	}
	most := 0.0
	for i, what := range []string{"dX", "dW", "gradient of the scales"} {
		e, err := near(what, got[i], want[i].Floats())
		if err != nil {
			return e, err
		}
		most = max(most, e)
	}
	return most, nil
}

func checkCodeBook(ctx context.Context, t *target) (float64, error) {
	args, d, err := t.pulled(ctx, []operand{
		f32(normal, linearN, linearK), of(tensor.U2, below(3), linearM, linearK), f32(small, linearM, linearG),
	}, f32(normal, linearN, linearM), func(b *graph.Builder, x []graph.Value) graph.Value {
		return b.CodeBookMatMul(x[0], x[1], x[2], graph.LinearAttr{Levels: ternaryLevels, ActBits: 8})
	})
	if err != nil {
		return 0, err
	}
	return near("dX", d[0], multiply(args[3].Floats(), dequantized(args[1], args[2]), linearN, linearM, linearK))
}

// dequantized is the weight [M,K] that ternary codes and scales stand for.
func dequantized(codes, scales *tensor.Tensor) []float64 {
	w, s := make([]float64, linearM*linearK), scales.Floats()
	for i := range w {
		r, c := i/linearK, i%linearK
		q := codes.Data[r*(linearK/4)+c/4] >> (c % 4 * 2) & 3
		w[i] = (float64(q) - 1) * s[r*linearG+c/(linearK/linearG)]
	}
	return w
}

// fakeQuantized rounds rows of k to 8-bit integers by their absmax.
func fakeQuantized(x []float64, k int) []float64 {
	out := make([]float64, len(x))
	for lo := 0; lo < len(x); lo += k {
		m := 1e-8
		for _, v := range x[lo : lo+k] {
			m = max(m, math.Abs(v))
		}
		for i, v := range x[lo : lo+k] {
			out[lo+i] = min(max(math.RoundToEven(v*127/m), -127), 127) * m / 127
		}
	}
	return out
}

// multiply is x [n,m] times y [m,k].
func multiply(x, y []float64, n, m, k int) []float64 {
	z := make([]float64, n*k)
	for i := range n {
		for j := range m {
			for c := range k {
				z[i*k+c] += x[i*m+j] * y[j*k+c]
			}
		}
	}
	return z
}

func transposed(x []float64, n, m int) []float64 {
	y := make([]float64, len(x))
	for i := range n {
		for j := range m {
			y[j*n+i] = x[i*m+j]
		}
	}
	return y
}

// checkNetwork compares the gradient of a small transformer with two residual
// streams along random directions.
func checkNetwork(ctx context.Context, t *target) (float64, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		loss := network(b, netConfig{batch: 2, tokens: 4, width: 8, heads: 2, kv: 1, vocab: 11, layers: 2})
		b.Output("loss", loss)
		outputs(b, "d", b.Gradients(loss, b.Params()))
	})
	if err != nil {
		return 0, err
	}
	st := initStates(g)
	for name, x := range st {
		if x.DType == tensor.F32 {
			st[name] = tensor.FromF64(x.Floats(), x.Shape...)
		}
	}
	ses, err := t.session(ctx, g, st)
	if err != nil {
		return 0, err
	}
	defer ses.close()
	in := networkInputs(g)
	grads, err := ses.run(ctx, in...)
	if err != nil {
		return 0, err
	}
	most := 0.0
	for trial := range 5 {
		e, err := directional(ctx, ses, st, in, grads[1:], trial)
		if err != nil {
			return e, err
		}
		most = max(most, e)
	}
	return most, nil
}

// directional moves all parameters along one random direction.
func directional(ctx context.Context, ses *session, st states, in, grads []*tensor.Tensor, trial int) (float64, error) {
	want := 0.0
	var at [2]float64
	for side, h := range []float64{gradStep, -gradStep} {
		for k, n := range ses.g.Params() {
			base, moved := st[n.Name()], st[n.Name()].Clone()
			key := rng.NewKey(uint64(trial), n.Name())
			for i := range moved.F64() {
				d := key.Normal(uint64(i))
				moved.F64()[i] = base.F64()[i] + h*d
				if side == 0 {
					want += d * grads[k].F64()[i]
				}
			}
			if err := ses.store.Put(ctx, n.Name(), moved); err != nil {
				return 0, err
			}
		}
		out, err := ses.run(ctx, in...)
		if err != nil {
			return 0, err
		}
		at[side] = out[0].F64()[0]
	}
	slope := (at[0] - at[1]) / (2 * gradStep)
	e := math.Abs(slope-want) / max(math.Abs(want), 1e-3)
	if !(e < gradBound) {
		return e, errors.Newf("direction %d: gradient %.12g, slope %.12g", trial, want, slope)
	}
	return e, nil
}
