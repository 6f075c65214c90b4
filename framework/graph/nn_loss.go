package graph

import "github.com/ternlm/tern/framework/tensor"

var opLinearCrossEntropy, opBitLinearCrossEntropy, opCodeBookCrossEntropy *Op

// Heads with their loss: the product of a language model's last layer is
// [N,V], as a rule far larger than anything else of a run, and only its
// cross-entropy is wanted. A kernel may therefore make it block by block.
func init() {
	// x [N,K], w f32 or f16 [V,K], targets i32 [N] -> [N]
	opLinearCrossEntropy = Define(Op{
		Name: "linearcrossentropy", Together: true, Arity: 3,
		Infer: func(n *Node) []tensor.Type {
			wantRank(n, 0, 2)
			wantF32(n, 0)
			wantRank(n, 1, 2)
			x, w := n.In[0], n.In[1].Type()
			if w.DType != tensor.F32 && w.DType != tensor.F16 || w.Shape[1] != x.Dim(1) {
				failf("%s: %v by %v", n.Op.Name, x.Type(), w)
			}
			return inferLoss(n, x.Dim(0))
		},
		Expand: func(b *Builder, _ any, in []Value) []Value {
			return []Value{b.CrossEntropy(b.MatMul(in[0], in[1], false, true), in[2])}
		},
	})
	// x [N,K], latent w [V,K], codes [V,K], scales, targets i32 [N] -> [N]
	opBitLinearCrossEntropy = Define(Op{
		Name: "bitlinearcrossentropy", Together: true, Attr: LinearAttr{}, Arity: 5,
		Infer: func(n *Node) []tensor.Type {
			wantShape(n, 1, tensor.F32, n.In[2].Shape()...)
			return inferLoss(n, inferLinear(n, n.In[0], n.In[2], n.In[3])[0].Shape[0])
		},
		Expand: func(b *Builder, attr any, in []Value) []Value {
			return []Value{b.CrossEntropy(b.BitLinear(in[0], in[1], in[2], in[3], attr.(LinearAttr)), in[4])}
		},
	})
	// x [N,K], codes [V,K], scales, targets i32 [N] -> [N]
	opCodeBookCrossEntropy = Define(Op{
		Name: "codebookcrossentropy", Attr: LinearAttr{}, Arity: 4,
		Infer: func(n *Node) []tensor.Type {
			return inferLoss(n, inferLinear(n, n.In[0], n.In[1], n.In[2])[0].Shape[0])
		},
		Expand: func(b *Builder, attr any, in []Value) []Value {
			return []Value{b.CrossEntropy(b.CodeBookMatMul(in[0], in[1], in[2], attr.(LinearAttr)), in[3])}
		},
	})
}

// inferLoss is one number for each of the rows that the last operand has
// targets for.
func inferLoss(n *Node, rows int) []tensor.Type {
	wantShape(n, len(n.In)-1, tensor.I32, rows)
	return types(tensor.T(tensor.F32, rows))
}

// LinearCrossEntropy is CrossEntropy(x w^T, targets), without the product
// standing in memory where a backend can do so: x [N,K], w f32 or f16 [V,K],
// targets i32 [N], result [N] in nats.
func (b *Builder) LinearCrossEntropy(x, w, targets Value) Value {
	return b.one(opLinearCrossEntropy, nil, x, w, targets)
}

// BitLinearCrossEntropy is CrossEntropy(BitLinear(x, w, codes, scales, a),
// targets), likewise.
func (b *Builder) BitLinearCrossEntropy(x, w, codes, scales, targets Value, a LinearAttr) Value {
	return b.one(opBitLinearCrossEntropy, a, x, w, codes, scales, targets)
}

// CodeBookCrossEntropy is CrossEntropy(CodeBookMatMul(x, codes, scales, a),
// targets), likewise.
func (b *Builder) CodeBookCrossEntropy(x, codes, scales, targets Value, a LinearAttr) Value {
	return b.one(opCodeBookCrossEntropy, a, x, codes, scales, targets)
}
