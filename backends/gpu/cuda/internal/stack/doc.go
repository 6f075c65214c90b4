// Package stack computes what is equal but for its operands at once. An optimizer
// that works on matrices does the same chain of products for each of them: Muon's
// Newton-Schulz iteration (Jordan et al., 2024) fifteen for each of the 84 matrices
// of nano-125m, of which none has tiles for all multiprocessors, each with a launch
// of its own. Stack is a pass over a lowered graph that makes such chains of many
// matrices one chain of batched products.
//
// # What is stacked
//
// A node is inner if it is computed from a product of matrices and a product of
// matrices is computed from it, products themselves included. Inner nodes that are
// joined by edges are a computation: for Muon all products of one matrix and what is
// between them. A path from one inner node to another has inner nodes only, so no
// computation depends on another, and those of a forward or backward pass are a
// single one, which has no equal. Computations that are the same node by node are a
// class. Its members' operands are joined along a new first axis, all nodes act on
// that, and who reads a result from outside gets a slice of it.
//
// Results are what they were: each is a sum over the same elements. In which order is
// up to the kernels: those of backends/scalar keep it, and cuBLASLt may choose
// another algorithm for a batch.
//
// # How many
//
// A stack has as many members as fill the device a few times over (wantTiles), no
// more, because all of its members' values are in memory together, and of no value
// more than maxBytes. For nano-125m that is 16 matrices [768,768], 8 of [2048,768] or
// 6 of [768,2048].
//
// # Speed
//
// The optimizer of nano-125m has 900 launches of 2868, 120 of its 1260 products, and
// the same arena. Its least time on an H200 goes from 7.40 ms to 7.54: operands are
// joined by a copy of 0.7 GB, and the slices of results are read where they lie. What
// that buys is 1968 launches of one or two microseconds, and tiles for all
// multiprocessors: a product [768,768] alone has 36 of 128 by 128, for 132 of them.
package stack
