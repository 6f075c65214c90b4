package main

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
)

// sizes are those of a model; a head's width is dim/heads.
type sizes struct {
	layers, dim, ffn, heads, kvHeads, vocab, context int
	theta, eps                                       float32
}

// bitnet2B is BitNet b1.58 2B4T (arXiv:2504.12285; config.json of
// microsoft/bitnet-b1.58-2B-4T).
var bitnet2B = sizes{
	layers: 30, dim: 2560, ffn: 6912, heads: 20, kvHeads: 5, vocab: 128256, context: 4096,
	theta: 500000, eps: 1e-5,
}

// Bounds of what flags may ask for.
const (
	maxLayers = 1000
	minVocab  = 1024
	maxVocab  = 1 << 18
)

func (o options) check() error {
	bad := func(hint, format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(errOption, format, args...), hint)
	}
	switch {
	case o.arch != "llama" && o.arch != "bitnet":
		return bad("choose llama or bitnet", "architecture %q", o.arch)
	case o.layers < 1 || o.layers > maxLayers:
		return bad("choose from 1 to 1000", "%d layers", o.layers)
	case o.vocab < minVocab || o.vocab > maxVocab:
		return bad("choose from 1024 to 262144", "a vocabulary of %d tokens", o.vocab)
	}
	return nil
}

// fileTypes are llama.cpp's numbers for what most tensors are (enum llama_ftype).
var fileTypes = map[ggml.Type]uint32{ggml.F16: 1, ggml.TQ1_0: 36, ggml.TQ2_0: 37, ggml.Q2_0: 41}

// metadata are the keys that llama.cpp reads, sizes and vocabulary.
func (o options) metadata() []gguf.KV {
	own := func(key string, value any) gguf.KV { return gguf.KV{Key: o.arch + "." + key, Value: value} }
	kv := []gguf.KV{
		{Key: "general.architecture", Value: o.arch},
		{Key: "general.name", Value: "random ternary weights"},
		{Key: "general.quantization_version", Value: uint32(2)},
		{Key: "general.file_type", Value: fileTypes[o.typ]},
		own("block_count", uint32(o.layers)),
		own("context_length", uint32(o.context)),
		own("embedding_length", uint32(o.dim)),
		own("feed_forward_length", uint32(o.ffn)),
		own("attention.head_count", uint32(o.heads)),
		own("attention.head_count_kv", uint32(o.kvHeads)),
		own("attention.layer_norm_rms_epsilon", o.eps),
		own("rope.dimension_count", uint32(o.dim/o.heads)),
		own("rope.freq_base", o.theta),
		own("vocab_size", uint32(o.vocab)),
	}
	return append(kv, vocabulary(o.vocab)...)
}

// tensors are those of the architecture, with the embedding as the head.
func (o options) tensors() []gguf.TensorInfo {
	w := weights{typ: o.typ, seed: o.seed}
	kv := o.dim / o.heads * o.kvHeads
	w.embedding("token_embd.weight", o.vocab, o.dim)
	for i := range o.layers {
		w.block = i
		w.norm("attn_norm", o.dim)
		w.linear("attn_q", o.dim, o.dim)
		w.linear("attn_k", kv, o.dim)
		w.linear("attn_v", kv, o.dim)
		if o.arch == "bitnet" {
			w.norm("attn_sub_norm", o.dim)
		}
		w.linear("attn_output", o.dim, o.dim)
		w.norm("ffn_norm", o.dim)
		w.linear("ffn_gate", o.ffn, o.dim)
		w.linear("ffn_up", o.ffn, o.dim)
		if o.arch == "bitnet" {
			w.norm("ffn_sub_norm", o.ffn)
		}
		w.linear("ffn_down", o.dim, o.ffn)
	}
	w.ones("output_norm.weight", o.dim)
	return w.out
}
