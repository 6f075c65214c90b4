// Package linear has the kernels of products: float matrices, linear layers on
// codes and their gradients, heads with their loss, norms with the product that
// reads them, and the packing of codes.
//
// A layer on codes with 8-bit activations multiplies exact integers (int8.cu).
// Gradients, and layers of floats, are products of cuBLASLt on dense operands that
// are made in working memory; small ones, and those that cuBLASLt does not take,
// are kernels of this package.
package linear
