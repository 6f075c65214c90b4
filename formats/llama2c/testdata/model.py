"""Writes two checkpoints of llama2.c's version 0 for the tests: one with a
shared output layer, one with its own.

    python model.py shared.bin own.bin

Element i of the tensor of kind k and layer l is 100 k + l + i / 1024; kinds
count in the order in which run.c's memory_map_weights takes them.
"""

import struct
import sys

import numpy as np

DIM, HIDDEN, LAYERS, HEADS, KV, VOCAB, SEQ = 8, 12, 2, 4, 2, 5, 6
HEAD = DIM // HEADS


def write(path, shared):
    with open(path, "wb") as f:
        f.write(struct.pack("<7i", DIM, HIDDEN, LAYERS, HEADS, KV, VOCAB if shared else -VOCAB, SEQ))

        def put(kind, count, *shape):
            n = int(np.prod(shape))
            for layer in range(count):
                f.write((100 * kind + layer + np.arange(n) / 1024).astype("<f4").tobytes())

        put(1, 1, VOCAB, DIM)
        put(2, LAYERS, DIM)
        put(3, LAYERS, DIM, HEADS * HEAD)
        put(4, LAYERS, DIM, KV * HEAD)
        put(5, LAYERS, DIM, KV * HEAD)
        put(6, LAYERS, HEADS * HEAD, DIM)
        put(7, LAYERS, DIM)
        put(8, LAYERS, DIM, HIDDEN)
        put(9, LAYERS, HIDDEN, DIM)
        put(10, LAYERS, DIM, HIDDEN)
        put(11, 1, DIM)
        freq = (1 / 10000 ** (np.arange(0, HEAD, 2, dtype=np.float32) / HEAD)).astype(np.float32)
        angle = np.outer(np.arange(SEQ, dtype=np.float32), freq)
        f.write(np.cos(angle).astype("<f4").tobytes())
        f.write(np.sin(angle).astype("<f4").tobytes())
        if not shared:
            put(12, 1, VOCAB, DIM)


write(sys.argv[1], True)
write(sys.argv[2], False)
