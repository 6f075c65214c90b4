package layers

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Stored says how one weight lies in memory where the file that it comes from,
// not the model's quantizer, decides that.
type Stored struct {
	// Format is that of the codes; where it is not quantized, the weight is
	// floats of type Float, F32 or F16.
	Format framework.Format
	Float  tensor.DType
	// Mins says that a minimum is subtracted from the weights of each group: the
	// buffer mins f32, of the shape of scales.
	Mins bool
	// Fine multiplies by the activations in two 8-bit parts, the rounded ones
	// and what the rounding leaves, rounded in turn. Models that were not trained
	// with 8-bit activations want the 15 bits that this gives.
	Fine bool
}

// apply returns x W^T, f32 [N,out], for the stored weight of the current scope.
func (s Stored) apply(b *graph.Builder, x graph.Value, out int) graph.Value {
	n, k := x.Dim(0), x.Dim(1)
	if !s.Format.Quantized() {
		return b.MatMul(x, b.Buffer("weight", tensor.T(s.Float, out, k)), false, true)
	}
	codes, scales := buffers(b, s.Format, out, k)
	attr := s.Format.Linear()
	var y graph.Value
	if s.Fine {
		parts := b.CodeBookMatMul(b.Concat(0, x, b.Sub(x, b.Int8(x))), codes, scales, attr)
		y = b.Add(b.Slice(parts, 0, 0, n), b.Slice(parts, 0, n, 2*n))
	} else {
		y = b.CodeBookMatMul(x, codes, scales, attr)
	}
	if !s.Mins {
		return y
	}
	// sum_k x_k min_g(k) = sum_g min_g sum of x over g
	groups := scales.Dim(1)
	sums := b.Reshape(b.Sum(b.Reshape(x, n, groups, k/groups), 2), n, groups)
	return b.Sub(y, b.MatMul(sums, b.Buffer("mins", scales.Type()), false, true))
}
