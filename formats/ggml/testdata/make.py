"""Writes what golden_test.go compares with: ggml's own bytes and floats.

    python3 make.py DIR

DIR is where ggml's libggml-base.so lies, which llama.cpp builds. rows.f32 is
four rows of 256 float32 values. TYPE.bin is five rows of blocks, then the
float32 values that dequantize_row_TYPE makes of them. The first four rows are
those of rows.f32 after quantize_row_TYPE_ref; the last is random bytes with
finite scales. All is little-endian. The files in the repository are by the
library that the npm package @node-llama-cpp/linux-x64 3.22.1 has.
"""
import ctypes
import os
import random
import sys

# Type: weights and bytes of a block, places of its f16 scales.
BLOCKS = {
    "q4_0": (32, 18, [0]), "q4_1": (32, 20, [0, 2]), "q5_0": (32, 22, [0]), "q5_1": (32, 24, [0, 2]),
    "q8_0": (32, 34, [0]), "q4_K": (256, 144, [0, 2]), "q5_K": (256, 176, [0, 2]), "q6_K": (256, 210, [208]),
    "tq1_0": (256, 54, [52]), "tq2_0": (256, 66, [64]), "q2_0": (64, 18, [0]),
    "f16": (1, 2, [0]), "bf16": (1, 2, [0]),
}
# Functions whose names follow another rule: quantize, dequantize.
NAMES = {
    "f16": ("ggml_fp32_to_fp16_row", "ggml_fp16_to_fp32_row"),
    "bf16": ("ggml_fp32_to_bf16_row_ref", "ggml_bf16_to_fp32_row"),
}


def rows(r):
    """Weights as usual; zeros and ternary ones; ties of rounding; large and tiny ones."""
    usual = [r.gauss(0, 0.02) for _ in range(256)]
    ternary = [0.0] * 60 + [-0.0] * 4 + [0.013 * r.choice([-1, 0, 1]) for _ in range(192)]
    ties = [127.0] + [r.randrange(-127, 127) + 0.5 for _ in range(63)]
    ties += [1.0] + [r.choice([0.5, -0.5, 0.49999997, -0.49999997, 0.50000006]) for _ in range(63)]
    ties += [-1.0] + [1 + r.randrange(-1024, 1024) / 2048 for _ in range(62)] + [-2.0]
    ties += [r.choice([1, -1]) * 2.0**-24 * (r.randrange(64) + 0.5) for _ in range(64)]
    ends = [r.uniform(-65000, 65000) for _ in range(64)] + [r.uniform(-1e-6, 1e-6) for _ in range(64)]
    ends += [r.uniform(-1e-30, 1e-30) for _ in range(64)] + [r.choice([1e4, -1e-4, 1, 0]) for _ in range(64)]
    return usual + ternary + ties + ends


def noise(r, size, scales, mask):
    """A block of random bytes; no exponent of a scale is all ones."""
    b = bytearray(r.randbytes(size))
    for at in scales:
        while b[at + 1] & mask == mask:
            b[at + 1] = r.randrange(256)
    return bytes(b)


def main(directory):
    lib = ctypes.CDLL(os.path.join(directory, "libggml-base.so"))
    here = os.path.dirname(os.path.abspath(__file__))
    r = random.Random(1)
    x = rows(r)
    src = (ctypes.c_float * len(x))(*x)
    with open(os.path.join(here, "rows.f32"), "wb") as f:
        f.write(bytes(src))
    for name, (block, size, scales) in BLOCKS.items():
        quantize, dequantize = NAMES.get(name, (f"quantize_row_{name}_ref", f"dequantize_row_{name}"))
        data = ctypes.create_string_buffer(len(x) // block * size)
        getattr(lib, quantize)(src, data, ctypes.c_int64(len(x)))
        mask = 0x7f if name == "bf16" else 0x7c
        data = data.raw + b"".join(noise(r, size, scales, mask) for _ in range(256 // block))
        dst = (ctypes.c_float * (len(x) + 256))()
        getattr(lib, dequantize)(data, dst, ctypes.c_int64(len(dst)))
        with open(os.path.join(here, name + ".bin"), "wb") as f:
            f.write(data + bytes(dst))


main(sys.argv[1])
