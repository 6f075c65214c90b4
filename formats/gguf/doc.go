// Package gguf reads and writes GGUF, the container of ggml's models.
//
// The layout is that of ggml's docs/gguf.md, version 3 (version 2 differs in
// nothing that a little-endian file shows); docs/formats/gguf.md draws it. A
// file is a header of typed metadata and tensor descriptions, then the
// tensors' bytes, each at a multiple of the alignment. Shapes are row-major,
// outermost dimension first, everywhere in this package; the file stores them
// the other way round.
//
// Writing streams: offsets are computed first, then every tensor is asked for
// its bytes once.
//
//	codes, scales := packed["blk.0.attn_q.weight"]
//	q, err := gguf.FromCodes("blk.0.attn_q.weight", ggml.Q2_0, codes, scales)
//	...
//	err = gguf.WriteFile("model.gguf", []gguf.KV{
//		{Key: "general.architecture", Value: "llama"},
//		{Key: "llama.block_count", Value: uint32(12)},
//	}, []gguf.TensorInfo{q})
//
// Reading trusts nothing: every count, length and offset is held against the
// size of the file before anything is allocated for it.
//
//	f, err := gguf.Open("model.gguf")
//	...
//	defer f.Close()
//	blocks, err := f.Metadata.Uint32("llama.block_count")
//	norm, err := f.ReadTensor("output_norm.weight")
//	codes, scales, err := f.ReadCodes("blk.0.attn_q.weight", 128)
//
// Files of several parts open as one (Open, WriteSplit). Tensors can be read
// where they lie in the mapped file, without a copy:
//
//	err = f.Guard(func() error {
//		blocks, err := f.View("blk.0.attn_q.weight")
//		...
//	})
//	f.Release("blk.0.attn_q.weight")
package gguf
