// Package rows has the kernels that are bound by memory: norms, activations,
// residual streams, rows by index, the loss of given logits, and the optimizer.
// Each reads its operands once and writes its results once; the sources say what
// that takes.
//
// The same operands give the same bits on every device: sums over the rows of a
// batch are cut by their number alone, and parts are added in order.
package rows
