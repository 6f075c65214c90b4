"""The directory that foreign.py writes as transformers would save the model."""

import json
import os
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}


def names(m):
    """Tensors by the names of transformers' LlamaForCausalLM."""
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj"}
    parts |= {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    parts |= {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    out = {"model.embed_tokens.weight": m.tensors["token_embd.weight"], "model.norm.weight": m.tensors["output_norm.weight"]}
    for i in m.blocks():
        for ours, theirs in parts.items():
            name = f"blk.{i}.{ours}.weight"
            out[f"model.layers.{i}.{theirs}.weight"] = m.halves(name) if ours in ("attn_q", "attn_k") else m.tensors[name]
    return out


def config(m):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": m.size("embedding_length"), "intermediate_size": m.size("feed_forward_length"),
        "num_hidden_layers": m.size("block_count"), "num_attention_heads": m.size("attention.head_count"),
        "num_key_value_heads": m.size("attention.head_count_kv"), "max_position_embeddings": m.size("context_length"),
        "rms_norm_eps": m.size("attention.layer_norm_rms_epsilon"), "rope_theta": m.size("rope.freq_base"),
        "rope_scaling": {"rope_type": "llama3", **LLAMA3}, "vocab_size": m.size("vocab_size"), "tie_word_embeddings": True,
        "bos_token_id": m.get("tokenizer.ggml.bos_token_id"), "eos_token_id": m.get("tokenizer.ggml.eos_token_id"),
    }


def tokenizer(m):
    tokens, end = m.get("tokenizer.ggml.tokens"), m.get("tokenizer.ggml.eos_token_id")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": end, "content": tokens[end], **flags}],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens) if i != end}, "merges": m.get("tokenizer.ggml.merges")},
    }


def settings(m):
    end = m.get("tokenizer.ggml.tokens")[m.get("tokenizer.ggml.eos_token_id")]
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end, "add_bos_token": True}


def write(m, path):
    """A directory as transformers saves it, in bfloat16, with llama3's scaling of frequencies."""
    os.makedirs(path, exist_ok=True)
    head, data = {"__metadata__": {"format": "pt"}}, b""
    for name, x in sorted(names(m).items()):
        raw = quantize(np.ascontiguousarray(x), Type.BF16).tobytes()
        head[name] = {"dtype": "BF16", "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(path, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    for name, what in (("config", config(m)), ("tokenizer", tokenizer(m)), ("tokenizer_config", settings(m))):
        with open(os.path.join(path, name + ".json"), "w", encoding="utf-8") as f:
            json.dump(what, f, indent=1, ensure_ascii=False)
