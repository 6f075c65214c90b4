package graph

import "github.com/ternlm/tern/framework/tensor"

var opNormLinear *Op

// A norm with the product that reads it: few columns of wide rows, as the
// coefficients of residual streams are, cost little more than reading the rows
// once, if no normalized copy of them stands in memory.
func init() {
	// x [N,C], gain [C], w [K,C] -> [N,K]
	opNormLinear = Define(Op{
		Name: "normlinear", Attr: NormAttr{}, Arity: 3,
		Infer: func(n *Node) []tensor.Type {
			wantRank(n, 0, 2)
			wantF32(n, 0)
			wantRank(n, 2, 2)
			x, w := n.In[0], n.In[2]
			wantShape(n, 1, tensor.F32, x.Dim(1))
			wantShape(n, 2, tensor.F32, w.Dim(0), x.Dim(1))
			return types(tensor.T(tensor.F32, x.Dim(0), w.Dim(0)))
		},
		Expand: func(b *Builder, attr any, in []Value) []Value {
			return []Value{b.MatMul(b.RMSNorm(in[0], in[1], attr.(NormAttr).Eps), in[2], false, true)}
		},
	})
}

// NormLinear is RMSNorm(x, gain, eps) w^T, without the normalized rows standing
// in memory where a backend can do so: x [N,C], gain [C], w [K,C], result [N,K].
func (b *Builder) NormLinear(x, gain, w Value, eps float64) Value {
	return b.one(opNormLinear, NormAttr{eps}, x, gain, w)
}
