"""Has Hugging Face's transformers write models and score them, to hold tern against.

    transformers_models.py make DIR CORPUS          random models, each a directory DIR/NAME
    transformers_models.py golden DIR               small ones, and DIR/losses.json
    transformers_models.py gguf MODEL OUT.gguf ARCH TYPE
    transformers_models.py score TEXT WINDOWS WINDOW MODEL ...
    transformers_models.py next TEXT IDS MODEL FILE.gguf

make trains a tokenizer on CORPUS. gguf writes a BitNet directory with the package
gguf, as architecture bitnet or bitnet-b1.58 with the linear layers in TYPE. score
prints a line of JSON for each model, a directory or a GGUF file of architecture
llama: the loss of the windows that `tern eval` reads, computed in float32. next
has the package tritium find the likeliest token after each beginning of a text in
a file of architecture bitnet-b1.58, and says for how many transformers finds the
same in MODEL. Weights are random, in the spread of trained ones, and norms have
gains that differ, so that an element in the wrong place shows. Needs torch,
transformers, accelerate and gguf from PyPI, next pytritium too.
"""

import json
import os
import sys

# Compiling the few lines of integrations/bitnet.py would take longer than these models do.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import gguf  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import BitNetConfig, LlamaConfig, MistralConfig  # noqa: E402
from transformers.integrations.bitnet import pack_weights, unpack_weights  # noqa: E402

END = "<|endoftext|>"
LINEAR = (".q_proj.weight", ".k_proj.weight", ".v_proj.weight", ".o_proj.weight", ".gate_proj.weight", ".up_proj.weight", ".down_proj.weight")

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0}
DEEPSEEK = {"mscale": 0.8, "mscale_all_dim": 0.4, "truncate": False}  # what DeepSeek's files add to YaRN

BITLINEAR = {"linear_class": "bitlinear", "quantization_mode": "offline"}
OFFLINE = {"linear_class": "autobitlinear", "quantization_mode": "offline"}
ONLINE = {"linear_class": "autobitlinear", "quantization_mode": "online"}
KEPT = {**ONLINE, "modules_to_not_convert": ["lm_head", "model.layers.0.mlp", r".*\.1\.self_attn\.[qk]_proj"]}


def rope(**parameters):
    return {"rope_parameters": {"rope_theta": 10000.0, **parameters}}


TIED = {"tie_word_embeddings": True}

# The models by name: class of the configuration, what it is told beside the
# sizes, type of the weights, and how BitNet's linear layers are stored.
MODELS = {
    "llama": (LlamaConfig, {}, torch.float32, None),
    "llama-tied-bf16": (LlamaConfig, {**TIED, "num_key_value_heads": 4}, torch.bfloat16, None),
    "llama-wide-heads-f16": (LlamaConfig, {"head_dim": 96}, torch.float16, None),
    "llama-llama3": (LlamaConfig, rope(**LLAMA3), torch.float32, None),
    "llama-linear": (LlamaConfig, rope(rope_type="linear", factor=2.0), torch.float32, None),
    "llama-yarn": (LlamaConfig, rope(**YARN), torch.float32, None),
    "llama-yarn-deepseek": (LlamaConfig, rope(**YARN, **DEEPSEEK), torch.float32, None),
    "llama-bitlinear": (LlamaConfig, {}, torch.bfloat16, BITLINEAR),
    "mistral": (MistralConfig, {"sliding_window": None}, torch.float32, None),
    "bitnet": (BitNetConfig, TIED, torch.float32, None),
    "bitnet-silu": (BitNetConfig, {**TIED, "hidden_act": "silu"}, torch.float32, None),
    "bitnet-untied": (BitNetConfig, {}, torch.float32, None),
    "bitnet-online": (BitNetConfig, TIED, torch.bfloat16, ONLINE),
    "bitnet-online-kept": (BitNetConfig, TIED, torch.bfloat16, KEPT),
    "bitnet-offline": (BitNetConfig, TIED, torch.bfloat16, OFFLINE),
    "bitnet-bitlinear": (BitNetConfig, TIED, torch.bfloat16, BITLINEAR),
}
RESAVED = ("bitnet-offline", "bitnet-bitlinear")
GOLDEN = ("llama-llama3", "llama-yarn-deepseek", "bitnet", "bitnet-online-kept", *RESAVED)

SIZES = {"vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": None}
SMALL = {**SIZES, "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
         "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": None}


def train_tokenizer(corpus, tokens):
    """Byte-level BPE with GPT-2's splits."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train([corpus], trainers.BpeTrainer(vocab_size=tokens, special_tokens=[END], initial_alphabet=alphabet, show_progress=False))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=t, bos_token=END, eos_token=END)


def random_model(config):
    """A model whose matrices keep the spread of what they multiply."""
    generator = torch.Generator().manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if p.dim() == 1 else noise * (0.1 if "embed" in name else p.shape[1] ** -0.5))
    return model


def ternary(w):
    """Codes and the scale by which BitNet multiplies them (WeightQuant of integrations/bitnet.py)."""
    scale = w.float().abs().mean().clamp(min=1e-5)
    return (w.float() / scale).round().clamp(-1, 1), scale


def pack(path, dtype, divided):
    """Packs the linear layers of the directory at path, which transformers does not do: Microsoft did it for its model."""
    tensors = load_file(os.path.join(path, "model.safetensors"))
    for name in [n for n in tensors if n.endswith(LINEAR)]:
        codes, scale = ternary(tensors[name])
        tensors[name] = pack_weights(codes)
        tensors[name + "_scale"] = (1 / scale if divided else scale).reshape(1).to(dtype)
    save_file(tensors, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})


def write(name, path, sizes, tokenizer=None):
    """Writes the directory of a model."""
    config, changes, dtype, quantization = MODELS[name]
    if sizes is SMALL:
        dtype = torch.bfloat16
    random_model(config(**{**sizes, **changes})).to(dtype).save_pretrained(path)
    if tokenizer:
        tokenizer.save_pretrained(path)
    if not quantization:
        return
    if quantization["quantization_mode"] == "offline":
        pack(path, dtype, quantization["linear_class"] == "bitlinear")
    file = os.path.join(path, "config.json")
    with open(file, encoding="utf-8") as f:
        what = json.load(f)
    what["quantization_config"] = {"quant_method": "bitnet", "modules_to_not_convert": None, **quantization}
    with open(file, "w", encoding="utf-8") as f:
        json.dump(what, f, indent=2)


def resave(path, out):
    """What transformers itself writes of a packed model that it has read."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    model.save_pretrained(out, save_original_format=False)  # the original format it cannot write


def make(out, corpus):
    tokenizer = train_tokenizer(corpus, SIZES["vocab_size"])
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    for name in MODELS:
        write(name, os.path.join(out, name), {**SIZES, **ends}, tokenizer)
    for name in RESAVED:
        resave(os.path.join(out, name), os.path.join(out, name + "-resaved"))
        tokenizer.save_pretrained(os.path.join(out, name + "-resaved"))


def golden(out):
    """Models that all read the same ids, and the loss of each position."""
    ids = torch.randint(SMALL["vocab_size"], (65,), generator=torch.Generator().manual_seed(2)).tolist()
    for name in GOLDEN:
        write(name, os.path.join(out, name), SMALL)
    resave(os.path.join(out, "bitnet-offline"), os.path.join(out, "bitnet-offline-resaved"))
    result = {"transformers": transformers.__version__, "torch": torch.__version__, "ids": ids, "losses": {}}
    for name in (*GOLDEN, "bitnet-offline-resaved"):
        os.remove(os.path.join(out, name, "generation_config.json"))
        result["losses"][name] = [round(x, 6) for x in losses(load(os.path.join(out, name)), [ids])[0].tolist()]
    with open(os.path.join(out, "losses.json"), "w", encoding="utf-8") as f:
        json.dump(result, f)
        f.write("\n")


def location(path):
    """A directory, or the directory and the name of a GGUF file, as from_pretrained wants them."""
    if path.endswith(".gguf"):
        return os.path.dirname(path) or ".", {"gguf_file": os.path.basename(path)}
    return path, {}


def load(path):
    """The model as transformers opens it, computing in float32."""
    where, more = location(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **more)
    # Weights that it unpacked have the type in config.json, and the model's own float refuses quantized ones.
    return torch.nn.Module.float(model).eval()


def text_ids(path, text):
    where, more = location(path)
    with open(text, encoding="utf-8", newline="") as f:
        return transformers.AutoTokenizer.from_pretrained(where, **more)(f.read(), add_special_tokens=False).input_ids


def logits(model, rows):
    with torch.no_grad():
        return model(torch.tensor(rows)).logits


def losses(model, rows):
    """The loss in nats of each position but the first of each row of ids."""
    rows = torch.tensor(rows)
    return torch.nn.functional.cross_entropy(logits(model, rows[:, :-1].tolist()).transpose(1, 2).double(), rows[:, 1:], reduction="none")


def score(text, windows, window, *paths):
    windows, window = int(windows), int(window)
    for path in paths:
        ids = text_ids(path, text)
        rows = [ids[i * (window + 1) : (i + 1) * (window + 1)] for i in range(windows)]
        print(json.dumps({"model": path, "tokens": windows * window, "loss": losses(load(path), rows).mean().item()}), flush=True)


def floats(path):
    """The tensors of a BitNet directory in float32, unpacked."""
    tensors = load_file(os.path.join(path, "model.safetensors"))
    out = {}
    for name, x in tensors.items():
        scale = tensors.get(name + "_scale")
        if name.endswith("_scale"):
            continue
        out[name] = (x if scale is None else unpack_weights(x, torch.float32) * scale).float().numpy()
    return out


def write_gguf(path, out, arch, kind):
    """The keys and names of bitnet.cpp's convert-hf-to-gguf-bitnet.py; rows stay in transformers' order."""
    config = transformers.AutoConfig.from_pretrained(path)
    w = gguf.GGUFWriter(out, arch)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    w.add_rope_freq_base(config.rope_parameters["rope_theta"])
    w.add_vocab_size(config.vocab_size)
    with open(os.path.join(path, "tokenizer.json"), encoding="utf-8") as f:
        model = json.load(f)["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t == END else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([" ".join(m) for m in model["merges"]])
    w.add_bos_token_id(config.bos_token_id)
    w.add_eos_token_id(config.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BITNET, config.num_hidden_layers)
    for name, x in floats(path).items():
        name = name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm")  # 1bitLLM's, which gguf knows
        t = gguf.GGMLQuantizationType[kind.upper()] if name.endswith(LINEAR) else gguf.GGMLQuantizationType.F32
        w.add_tensor(names.get_name(name, try_suffixes=(".weight",)), gguf.quants.quantize(x, t), raw_dtype=t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def next_tokens(text, count, path, file):
    import tritium

    ids = text_ids(path, text)[: int(count)]
    theirs = logits(load(path), [ids])[0].argmax(-1).tolist()
    model = tritium.Model.load(file)
    same = sum(model.generate(ids[: i + 1], 1)[0] == theirs[i] for i in range(len(ids)))
    print(json.dumps({"model": file, "tokens": len(ids), "same": same}))


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    commands = {"make": make, "golden": golden, "gguf": write_gguf, "score": score, "next": next_tokens}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
