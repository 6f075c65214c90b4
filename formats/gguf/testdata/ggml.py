"""Makes ggml.gguf with gguf-py's writer and ggml's own Q2_0 code, and checks
files that this package wrote with ggml's own reader.

    pip install gguf==0.19.0
    npm pack @node-llama-cpp/linux-x64@3.22.1   # carries ggml v0.5.0's llama.cpp, prebuilt
    tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    python ggml.py make package/bins/linux-x64/libggml-base.so ggml.gguf
    python ggml.py check package/bins/linux-x64/libggml-base.so FILE.gguf

Makes values.gguf (every type of value, and arrays of each) and the parts of
split.gguf with gguf-py alone; reads a file, or all parts of one, as JSON lines
of names, types, shapes, offsets and sizes:

    python ggml.py values values.gguf
    python ggml.py split split.gguf
    python ggml.py list FILE.gguf ...

What is written is numbers from a seeded generator; no code or data of others.
"""

import ctypes
import sys

import numpy as np


def pointer(a):
    return a.ctypes.data_as(ctypes.c_void_p)


def make(lib, path):
    import gguf

    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 192)).astype(np.float32)
    blocks = np.zeros(x.size // 64 * 18, np.uint8)
    lib.quantize_row_q2_0_ref(pointer(x), pointer(blocks), ctypes.c_int64(x.size))
    blocks[2:18] = rng.integers(0, 256, 16)  # the quantizer never uses code 3
    back = np.zeros_like(x)
    lib.dequantize_row_q2_0(pointer(blocks), pointer(back), ctypes.c_int64(x.size))

    w = gguf.GGUFWriter(path, "tern-test")
    w.add_uint8("t.u8", 250)
    w.add_int8("t.i8", -5)
    w.add_uint16("t.u16", 65000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 1 << 63)
    w.add_int64("t.i64", -(1 << 62))
    w.add_float32("t.f32", 0.5)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.bool", True)
    w.add_string("t.string", "três ✓")
    w.add_array("t.strings", ["a", "", "Ġthe"])
    w.add_array("t.i32s", [1, -2, 3])
    w.add_array("t.f32s", [0.25, -0.5])
    w.add_tensor("f32", x)
    w.add_tensor("f16", x[:3, :5].astype(np.float16))
    w.add_tensor("f64", x[:2, :2].astype(np.float64))
    w.add_tensor("i8", np.arange(-3, 4, dtype=np.int8))
    w.add_tensor("i16", np.arange(-3, 4, dtype=np.int16))
    w.add_tensor("i32", np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    w.add_tensor("i64", np.arange(3, dtype=np.int64))
    w.add_tensor("q2_0.blocks", blocks.view(np.int8))
    w.add_tensor("q2_0.values", back)
    tq2_0 = gguf.quantize(np.sign(rng.normal(size=(2, 256))).astype(np.float32) * np.float32([[0.375], [1.5]]), gguf.GGMLQuantizationType.TQ2_0)
    tq2_0[0, :3] = rng.integers(0, 3, 3)  # zeros are rare among random numbers
    w.add_tensor("tq2_0", tq2_0, raw_dtype=gguf.GGMLQuantizationType.TQ2_0)
    w.add_tensor("tq2_0.values", gguf.dequantize(tq2_0, gguf.GGMLQuantizationType.TQ2_0))
    w.add_tensor("bf16", gguf.quantize(x[:2, :6], gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def values(path):
    import gguf

    v = gguf.GGUFValueType
    ints = {v.UINT8: (0, 255), v.INT8: (-128, 127), v.UINT16: (0, 65535), v.INT16: (-32768, 32767),
            v.UINT32: (0, 2**32 - 1), v.INT32: (-(2**31), 2**31 - 1), v.UINT64: (0, 2**64 - 1), v.INT64: (-(2**63), 2**63 - 1)}
    w = gguf.GGUFWriter(path, "tern-test")
    for t, (low, high) in ints.items():
        name = t.name.lower()
        w.add_key_value(f"low.{name}", low, t)
        w.add_key_value(f"high.{name}", high, t)
        w.add_key_value(f"array.{name}", [low, 1, high], v.ARRAY, t)
    w.add_key_value("float32", -1.5, v.FLOAT32)
    w.add_key_value("float64", 1e300, v.FLOAT64)
    w.add_key_value("true", True, v.BOOL)
    w.add_key_value("false", False, v.BOOL)
    w.add_key_value("string", "Ġ\n✓", v.STRING)
    w.add_key_value("empty", "", v.STRING)
    w.add_key_value("array.float32", [0.5, float("inf"), -0.0], v.ARRAY, v.FLOAT32)
    w.add_key_value("array.float64", [0.1, float("-inf")], v.ARRAY, v.FLOAT64)
    w.add_key_value("array.bool", [True, False, True], v.ARRAY, v.BOOL)
    w.add_key_value("array.string", ["a", "", "três"], v.ARRAY, v.STRING)
    w.add_key_value("array.array", [[1, 2], [3]], v.ARRAY, v.ARRAY)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def split(path):
    import gguf

    w = gguf.GGUFWriter(path, "tern-test", split_max_tensors=2)
    w.add_string("general.name", "in three parts")
    for i in range(5):
        w.add_tensor(f"blk.{i}", np.arange(3 + i, dtype=np.float32) + 10 * i)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def list_tensors(paths):
    import json

    import gguf

    for path in paths:
        for t in gguf.GGUFReader(path).tensors:
            print(json.dumps([t.name, int(t.tensor_type), [int(d) for d in reversed(t.shape)], int(t.data_offset), int(t.n_bytes)]))


def check(lib, path):
    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

    ggml = ctypes.c_void_p()
    lib.gguf_init_from_file.restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    ctx = lib.gguf_init_from_file(path.encode(), Params(False, ctypes.cast(ctypes.byref(ggml), ctypes.c_void_p)))
    if not ctx:
        sys.exit(f"ggml refuses {path}")
    ctx = ctypes.c_void_p(ctx)
    lib.gguf_get_tensor_name.restype = ctypes.c_char_p
    for f in (lib.gguf_get_n_tensors, lib.gguf_get_n_kv):
        f.restype = ctypes.c_int64
    for f in (lib.gguf_get_tensor_offset, lib.gguf_get_tensor_size, lib.gguf_get_data_offset):
        f.restype = ctypes.c_size_t
    print(path, lib.gguf_get_n_kv(ctx), "keys, data at", lib.gguf_get_data_offset(ctx))
    for i in range(lib.gguf_get_n_tensors(ctx)):
        i = ctypes.c_int64(i)
        print(lib.gguf_get_tensor_name(ctx, i).decode(), lib.gguf_get_tensor_type(ctx, i),
              lib.gguf_get_tensor_offset(ctx, i), lib.gguf_get_tensor_size(ctx, i))


if __name__ == "__main__":
    what, args = sys.argv[1], sys.argv[2:]
    if what == "list":
        list_tensors(args)
    elif what in ("values", "split"):
        {"values": values, "split": split}[what](args[0])
    else:
        {"make": make, "check": check}[what](ctypes.CDLL(args[0]), args[1])
