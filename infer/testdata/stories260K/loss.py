"""The loss of a llama2.c model on windows of a text, from nothing of tern's.

    zstd -dc data/tinystories/valid.txt.zst | head -c 12000 |
        loss.py stories260K.bin tok512.model

Documents end at <|endoftext|>; each is encoded by SentencePiece without the line
feeds around it and followed by the id of the end of a text. Window i is ids 257 i
to 257 i + 256: 256 inputs and, one id on, 256 targets. Prints the number of ids,
the SHA-256 of all of them as little-endian u16, and the mean loss of 20 windows
in nats a token, in float64. Needs numpy and sentencepiece from PyPI.

The model is LLaMA (Touvron et al. 2023, arXiv 2302.13971) with grouped queries, as
karpathy/llama2.c's version 0 of the format has it.
"""

import hashlib
import struct
import sys

import numpy as np
import sentencepiece

WINDOWS, WINDOW = 20, 256


def read(path):
    with open(path, "rb") as f:
        raw = f.read()
    dim, hidden, layers, heads, kv, vocab, _ = struct.unpack("<7i", raw[:28])
    assert vocab > 0, "the output layer is not shared"
    width, at, m = dim // heads, 28, {"heads": heads, "kv": kv, "layers": layers}
    for name, shape in (
        ("embed", (vocab, dim)), ("attn_norm", (layers, dim)),
        ("q", (layers, dim, dim)), ("k", (layers, kv * width, dim)), ("v", (layers, kv * width, dim)), ("o", (layers, dim, dim)),
        ("ffn_norm", (layers, dim)),
        ("gate", (layers, hidden, dim)), ("down", (layers, dim, hidden)), ("up", (layers, hidden, dim)), ("norm", (dim,)),
    ):
        n = int(np.prod(shape))
        m[name] = np.frombuffer(raw, "<f4", n, at).reshape(shape).astype(np.float64)
        at += 4 * n
    return m


def rms(x, gain):
    return gain * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def rotate(x):
    """Element 2i and 2i+1 of each head [T,heads,width] turned by position / 10000^(2i/width)."""
    width = x.shape[-1]
    angle = np.outer(np.arange(x.shape[0]), 10000.0 ** (-np.arange(0, width, 2) / width))[:, None, :]
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    return np.stack((turned.real, turned.imag), -1).reshape(x.shape)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(m, i, x):
    q, k, v = ((x @ m[n][i].T).reshape(len(x), h, -1) for n, h in (("q", m["heads"]), ("k", m["kv"]), ("v", m["kv"])))
    q, k = rotate(q), rotate(k)
    ahead = np.triu(np.full((len(x), len(x)), -np.inf), 1)
    shared, out = m["heads"] // m["kv"], []
    for h in range(m["heads"]):
        scores = q[:, h] @ k[:, h // shared].T / np.sqrt(q.shape[-1])
        out.append(softmax(scores + ahead) @ v[:, h // shared])
    return np.concatenate(out, -1) @ m["o"][i].T


def feed_forward(m, i, x):
    gate = x @ m["gate"][i].T
    return (gate / (1 + np.exp(-gate)) * (x @ m["up"][i].T)) @ m["down"][i].T


def losses(m, ids):
    x = m["embed"][ids[:-1]]
    for i in range(m["layers"]):
        x = x + attention(m, i, rms(x, m["attn_norm"][i]))
        x = x + feed_forward(m, i, rms(x, m["ffn_norm"][i]))
    p = softmax(rms(x, m["norm"]) @ m["embed"].T)
    return -np.log(p[np.arange(len(x)), ids[1:]])


def main(model, vocabulary):
    m, sp = read(model), sentencepiece.SentencePieceProcessor(model_file=vocabulary)
    ids = []
    for document in sys.stdin.buffer.read().decode().split("<|endoftext|>"):
        ids += sp.encode(document.strip("\r\n")) + [sp.eos_id()]
    ids = np.array(ids)
    windows = ids[: WINDOWS * (WINDOW + 1)].reshape(WINDOWS, WINDOW + 1)
    print(len(ids), hashlib.sha256(ids.astype("<u2").tobytes()).hexdigest(), "%.9f" % np.mean([losses(m, w) for w in windows]))


if __name__ == "__main__":
    main(*sys.argv[1:])
