package scalar

import (
	"fmt"
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addLinear[F Float](t host.Table) {
	t.Add("int8", int8Rows[F]())
	t.Add("int8.vjp", int8VJP())
	t.Add("codebookmatmul", codeBookMatMul[F](1))
	t.Add("bitlinear", codeBookMatMul[F](2))
	t.Add("bitlinear.vjp", bitLinearVJP[F]())
}

// activationScale is max(absmax, 1e-8)/127 in the arithmetic of F, as the
// expansion of int8 computes it. The conversion keeps a processor with fused
// multiply-add from carrying the unrounded product into what follows.
func activationScale[F Float](x []F) F {
	top := F(1e-8)
	for _, v := range x {
		top = max(top, max(v, -v))
	}
	return F(top * F(1.0/127))
}

// quantized is clamp(round(x/s), -127, 127), halves to even.
func quantized[F Float](x, s F) F {
	return max(-127, min(127, F(math.RoundToEven(float64(x/s)))))
}

// fakeQuantize sets z, which may be x, to the nearest multiples of its scale.
func fakeQuantize[F Float](z, x []F) {
	s := activationScale(x)
	for i, v := range x {
		z[i] = quantized(v, s) * s
	}
}

func int8Rows[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		return []host.Loop{fakeQuantizeRows(view[F](c.Out[0]), view[F](c.In[0]), c.In[0].Shape)}
	}}
}

func fakeQuantizeRows[F Float](z, x []F, s tensor.Shape) host.Loop {
	n, width := rows(s)
	return loop(n, 6*width, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			fakeQuantize(z[i*width:(i+1)*width], x[i*width:(i+1)*width])
		}
	})
}

// int8VJP passes the cotangent on.
func int8VJP() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		g, dx := c.In[1].Data, c.Out[0].Data
		if &g[0] == &dx[0] {
			return nil
		}
		return []host.Loop{loop(len(dx), 1, func(lo, hi int) { copy(dx[lo:hi], g[lo:hi]) })}
	}}
}

// linear is y [N,M] = x [N,K] times the transpose of M rows of K levels, in
// groups of so many that share a scale.
type linear[F Float] struct {
	N, M, K, group int
	perRow         int // scales a row, 0 if all rows share one
	scales, x, y   []F
	levels         []int8
	q              []int8 // x in units of its row's scale
	unit           []F    // the scale of each row of x
}

func newLinear[F Float](c *host.Call, codes int) *linear[F] {
	m, k, s := c.In[codes].Shape[0], c.In[codes].Shape[1], c.In[codes+1].Shape
	l := &linear[F]{N: c.In[0].Shape[0], M: m, K: k, group: k / s[1], perRow: s[1], scales: view[F](c.In[codes+1]), x: view[F](c.In[0])}
	if s[0] == 1 {
		l.perRow = 0
	}
	return l
}

// codeBookMatMul multiplies by operand `codes` and the scales after it. With
// 8-bit activations a group is an exact sum of integers.
func codeBookMatMul[F Float](codes int) host.Kernel {
	return host.Kernel{
		Prepare: func(n *graph.Node) []host.Prepared {
			levels := n.Attr.(graph.LinearAttr).Levels
			return []host.Prepared{{
				Key: fmt.Sprintf("scalar levels %v", levels), Operands: []int{codes}, Bytes: n.In[codes].Shape().Numel(), Sole: true,
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
					return []host.Loop{unpackRows(tensor.View[int8](dst), in[0], levels)}
				},
			}}
		},
		Scratch: func(n *graph.Node) int {
			x := n.In[0].Shape()
			return room[int8](x.Numel()) + room[F](x[0])
		},
		Bind: func(c *host.Call) []host.Loop {
			l := newLinear[F](c, codes)
			l.y, l.levels = view[F](c.Out[0]), tensor.View[int8](c.Prepared[0])
			if c.Node.Attr.(graph.LinearAttr).ActBits == 0 {
				return []host.Loop{loop(l.M, l.N*l.K, l.floatRows)}
			}
			mem := c.Scratch
			l.q, l.unit = take[int8](&mem, l.N*l.K), take[F](&mem, l.N)
			return []host.Loop{loop(l.N, 6*l.K, l.quantize), loop(l.M, l.N*l.K, l.integerRows)}
		},
	}
}

// quantize fills q and unit for rows [lo,hi) of x. A row that is not finite
// gets a scale of NaN.
func (l *linear[F]) quantize(lo, hi int) {
	for n := lo; n < hi; n++ {
		x, q := l.x[n*l.K:(n+1)*l.K], l.q[n*l.K:(n+1)*l.K]
		s := activationScale(x)
		l.unit[n] = s
		if s-s != 0 {
			l.unit[n] = F(math.NaN())
			clear(q)
			continue
		}
		for i, v := range x {
			q[i] = int8(quantized(v, s))
		}
	}
}

// integerRows computes columns [lo,hi) of y from integers.
func (l *linear[F]) integerRows(lo, hi int) {
	for m := lo; m < hi; m++ {
		w, scales := l.levels[m*l.K:(m+1)*l.K], l.scales[m*l.perRow:]
		for n := range l.N {
			q, sum := l.q[n*l.K:(n+1)*l.K], 0.0
			for g := 0; g*l.group < l.K; g++ {
				d := dotInt8(q[g*l.group:(g+1)*l.group], w[g*l.group:(g+1)*l.group])
				sum += float64(d) * float64(scales[g])
			}
			l.y[n*l.M+m] = F(sum * float64(l.unit[n]))
		}
	}
}

func dotInt8(x, y []int8) int {
	y = y[:len(x)]
	sum := 0
	for i, v := range x {
		sum += int(v) * int(y[i])
	}
	return sum
}

// floatRows computes columns [lo,hi) of y from x as it is.
func (l *linear[F]) floatRows(lo, hi int) {
	for m := lo; m < hi; m++ {
		w, scales := l.levels[m*l.K:(m+1)*l.K], l.scales[m*l.perRow:]
		for n := range l.N {
			x, sum := l.x[n*l.K:(n+1)*l.K], 0.0
			for g := 0; g*l.group < l.K; g++ {
				s := scales[g]
				for k := g * l.group; k < (g+1)*l.group; k++ {
					sum += float64(x[k]) * float64(F(w[k])*s)
				}
			}
			l.y[n*l.M+m] = F(sum)
		}
	}
}

// weights sets w [M,K] to level times scale.
func (l *linear[F]) weights(w []F, codes tensor.Tensor, levels []int8) host.Loop {
	book, bytes := codeBook[F](levels), len(codes.Data)/l.M
	return loop(l.M, 3*l.K, func(lo, hi int) {
		for m := lo; m < hi; m++ {
			row, scales := w[m*l.K:(m+1)*l.K], l.scales[m*l.perRow:]
			unpack(row, codes.Data[m*bytes:(m+1)*bytes], codes.DType.Block(), &book)
			for k := range row {
				row[k] *= scales[k/l.group]
			}
		}
	})
}

// bitLinearVJP: operands x, latent, codes, scales, g [N,M]. The quantizers of
// weights and activations count as the identity: dx = g W, d latent = g^T x as
// it was quantized, and the scales have no gradient.
func bitLinearVJP[F Float]() host.Kernel {
	scratch := func(n *graph.Node) int {
		return room[F](n.In[2].Shape().Numel()) + room[F](n.In[0].Shape().Numel())
	}
	return host.Kernel{Scratch: scratch, Bind: func(c *host.Call) []host.Loop {
		l, a, mem := newLinear[F](c, 2), c.Node.Attr.(graph.LinearAttr), c.Scratch
		w, x := take[F](&mem, l.M*l.K), c.In[0]
		loops := []host.Loop{l.weights(w, c.In[2], a.Levels)}
		if a.ActBits != 0 {
			q := take[F](&mem, l.N*l.K)
			loops = append(loops, fakeQuantizeRows(q, l.x, c.In[0].Shape))
			x.Data = bytesOf(q)
		}
		weights := tensor.Tensor{Type: c.In[2].Type, Data: bytesOf(w)}
		weights.DType = tensor.F32
		dx := &product[F]{x: view[F](c.In[4]), y: weights, z: view[F](c.Out[0]), batch: 1, m: l.N, n: l.K, k: l.M}
		dw := &product[F]{x: view[F](c.In[4]), y: x, z: view[F](c.Out[1]), batch: 1, m: l.M, n: l.K, k: l.N, transX: true}
		return append(loops, dx.loop(), dw.loop(), fill(view[F](c.Out[2]), 0))
	}}
}
