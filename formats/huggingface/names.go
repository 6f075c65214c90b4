package huggingface

import (
	"strconv"
	"strings"
)

// modules pairs transformers' names of modules with those of GGUF's
// architectures llama and bitnet: of the model, then of a layer.
var (
	ofModel = [][2]string{
		{"model.embed_tokens", "token_embd"},
		{"model.norm", "output_norm"},
		{"lm_head", "output"},
	}
	ofLayer = [][2]string{
		{"input_layernorm", "attn_norm"},
		{"self_attn.q_proj", "attn_q"},
		{"self_attn.k_proj", "attn_k"},
		{"self_attn.v_proj", "attn_v"},
		{"self_attn.attn_sub_norm", "attn_sub_norm"},
		{"self_attn.o_proj", "attn_output"},
		{"post_attention_layernorm", "ffn_norm"},
		{"mlp.gate_proj", "ffn_gate"},
		{"mlp.up_proj", "ffn_up"},
		{"mlp.ffn_sub_norm", "ffn_sub_norm"},
		{"mlp.down_proj", "ffn_down"},
		// 1bitLLM's names of the same, only read: TensorName gives the first.
		{"self_attn.inner_attn_ln", "attn_sub_norm"},
		{"mlp.ffn_layernorm", "ffn_sub_norm"},
	}
	endings = [][2]string{{"weight", "weight"}, {"bias", "bias"}, {"weight_scale", "scale"}}
)

const (
	hfLayer   = "model.layers."
	ggufLayer = "blk."
)

// FileName returns GGUF's name of a tensor that transformers calls hf, such as
// "blk.0.attn_q.weight" for "model.layers.0.self_attn.q_proj.weight"; ok is
// false for one that no LLaMA or BitNet model needs. It is a name only: GGUF
// has rows of attn_q and attn_k in another order (see the package comment).
func FileName(hf string) (gguf string, ok bool) { return translate(hf, 0) }

// TensorName is the inverse of FileName.
func TensorName(gguf string) (hf string, ok bool) { return translate(gguf, 1) }

// translate goes from column from of the tables to the other one.
func translate(name string, from int) (string, bool) {
	layers, to := [2]string{hfLayer, ggufLayer}, 1-from
	prefix, table, rest := "", ofModel, name
	if tail, ok := strings.CutPrefix(name, layers[from]); ok {
		n, module, ok := strings.Cut(tail, ".")
		if i, err := strconv.ParseUint(n, 10, 31); !ok || err != nil || strconv.FormatUint(i, 10) != n {
			return "", false
		}
		prefix, table, rest = layers[to]+n+".", ofLayer, module
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot < 0 {
		return "", false
	}
	module, mok := lookup(table, rest[:dot], from)
	ending, eok := lookup(endings, rest[dot+1:], from)
	return prefix + module + "." + ending, mok && eok
}

func lookup(table [][2]string, key string, from int) (string, bool) {
	for _, pair := range table {
		if pair[from] == key {
			return pair[1-from], true
		}
	}
	return "", false
}
