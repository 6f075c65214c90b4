// Package quantized has rows of activations rounded to int8 once for all layers
// that read them. The ops of the framework round for themselves: the query, key and
// value of a block round the same rows three times, and again for their gradients.
//
// Share rewrites a graph to ops of this package, whose kernels are in ops/linear and
// ops/rows. Between nodes rows are then codes i8 [N,P], K columns and zeros up to
// P = Padded(K), and a unit f32 [N]: row n is unit[n] times its codes. They are what
// is kept until the gradient, in place of the activations: a half of bf16.
//
// In bf16 a norm or a gate that is rounded to int8 at once is not rounded to bf16
// before: one error less. In f32 no bit changes but the sign of zeros.
package quantized
