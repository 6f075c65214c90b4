"""Makes hf.safetensors with Hugging Face's own writer, and checks a file of
this package with its reader.

    pip install safetensors==0.8.0 numpy
    python hf.py make hf.safetensors
    python hf.py check FILE.safetensors
"""

import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def make(path):
    save_file({
        "b.f32": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
        "a.f64": np.array([np.pi]),
        "c.f16": np.array([0.5, -2], np.float16),
        "i8": np.array([-1, 2, 3], np.int8),
        "i32": np.array([[1 << 30, -7]], np.int32),
        "i64": np.array([1 << 40]),
        "bool": np.array([True, False, True]),
        "u8": np.arange(5, dtype=np.uint8),
        "scalar": np.array(42, np.float32),
    }, path, metadata={"format": "np", "note": "três ✓"})


def check(path):
    with safe_open(path, "np") as f:
        print(f.metadata())
        for k in f.keys():
            try:
                t = f.get_tensor(k)
                print(k, t.dtype, t.shape, t.ravel()[:8].tolist())
            except TypeError:  # numpy has no bfloat16
                print(k, f.get_slice(k).get_dtype(), f.get_slice(k).get_shape())


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](sys.argv[2])
