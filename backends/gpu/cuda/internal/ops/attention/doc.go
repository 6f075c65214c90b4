// Package attention has the kernels of attention, rotary embeddings and softmax,
// and of their pullbacks.
//
// Attention has two sets. Where queries, keys and values (and the cotangent) are
// bf16, or keys and values an f16 cache under bf16 queries, and there are rows
// enough to fill a tile, flash.cu multiplies in tensor cores. Everything else
// (f32, mixed widths, decoding a token or a few, rows whose length is no multiple
// of 8) goes by rows in f32, rows.cu, where the bits of a row depend on what it
// sees alone. Heads of more than 256 elements are left to the expansion.
package attention
