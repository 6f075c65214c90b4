package graph

import (
	"math"
	"slices"

	"github.com/ternlm/tern/framework/tensor"
)

// NormAttr is the epsilon added to the mean square, inside the root.
type NormAttr struct{ Eps float64 }

// RoPEAttr is the base of the rotary frequencies and, for a context longer than
// the model was first trained with, what each of the D/2 frequencies is divided
// by.
type RoPEAttr struct {
	Theta   float64
	Factors []float64 `json:",omitempty"` // none: all are 1
}

// Frequencies returns the D/2 angles in radians by which a position is turned
// further than the one before it.
func (a RoPEAttr) Frequencies(d int) []float64 {
	f := make([]float64, d/2)
	for i := range f {
		f[i] = math.Pow(a.Theta, -2*float64(i)/float64(d))
		if a.Factors != nil {
			f[i] /= a.Factors[i]
		}
	}
	return f
}

// LinearAttr describes a quantized linear layer: the code book of its weights,
// and the bits of its activations (8, or 0 for activations left as they are).
type LinearAttr struct {
	Levels  []int8
	ActBits int
}

// AdamAttr holds the constants of AdamW.
type AdamAttr struct{ Beta1, Beta2, Eps, Decay float64 }

var (
	opRMSNorm, opSwiGLU, opSoftmax, opRoPE, opAttention, opCrossEntropy *Op
	opInt8, opBitLinear, opCodeBookMatMul                               *Op
	opStreamRead, opStreamWrite, opAdamW                                *Op
)

// Composites: each is defined once, by its expansion; its gradient is derived.
func init() {
	opRMSNorm = Define(Op{
		Name: "rmsnorm", Cheap: true, Attr: NormAttr{}, Arity: 2, Alias: [][]int{{0}}, Expand: expandRMSNorm,
		Infer: func(n *Node) []tensor.Type {
			wantF32(n, 0)
			wantShape(n, 1, tensor.F32, n.In[0].Dim(-1))
			return sameAsFirst(n)
		},
	})
	opSwiGLU = Define(Op{
		Name: "swiglu", Cheap: true, Arity: 2, Alias: [][]int{{0, 1}}, AliasVJP: [][]int{{0, 2}, {1, 2}}, Expand: expandSwiGLU,
		Infer: func(n *Node) []tensor.Type {
			wantShape(n, 1, tensor.F32, n.In[0].Shape()...)
			wantF32(n, 0)
			return sameAsFirst(n)
		},
	})
	opSoftmax = Define(Op{
		Name: "softmax", Arity: 1, Alias: [][]int{{0}}, Expand: expandSoftmax,
		Infer: func(n *Node) []tensor.Type {
			wantF32(n, 0)
			n.In[0].Dim(-1)
			return sameAsFirst(n)
		},
	})
	opRoPE = Define(Op{
		Name: "rope", Attr: RoPEAttr{}, Arity: 2, Alias: [][]int{{0}}, AliasVJP: [][]int{{2}}, Expand: expandRoPE,
		Infer: func(n *Node) []tensor.Type {
			wantRank(n, 0, 4)
			wantF32(n, 0)
			wantShape(n, 1, tensor.I32, n.In[0].Dim(0))
			checkRoPE(n.In[0], n.Attr.(RoPEAttr))
			return sameAsFirst(n)
		},
	})
	opAttention = Define(Op{Name: "attention", Arity: 4, Expand: expandAttention, Infer: inferAttention})
	opCrossEntropy = Define(Op{
		Name: "crossentropy", Arity: 2, AliasVJP: [][]int{{0}}, Expand: expandCrossEntropy,
		Infer: func(n *Node) []tensor.Type {
			wantRank(n, 0, 2)
			wantF32(n, 0)
			wantShape(n, 1, tensor.I32, n.In[0].Dim(0))
			return types(tensor.T(tensor.F32, n.In[0].Dim(0)))
		},
	})
	defineLinear()
	defineStreams()
}

func expandRMSNorm(b *Builder, attr any, in []Value) []Value {
	x, w := in[0], in[1]
	ms := b.Mean(b.Mul(x, x), -1)
	r := b.Rsqrt(b.Add(ms, b.Like(ms, attr.(NormAttr).Eps)))
	return []Value{b.Mul(b.Mul(x, r), w)}
}

func expandSwiGLU(b *Builder, _ any, in []Value) []Value {
	return []Value{b.Mul(b.Mul(in[0], b.Sigmoid(in[0])), in[1])}
}

func expandSoftmax(b *Builder, _ any, in []Value) []Value {
	e := b.Exp(b.Sub(in[0], b.StopGrad(b.AMax(in[0], -1))))
	return []Value{b.Div(e, b.Sum(e, -1))}
}

// checkRoPE fails unless the last dimension is pairs that a turns.
func checkRoPE(x Value, a RoPEAttr) {
	if x.Dim(3)%2 != 0 || a.Theta <= 0 {
		failf("rope of %v with theta %v, wants pairs and a positive theta", x.Type(), a.Theta)
	}
	if a.Factors != nil && len(a.Factors) != x.Dim(3)/2 {
		failf("rope of %v with %d factors, wants one for each pair", x.Type(), len(a.Factors))
	}
	for _, f := range a.Factors {
		if f <= 0 {
			failf("rope with a factor of %v, wants a positive one", f)
		}
	}
}

func expandRoPE(b *Builder, attr any, in []Value) []Value {
	x, pos := in[0], b.Cast(in[1], tensor.F32)
	B, T, H, D := x.Dim(0), x.Dim(1), x.Dim(2), x.Dim(3)
	freq := b.Exp(b.Scale(b.Iota(D/2), -2*math.Log(attr.(RoPEAttr).Theta)/float64(D)))
	if f := attr.(RoPEAttr).Factors; f != nil {
		freq = b.Div(freq, b.ConstList(f, D/2))
	}
	row := b.Add(b.Reshape(b.Iota(T), 1, T), b.Reshape(pos, B, 1))
	angle := b.Mul(b.Reshape(row, B, T, 1, 1, 1), b.Reshape(freq, 1, 1, 1, D/2, 1))
	cos, sin := b.Cos(angle), b.Sin(angle)
	pairs := b.Reshape(x, B, T, H, D/2, 2)
	even, odd := b.Slice(pairs, -1, 0, 1), b.Slice(pairs, -1, 1, 2)
	return []Value{b.Reshape(b.Concat(-1,
		b.Sub(b.Mul(even, cos), b.Mul(odd, sin)),
		b.Add(b.Mul(even, sin), b.Mul(odd, cos))), B, T, H, D)}
}

func inferAttention(n *Node) []tensor.Type {
	wantF32(n, 0)
	wantRank(n, 0, 4)
	wantRank(n, 1, 4)
	q, k := n.In[0].Shape(), n.In[1].Shape()
	stored := n.In[1].Type().DType
	if stored != tensor.F16 {
		wantF32(n, 1)
	}
	wantShape(n, 2, stored, k...)
	wantShape(n, 3, tensor.I32, q[0])
	if k[0] != q[0] || k[3] != q[3] || q[2]%k[2] != 0 || k[1] < q[1] {
		failf("attention: queries %v do not fit keys %v", q, k)
	}
	return sameAsFirst(n)
}

func expandAttention(b *Builder, _ any, in []Value) []Value {
	q, k, v, pos := in[0], b.Cast(in[1], tensor.F32), b.Cast(in[2], tensor.F32), b.Cast(in[3], tensor.F32)
	B, T, H, D := q.Dim(0), q.Dim(1), q.Dim(2), q.Dim(3)
	S, Hkv := k.Dim(1), k.Dim(2)
	heads := func(x Value) Value { return b.Transpose(x, 0, 2, 1, 3) }
	shared := func(x Value) Value { // a key head serves H/Hkv query heads
		x = b.Reshape(heads(x), B, Hkv, 1, S, D)
		return b.Reshape(b.Broadcast(x, tensor.Shape{B, Hkv, H / Hkv, S, D}), B, H, S, D)
	}
	scores := b.Scale(b.MatMul(heads(q), shared(k), false, true), 1/math.Sqrt(float64(D)))
	row := b.Add(b.Reshape(b.Iota(T), 1, 1, T, 1), b.Reshape(pos, B, 1, 1, 1))
	col := b.Reshape(b.Iota(S), 1, 1, 1, S)
	scores = b.Where(b.Less(row, col), b.Like(scores, -1e30), scores)
	return []Value{heads(b.MatMul(b.Softmax(scores), shared(v), false, false))}
}

func expandCrossEntropy(b *Builder, _ any, in []Value) []Value {
	x := in[0]
	N, V := x.Dim(0), x.Dim(1)
	target := b.Reshape(b.Cast(in[1], tensor.F32), N, 1)
	z := b.Sub(x, b.StopGrad(b.AMax(x, 1)))
	hit := b.Equal(target, b.Reshape(b.Iota(V), 1, V))
	nll := b.Sub(b.Log(b.Sum(b.Exp(z), 1)), b.Sum(b.Where(hit, z, b.Like(z, 0)), 1))
	zero := b.Like(target, 0)
	return []Value{b.Reshape(b.Where(b.Less(target, zero), zero, nll), N)}
}

func defineLinear() {
	opInt8 = Define(Op{
		Name: "int8", Arity: 1, Alias: [][]int{{0}}, AliasVJP: [][]int{{1}}, Expand: expandInt8,
		Infer: func(n *Node) []tensor.Type {
			wantF32(n, 0)
			n.In[0].Dim(-1)
			return sameAsFirst(n)
		},
	})
	// x [N,K], latent w [M,K], codes [M,K], scales f32 [M,G], [M,1] or [1,1] -> [N,M]
	opBitLinear = Define(Op{
		Name: "bitlinear", Attr: LinearAttr{}, Arity: 4,
		Infer: func(n *Node) []tensor.Type {
			wantShape(n, 1, tensor.F32, n.In[2].Shape()...)
			return inferLinear(n, n.In[0], n.In[2], n.In[3])
		},
		Expand: func(b *Builder, attr any, in []Value) []Value {
			a := attr.(LinearAttr)
			w := b.Through(b.Dequantize(in[2], in[3], a.Levels), in[1])
			return []Value{b.MatMul(b.quantizeActivations(in[0], a), w, false, true)}
		},
	})
	// x [N,K], codes [M,K], scales -> [N,M]
	opCodeBookMatMul = Define(Op{
		Name: "codebookmatmul", Attr: LinearAttr{}, Arity: 3,
		Infer: func(n *Node) []tensor.Type { return inferLinear(n, n.In[0], n.In[1], n.In[2]) },
		Expand: func(b *Builder, attr any, in []Value) []Value {
			a := attr.(LinearAttr)
			return []Value{b.MatMul(b.quantizeActivations(in[0], a), b.Dequantize(in[1], in[2], a.Levels), false, true)}
		},
	})
}

// expandInt8 is int8 fake quantisation, absmax per row, straight through:
// s = max(absmax, 1e-8)/127, q = clamp(round(x/s), -127, 127), value q*s.
func expandInt8(b *Builder, _ any, in []Value) []Value {
	x := in[0]
	s := b.Scale(b.Max(b.AMax(b.Abs(x), -1), b.Like(x, 1e-8)), 1.0/127)
	q := b.Min(b.Max(b.Round(b.Div(x, s)), b.Like(x, -127)), b.Like(x, 127))
	return []Value{b.Through(b.Mul(q, s), x)}
}

func (b *Builder) quantizeActivations(x Value, a LinearAttr) Value {
	if a.ActBits == 0 {
		return x
	}
	return b.Int8(x)
}

func inferLinear(n *Node, x, codes, scales Value) []tensor.Type {
	a := n.Attr.(LinearAttr)
	if a.ActBits != 0 && a.ActBits != 8 {
		failf("%s: %d activation bits, wants 8 or 0", n.Op.Name, a.ActBits)
	}
	if len(x.Shape()) != 2 || len(codes.Shape()) != 2 || x.Type().DType != tensor.F32 || x.Dim(1) != codes.Dim(1) {
		failf("%s: %v by codes %v", n.Op.Name, x.Type(), codes.Type())
	}
	checkLevels(n.Op.Name, codes.Type().DType, a.Levels)
	checkScales(n.Op.Name, codes, scales)
	return types(tensor.T(tensor.F32, x.Dim(0), codes.Dim(0)))
}

// checkScales fails unless scales is [M,G] with G dividing K, or [1,1].
func checkScales(op string, codes, scales Value) {
	c, s := codes.Shape(), scales.Type()
	if s.DType != tensor.F32 || len(s.Shape) != 2 || !slices.Equal(s.Shape, []int{1, 1}) && (s.Shape[0] != c[0] || c[1]%s.Shape[1] != 0) {
		failf("%s: scales %v do not fit codes %v", op, s, codes.Type())
	}
}

// Dequantize is the weight f32 [M,K] that codes [M,K] and scales ([M,G], [M,1]
// or [1,1]) stand for: level times scale.
func (b *Builder) Dequantize(codes, scales Value, levels []int8) Value {
	if len(codes.Shape()) != 2 {
		failf("dequantize: codes %v, wants 2 dimensions", codes.Type())
	}
	checkScales("dequantize", codes, scales)
	M, K, G := codes.Dim(0), codes.Dim(1), scales.Dim(1)
	q := b.Reshape(b.Decode(codes, levels), M, G, K/G)
	return b.Reshape(b.Mul(q, b.Reshape(scales, scales.Dim(0), G, 1)), M, K)
}

func defineStreams() {
	// s [N,S,C], pre [S] or [N,S] -> [N,C]
	opStreamRead = Define(Op{
		Name: "streamread", Cheap: true, Arity: 2,
		Infer: func(n *Node) []tensor.Type {
			wantRank(n, 0, 3)
			wantF32(n, 0)
			s := n.In[0].Shape()
			wantEach(n, 1, s[0], s[1])
			return types(tensor.T(tensor.F32, s[0], s[2]))
		},
		Expand: func(b *Builder, _ any, in []Value) []Value {
			s := in[0]
			return []Value{b.Reshape(b.Sum(b.Mul(s, eachRow(b, in[1], s.Dim(1), 1)), 1), s.Dim(0), s.Dim(2))}
		},
	})
	// s [N,S,C], y [N,C], h [S,S] or [N,S,S], post [S] or [N,S] -> s'_i = sum_j h_ij s_j + post_i y
	opStreamWrite = Define(Op{
		Name: "streamwrite", Arity: 4, Alias: [][]int{{0}}, AliasVJP: [][]int{{4}}, Expand: expandStreamWrite,
		Infer: func(n *Node) []tensor.Type {
			wantRank(n, 0, 3)
			wantF32(n, 0)
			s := n.In[0].Shape()
			wantShape(n, 1, tensor.F32, s[0], s[2])
			wantEach(n, 2, s[0], s[1], s[1])
			wantEach(n, 3, s[0], s[1])
			return sameAsFirst(n)
		},
	})
	// p g m v like each other; lr, 1-beta1^t, 1-beta2^t f32 [] -> p' m' v'
	opAdamW = Define(Op{
		Name: "adamw", Attr: AdamAttr{}, Arity: 7, Results: 3, NoGrad: true,
		Alias: [][]int{{0}, {2}, {3}}, Expand: expandAdamW,
		Infer: func(n *Node) []tensor.Type {
			t := n.In[0].Type()
			wantF32(n, 0)
			for i := 1; i < 4; i++ {
				wantShape(n, i, tensor.F32, t.Shape...)
			}
			for i := 4; i < 7; i++ {
				wantShape(n, i, tensor.F32)
			}
			return types(t, t, t)
		},
	})
}

// wantEach fails unless operand i of a stream op is f32 [dims], the same for
// all N rows, or [N,dims].
func wantEach(n *Node, i, N int, dims ...int) {
	if len(n.In[i].Shape()) > len(dims) {
		dims = append([]int{N}, dims...)
	}
	wantShape(n, i, tensor.F32, dims...)
}

// eachRow views coefficients [dims] or [N,dims] as [1,dims] or [N,dims].
func eachRow(b *Builder, v Value, dims ...int) Value {
	return b.Reshape(v, append([]int{v.Shape().Numel() / tensor.Shape(dims).Numel()}, dims...)...)
}

func expandStreamWrite(b *Builder, _ any, in []Value) []Value {
	s, y, h, post := in[0], in[1], in[2], in[3]
	N, S, C := s.Dim(0), s.Dim(1), s.Dim(2)
	h = eachRow(b, h, S, S)
	rows := make([]Value, S)
	for i := range S {
		hi := eachRow(b, b.Slice(h, 1, i, i+1), S, 1)
		rows[i] = b.Sum(b.Mul(s, hi), 1)
	}
	branch := b.Mul(b.Reshape(y, N, 1, C), eachRow(b, post, S, 1))
	return []Value{b.Add(b.Concat(1, rows...), branch)}
}

// expandAdamW is AdamW (Loshchilov and Hutter, arXiv 1711.05101), the decay
// decoupled and scaled by the learning rate.
func expandAdamW(b *Builder, attr any, in []Value) []Value {
	a := attr.(AdamAttr)
	p, g, m, v, lr, c1, c2 := in[0], in[1], in[2], in[3], in[4], in[5], in[6]
	m = b.Add(b.Scale(m, a.Beta1), b.Scale(g, 1-a.Beta1))
	v = b.Add(b.Scale(v, a.Beta2), b.Scale(b.Mul(g, g), 1-a.Beta2))
	step := b.Div(b.Div(m, c1), b.Add(b.Sqrt(b.Div(v, c2)), b.Like(v, a.Eps)))
	step = b.Add(step, b.Scale(p, a.Decay))
	return []Value{b.Sub(p, b.Mul(step, lr)), m, v}
}

// RMSNorm is x / sqrt(mean(x^2) + eps) * w over the last axis: x [...,C], w [C]
// (Zhang and Sennrich, arXiv 1910.07467).
func (b *Builder) RMSNorm(x, w Value, eps float64) Value {
	return b.one(opRMSNorm, NormAttr{eps}, x, w)
}

// SwiGLU is silu(gate) * up (Shazeer, arXiv 2002.05202).
func (b *Builder) SwiGLU(gate, up Value) Value { return b.one(opSwiGLU, nil, gate, up) }

// Softmax normalizes exp(x) over the last axis.
func (b *Builder) Softmax(x Value) Value { return b.one(opSoftmax, nil, x) }

// RoPE rotates the pairs (2i, 2i+1) of x [B,T,H,D] by (pos[b]+t) * theta^(-2i/D)
// radians; pos is i32 [B] (Su et al., arXiv 2104.09864).
func (b *Builder) RoPE(x, pos Value, theta float64) Value {
	return b.ScaledRoPE(x, pos, RoPEAttr{Theta: theta})
}

// ScaledRoPE is RoPE whose frequencies are divided by factors.
func (b *Builder) ScaledRoPE(x, pos Value, a RoPEAttr) Value { return b.one(opRoPE, a, x, pos) }

// Attention is causal softmax attention, scaled by 1/sqrt(D): q [B,T,H,D],
// k and v [B,S,Hkv,D], both f32 or both f16, pos i32 [B]. Row t of batch b sees
// columns 0 to pos[b]+t; query head h uses key head h/(H/Hkv).
func (b *Builder) Attention(q, k, v, pos Value) Value { return b.one(opAttention, nil, q, k, v, pos) }

// CrossEntropy is -log softmax(logits)[target] a row: logits [N,V], targets
// i32 [N], result [N] in nats. A negative target gives 0.
func (b *Builder) CrossEntropy(logits, targets Value) Value {
	return b.one(opCrossEntropy, nil, logits, targets)
}

// Int8 has the value of x rounded to 8-bit integers, absmax a row, and the
// gradient of x.
func (b *Builder) Int8(x Value) Value { return b.one(opInt8, nil, x) }

// BitLinear is x W^T with W given by codes and scales; the gradient of W goes
// to the latent weight w, straight through (BitNet b1.58, arXiv 2402.17764).
func (b *Builder) BitLinear(x, w, codes, scales Value, a LinearAttr) Value {
	return b.one(opBitLinear, a, x, w, codes, scales)
}

// CodeBookMatMul is the value of BitLinear from stored codes alone.
func (b *Builder) CodeBookMatMul(x, codes, scales Value, a LinearAttr) Value {
	return b.one(opCodeBookMatMul, a, x, codes, scales)
}

// StreamRead is sum_i pre_i s_i: s [N,S,C], pre [S] or [N,S], result [N,C].
func (b *Builder) StreamRead(s, pre Value) Value { return b.one(opStreamRead, nil, s, pre) }

// StreamWrite is s'_i = sum_j h_ij s_j + post_i y: s [N,S,C], y [N,C],
// h [S,S] or [N,S,S], post [S] or [N,S] (hyper-connections, arXiv 2409.19606,
// static or following the token).
func (b *Builder) StreamWrite(s, y, h, post Value) Value {
	return b.one(opStreamWrite, nil, s, y, h, post)
}

// AdamW returns the next p, m and v. The scalars lr, c1 = 1-beta1^t and
// c2 = 1-beta2^t are f32 [].
func (b *Builder) AdamW(p, g, m, v, lr, c1, c2 Value, a AdamAttr) (p2, m2, v2 Value) {
	n := b.apply(opAdamW, a, p, g, m, v, lr, c1, c2)
	return Value{n, 0}, Value{n, 1}, Value{n, 2}
}
