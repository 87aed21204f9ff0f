"""Makes tests/golden/dtype.bin: random quant blocks and their float32 values by the `gguf` package (an independent reader).

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy && /tmp/venv/bin/python tools/make_dtype_golden.py

The file is a list of records: 16 bytes name (compute::dtype_info), u32 columns, u32 bytes, the row's bytes, columns x f32.
"""

import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

# Byte offsets of the f16 scales in a block. The others have no such field, or none at one place.
SCALES = {
    Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q2_K: [80, 82], Type.Q3_K: [108],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.IQ1_S: [0],
    Type.IQ2_XXS: [0], Type.IQ2_XS: [0], Type.IQ2_S: [0], Type.IQ3_XXS: [0], Type.IQ3_S: [0], Type.TQ1_0: [52], Type.TQ2_0: [64],
}  # fmt: skip
OTHERS = [Type.F16, Type.BF16, Type.MXFP4, Type.NVFP4, Type.IQ1_M]
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00]  # zeros, subnormals, the smallest, largest, infinity


def f16_scales(random, count):
    """Finite, of both signs and all magnitudes; then the edges, as far as there is room."""
    bits = random.integers(0, 0x7C00, count, dtype=np.uint16) | random.integers(0, 2, count, dtype=np.uint16) << np.uint16(15)
    edges = EDGES[: max(1, count // 2)] if count < 2 * len(EDGES) else EDGES
    bits[count - len(edges) :] = edges
    return bits


def random_rows(random, kind):
    block, block_bytes = GGML_QUANT_SIZES[kind]
    count = {1: 512, 32: 24, 64: 64}.get(block, 10)
    rows = random.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for field in SCALES.get(kind, []):
        rows[:, field : field + 2] = f16_scales(random, count).view(np.uint8).reshape(-1, 2)
    if kind == Type.MXFP4:
        rows[:8, 0] = [0, 1, 2, 3, 126, 127, 254, 255]
    if kind == Type.NVFP4:
        rows[:, :4] = np.arange(256, dtype=np.uint8).reshape(64, 4)
    if kind == Type.IQ1_M:
        for i in range(4):
            rows[:, 49 + 2 * i] = (rows[:, 49 + 2 * i] & 0x0F) | (f16_scales(random, count) >> (4 * i) & 15) << 4
    return rows.reshape(-1), count * block


def main():
    random = np.random.default_rng(0)
    output = b""
    for kind in OTHERS + list(SCALES):
        row, columns = random_rows(random, kind)
        with np.errstate(invalid="ignore", over="ignore"):
            values = row.view(np.float16).astype(np.float32) if kind == Type.F16 else dequantize(row, kind).astype(np.float32)
        output += kind.name.lower().encode().ljust(16, b"\0")
        output += struct.pack("<II", columns, len(row)) + row.tobytes() + values.tobytes()
    path = pathlib.Path(__file__).parent.parent / "tests/golden/dtype.bin"
    path.write_bytes(output)
    print(f"{path}: {len(output)} bytes")


main()
