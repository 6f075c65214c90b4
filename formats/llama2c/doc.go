// Package llama2c reads and writes the model and tokenizer files of
// karpathy/llama2.c: its "version 0" checkpoints, which run.c maps into memory,
// and tokenizer.bin.
//
// A checkpoint is seven i32 (Config) and then f32 tensors without names, in a
// fixed order; layers of one kind lie one after the other. This package gives
// each the name that llama.cpp has for it:
//
//	token_embd.weight              [vocab, dim]
//	blk.N.attn_norm.weight         [dim]
//	blk.N.attn_q.weight            [dim, dim]
//	blk.N.attn_k.weight, attn_v    [kv heads * head size, dim]
//	blk.N.attn_output.weight       [dim, dim]
//	blk.N.ffn_norm.weight          [dim]
//	blk.N.ffn_gate.weight (w1)     [hidden, dim]
//	blk.N.ffn_down.weight (w2)     [dim, hidden]
//	blk.N.ffn_up.weight (w3)       [hidden, dim]
//	output_norm.weight             [dim]
//	output.weight                  [vocab, dim], absent where it is token_embd
//
// What the numbers mean: RMSNorm with epsilon 1e-5, SwiGLU, and rotary
// positions over neighboring pairs of each head with base 10000, as llama.cpp's
// architecture llama has them; no tensor needs a permutation. The file's tables
// of sines and cosines, which run.c skips too, are written and not read.
//
// Versions 1 and 2 of the format (magic "ak42") are not read.
package llama2c
