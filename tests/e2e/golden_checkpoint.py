"""Checkpoints of golden data, which hold no weights: element i of a tensor is offset + scale * u(name, i).

The same function as in src/models/testing/golden_case.cpp and tools/golden_values.py.
"""
import array
import json
import math
import struct

MASK = 2**64 - 1


def mix(z):
    """splitmix64's finaliser (Steele et al. 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform(name, count):
    """Multiples of 2^-23 in [-1, 1)."""
    seed = 0xCBF29CE484222325  # FNV-1a
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    return [((mix((seed + i * 0x9E3779B97F4A7C15) & MASK) >> 40) - 2**23) * 2.0**-23 for i in range(1, count + 1)]


def tensor_bytes(name, shape, offset, scale):
    """float32, rounded after the product and after the sum."""
    products = array.array("f", (scale * u for u in uniform(name, math.prod(shape))))
    return array.array("f", (offset + product for product in products)).tobytes()


def write_checkpoint(golden, folder):
    """A folder as transformers saves it, with a tokenizer."""
    header, data = {}, b""
    for name, dtype, shape, offset, scale in golden["tensors"]:
        assert dtype == "F32", name
        values = tensor_bytes(name, shape, offset, scale)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    (folder / "tokenizer.json").write_text(json.dumps(golden["tokenizer"]))
    return folder
