"""Writes models as other programs have them, to hold tern against llama.cpp on.

    foreign.py MODEL.gguf DIR [VARIANT ...]

MODEL is a trained model that `tern export --arch llama --type f32` wrote: tied,
with grouped queries. Each variant is DIR/VARIANT.gguf, without keys of tern's;
hf is a directory (foreign_hf.py). Ids mean the same in all; llama-bpe and spm
split text into them in other ways. Without names all are written. Needs gguf
and numpy from PyPI.
"""

import copy
import math
import os
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize

import foreign_hf

LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
NORMAL, CONTROL, UNUSED, BYTE = 1, 3, 5, 6


class Model:
    """Metadata by key, matrices and vectors (float32) by name, and their types."""

    def __init__(self, path):
        reader = GGUFReader(path)
        self.arch, self.keys = "llama", {}
        for name, f in reader.fields.items():
            if not name.startswith(("GGUF.", "tern.", "general.architecture", "general.file_type")):
                self.keys[name] = (f.contents(), f.types[0], f.types[-1] if len(f.types) > 1 else None)
        self.tensors = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        self.types = {name: Type.F32 for name in self.tensors}
        self.types["token_embd.weight"] = Type.F16

    def get(self, key, default=None):
        return self.keys.get(key, (default,))[0]

    def set(self, key, value):
        kind = GGUFValueType.get_type(value)
        self.keys[key] = (value, GGUFValueType.UINT32 if kind == GGUFValueType.INT32 else kind, None)

    def size(self, name):
        return self.get("llama." + name)

    @property
    def width(self):
        """Elements of a head."""
        return self.size("rope.dimension_count")

    def blocks(self):
        return range(self.size("block_count"))

    def named(self, part):
        """The names of a tensor of each block."""
        return [f"blk.{i}.{part}.weight" for i in self.blocks()]

    def matrices(self):
        return [n for n, x in self.tensors.items() if x.ndim == 2]

    def halves(self, name):
        """A matrix whose rows of a head are pairs (2i, 2i+1), with pairs (i, i + width/2)."""
        x = self.tensors[name]
        return x.reshape(-1, self.width // 2, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)

    def add(self, name, x, kind=Type.F32):
        self.tensors[name], self.types[name] = x.astype(np.float32), kind

    def write(self, path):
        w = GGUFWriter(path, self.arch)
        for key, (value, kind, sub) in self.keys.items():
            w.add_key_value(key.replace("llama.", self.arch + ".", 1), value, kind, sub_type=sub)
        for name, x in self.tensors.items():
            t = self.types[name]
            w.add_tensor(name, quantize(np.ascontiguousarray(x), t), raw_dtype=t)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def plain(m):
    pass


def defaults(m):
    """Without the keys for which llama.cpp has defaults."""
    assert m.size("rope.freq_base") == 10000
    for key in ("rope.freq_base", "rope.dimension_count", "vocab_size"):
        del m.keys["llama." + key]


def all_as(kind):
    def change(m):
        for name in m.matrices():
            m.types[name] = kind

    return change


def mixed(m):
    """Each kind of matrix in a type of its own."""
    kinds = (Type.F16, Type.BF16, Type.Q8_0, Type.Q5_0, Type.Q4_0, Type.Q4_1, Type.Q5_1)
    for part, kind in zip(LINEARS, kinds):
        for name in m.named(part):
            m.types[name] = kind
    m.types["token_embd.weight"] = Type.Q8_0


def linears_as(kind):
    def change(m):
        for part in LINEARS:
            for name in m.named(part):
                m.types[name] = kind

    return change


def untied(m):
    x = m.tensors["token_embd.weight"]
    noise = np.random.default_rng(1).standard_normal(x.shape) * x.std()
    m.add("output.weight", x + 0.2 * noise)


def mha(m):
    """Keys and values for each query head, repeated; same result."""
    shared = m.size("attention.head_count") // m.size("attention.head_count_kv")
    for name in m.named("attn_k") + m.named("attn_v"):
        x = m.tensors[name]
        m.tensors[name] = np.repeat(x.reshape(-1, m.width, x.shape[1]), shared, axis=0).reshape(-1, x.shape[1])
    del m.keys["llama.attention.head_count_kv"]


def set_heads(m, heads):
    """heads of the old width, which is no longer the model's over heads."""
    m.set("llama.attention.head_count", heads)
    m.set("llama.attention.key_length", m.width)
    m.set("llama.attention.value_length", m.width)


def narrow(m):
    """The first query head of each group alone."""
    kv, heads = m.size("attention.head_count_kv"), m.size("attention.head_count")
    for name in m.named("attn_q"):
        x = m.tensors[name]
        m.tensors[name] = x.reshape(kv, heads // kv, m.width, -1)[:, 0].reshape(-1, x.shape[1])
    for name in m.named("attn_output"):
        x = m.tensors[name]
        m.tensors[name] = x.reshape(-1, kv, heads // kv, m.width)[:, :, 0].reshape(x.shape[0], -1)
    set_heads(m, kv)


def wide(m):
    """Each query head twice with half the output; same result."""
    heads = m.size("attention.head_count")
    for name in m.named("attn_q"):
        x = m.tensors[name]
        m.tensors[name] = np.repeat(x.reshape(heads, m.width, -1), 2, axis=0).reshape(-1, x.shape[1])
    for name in m.named("attn_output"):
        x = m.tensors[name] / 2
        m.tensors[name] = np.repeat(x.reshape(-1, heads, m.width), 2, axis=1).reshape(x.shape[0], -1)
    set_heads(m, 2 * heads)


def linear(m):
    m.set("llama.rope.scaling.type", "linear")
    m.set("llama.rope.scaling.factor", 2.0)


def yarn(m):
    m.set("llama.rope.scaling.type", "yarn")
    m.set("llama.rope.scaling.factor", 4.0)
    m.set("llama.rope.scaling.original_context_length", 128)


def yarn_factor(m):
    yarn(m)
    m.set("llama.rope.scaling.attn_factor", 1.2)


def yarn_ignored(m):
    """Keys that llama.cpp reads in some architectures, but not in llama; same result as yarn."""
    yarn(m)
    keys = {"ext_factor": 0.8, "attn_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0, "log_multiplier": 0.5}
    for key, value in keys.items():
        m.set("llama.rope.scaling.yarn_" + key, value)


def llama3_factors(width, theta, factor, low, high, original):
    """What Llama 3.1 divides frequencies by (transformers, _compute_llama3_parameters)."""
    out = []
    for i in range(width // 2):
        turns = original / (2 * math.pi * theta ** (2 * i / width))  # in the original context
        share = min(max((turns - low) / (high - low), 0), 1)  # of the unscaled frequency
        out.append(1 / (share + (1 - share) / factor))
    return np.array(out)


def llama3(m):
    factors = llama3_factors(m.width, m.size("rope.freq_base"), *foreign_hf.LLAMA3.values())
    m.tensors = {"rope_freqs.weight": factors.astype(np.float32), **m.tensors}
    m.types["rope_freqs.weight"] = Type.F32


def bitnet(m):
    """Sub-norms with gains that differ, around what a model without them takes."""
    m.arch = "bitnet"
    linear(m)
    m.set("llama.rope.scaling.factor", 1.0)
    for name in m.named("attn_q") + m.named("attn_k"):
        m.tensors[name] = m.halves(name)
    r = np.random.default_rng(2)
    for i in m.blocks():
        for part, follows, mean in (("attn_sub_norm", "attn_output", 0.15), ("ffn_sub_norm", "ffn_down", 1.0)):
            n = m.tensors[f"blk.{i}.{follows}.weight"].shape[1]
            m.add(f"blk.{i}.{part}.weight", mean * (1 + 0.1 * r.standard_normal(n)))


def bitnet_scale(m):
    """Linears in TQ2_0 whose scale is a tensor beside them."""
    bitnet(m)
    linears_as(Type.TQ2_0)(m)
    for part in LINEARS:
        for name in m.named(part):
            scale = np.abs(m.tensors[name]).max()
            m.tensors[name] /= scale
            m.add(name.replace(".weight", ".scale"), np.array([scale]))


def split_llama3(m):
    """Another way to split text before merges."""
    m.set("tokenizer.ggml.pre", "llama-bpe")


def byte_of():
    """Bytes by the characters of GPT-2's alphabet (bytes_to_unicode)."""
    own = [b for b in range(256) if 33 <= b <= 126 or b >= 161 and b != 173]
    rest = [b for b in range(256) if b not in own]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(rest)}


def spm(m):
    """The tokens as SentencePiece has them: scores, bytes as <0x..>, a bar for a space."""
    of, texts, types, spare = byte_of(), [], [], []
    for i, (token, kind) in enumerate(zip(m.get("tokenizer.ggml.tokens"), m.get("tokenizer.ggml.token_type"))):
        raw = bytes(of[c] for c in token) if kind == NORMAL else b""
        try:
            text = raw.decode().replace(" ", "\u2581")
        except UnicodeDecodeError:
            text = ""
        if kind != NORMAL:
            texts.append("</s>")
            types.append(CONTROL)
        elif len(raw) == 1 and raw != b" ":
            texts.append(f"<0x{raw[0]:02X}>")
            types.append(BYTE)
        else:
            spare += [] if text else [i]
            texts.append(text or f"\ue000{i}")
            types.append(NORMAL if text else UNUSED)
    texts[spare[0]], types[spare[0]] = "<0x20>", BYTE
    scores = [0.0 if t == BYTE else float(256 - i) for i, t in enumerate(types)]
    for key in ("pre", "merges", "tokens", "token_type"):
        del m.keys["tokenizer.ggml." + key]
    m.set("tokenizer.ggml.model", "llama")
    m.set("tokenizer.ggml.add_space_prefix", False)
    m.set("tokenizer.ggml.unknown_token_id", m.get("tokenizer.ggml.eos_token_id"))
    for key, value, kind in (("tokens", texts, GGUFValueType.STRING), ("scores", scores, GGUFValueType.FLOAT32), ("token_type", types, GGUFValueType.INT32)):
        m.keys["tokenizer.ggml." + key] = (value, GGUFValueType.ARRAY, kind)


def bf16_llama3(m):
    """What llama.cpp's converter makes of hf: the matrices and vectors in bfloat16, then as they are."""
    for name, x in m.tensors.items():
        m.tensors[name] = dequantize(quantize(x, Type.BF16), Type.BF16)
    all_as(Type.BF16)(m)
    llama3(m)


VARIANTS = {
    "plain": plain, "defaults": defaults, "f32": all_as(Type.F32), "f16": all_as(Type.F16), "bf16": all_as(Type.BF16),
    "q8_0": all_as(Type.Q8_0), "tq1_0": linears_as(Type.TQ1_0), "tq2_0": linears_as(Type.TQ2_0), "mixed": mixed,
    "untied": untied, "mha": mha, "narrow": narrow, "wide": wide, "linear": linear, "yarn": yarn, "yarn-factor": yarn_factor,
    "yarn-ignored": yarn_ignored, "llama3": llama3, "bf16-llama3": bf16_llama3, "bitnet": bitnet, "bitnet-scale": bitnet_scale,
    "llama-bpe": split_llama3, "spm": spm, "hf": None,
}


def main(path, out, *names):
    os.makedirs(out, exist_ok=True)
    model = Model(path)
    for name in names or VARIANTS:
        if name not in VARIANTS:
            sys.exit(f"no variant {name}; there are {', '.join(VARIANTS)}")
        if name == "hf":
            foreign_hf.write(model, os.path.join(out, name))
            continue
        m = copy.deepcopy(model)
        VARIANTS[name](m)
        m.write(os.path.join(out, name + ".gguf"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
