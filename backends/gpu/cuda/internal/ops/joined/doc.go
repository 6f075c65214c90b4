// Package joined makes steps of decoding of fewer kernels. With one sequence or a
// few, a kernel's work is over in less time than its launch takes, so the number of
// kernels is what a token costs. Join is a pass over a lowered graph: products of
// the same few rows by quantized weights become one node, with what their rows are
// made of (a norm, what is read from streams, a gate) and with what becomes of their
// results (a sum, streams that are mixed, rotary embeddings and the caches of keys
// and values). Of many rows, streams are written, read, normed and rounded by one
// kernel: that is JoinRows, a pass for after package quantized's.
//
// The results have the bits of the single kernels where these compute in f32; in bf16
// less is rounded between them.
package joined
