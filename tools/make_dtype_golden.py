"""Makes tests/golden/dtype.bin: random quant blocks and their float32 values by the `gguf` package (an independent reader).

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy && /tmp/venv/bin/python tools/make_dtype_golden.py

The file is a list of records: u32 dtype (the order of compute::DType), u32 columns, u32 bytes, the row's bytes, columns x f32.
"""

import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

COLUMNS = 512
SCALES = {Type.Q8_0: 1, Type.Q4_0: 1, Type.Q4_1: 2}  # f16 fields at the start of a quant block
TYPES = [(1, Type.F16, 2, 1), (2, Type.BF16, 2, 1), (3, Type.Q8_0, 34, 32), (4, Type.Q4_0, 18, 32), (5, Type.Q4_1, 20, 32)]


def random_row(random, kind, block_bytes, block):
    """Every byte is random but for the scales: finite, of both signs and all magnitudes, subnormals too."""
    row = random.integers(0, 256, (COLUMNS // block, block_bytes), dtype=np.uint8)
    for field in range(SCALES.get(kind, 0)):
        bits = random.integers(0, 0x7C00, COLUMNS // block, dtype=np.uint16)
        bits |= random.integers(0, 2, COLUMNS // block, dtype=np.uint16) << np.uint16(15)
        row[:, 2 * field : 2 * field + 2] = bits.view(np.uint8).reshape(-1, 2)
    return row.reshape(-1)


def main():
    random = np.random.default_rng(0)
    output = b""
    for dtype, kind, block_bytes, block in TYPES:
        row = random_row(random, kind, block_bytes, block)
        values = row.view(np.float16).astype(np.float32) if kind == Type.F16 else dequantize(row, kind).astype(np.float32)
        output += struct.pack("<III", dtype, COLUMNS, len(row)) + row.tobytes() + values.tobytes()
    path = pathlib.Path(__file__).parent.parent / "tests/golden/dtype.bin"
    path.write_bytes(output)
    print(f"{path}: {len(output)} bytes")


main()
