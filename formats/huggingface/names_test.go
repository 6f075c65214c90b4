package huggingface

import "testing"

func TestNamesOfTensors(t *testing.T) {
	both := map[string]string{
		"model.embed_tokens.weight":                       "token_embd.weight",
		"model.norm.weight":                               "output_norm.weight",
		"lm_head.weight":                                  "output.weight",
		"model.layers.0.input_layernorm.weight":           "blk.0.attn_norm.weight",
		"model.layers.0.self_attn.q_proj.weight":          "blk.0.attn_q.weight",
		"model.layers.0.self_attn.k_proj.weight":          "blk.0.attn_k.weight",
		"model.layers.0.self_attn.v_proj.bias":            "blk.0.attn_v.bias",
		"model.layers.29.self_attn.o_proj.weight_scale":   "blk.29.attn_output.scale",
		"model.layers.29.self_attn.attn_sub_norm.weight":  "blk.29.attn_sub_norm.weight",
		"model.layers.10.post_attention_layernorm.weight": "blk.10.ffn_norm.weight",
		"model.layers.1.mlp.gate_proj.weight":             "blk.1.ffn_gate.weight",
		"model.layers.1.mlp.up_proj.weight":               "blk.1.ffn_up.weight",
		"model.layers.1.mlp.down_proj.weight":             "blk.1.ffn_down.weight",
		"model.layers.1.mlp.ffn_sub_norm.weight":          "blk.1.ffn_sub_norm.weight",
	}
	for hf, gguf := range both {
		if got, ok := FileName(hf); got != gguf || !ok {
			t.Errorf("%s is %q, %v; want %s", hf, got, ok, gguf)
		}
		if got, ok := TensorName(gguf); got != hf || !ok {
			t.Errorf("%s is %q, %v; want %s", gguf, got, ok, hf)
		}
	}
	for hf, gguf := range map[string]string{ // 1bitLLM's
		"model.layers.3.self_attn.inner_attn_ln.weight": "blk.3.attn_sub_norm.weight",
		"model.layers.3.mlp.ffn_layernorm.weight":       "blk.3.ffn_sub_norm.weight",
	} {
		if got, ok := FileName(hf); got != gguf || !ok {
			t.Errorf("%s is %q, %v; want %s", hf, got, ok, gguf)
		}
	}
	for _, none := range []string{
		"", "weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.x.input_layernorm.weight",
		"model.layers.01.input_layernorm.weight", "model.layers.-1.input_layernorm.weight", "model.layers.0", "model.layers.0.weight",
		"model.layers.99999999999.input_layernorm.weight", "model.layers.0.model.norm.weight", "input_layernorm.weight",
		"model.layers.0.self_attn.q_proj.rms_norm.weight",
	} {
		if got, ok := FileName(none); ok {
			t.Errorf("%q is %q", none, got)
		}
	}
}
