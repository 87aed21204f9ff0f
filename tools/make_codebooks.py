"""Makes src/compute/codebooks.inl: the codebooks of GGUF's iq1, iq2 and iq3 types, constants of the format.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy && /tmp/venv/bin/python tools/make_codebooks.py

A codebook's point has 8 coordinates of 2 bits (iq1, iq2) or 4 of 4 bits (iq3): a uint16, lowest coordinate in the lowest bits.
The bits are an index into the type's few values (dequantize_iq.cpp).
"""

import pathlib

import numpy as np
from gguf import quants

BOOKS = [
    ("kIq2XxsGrid", quants.IQ2_XXS, 2),
    ("kIq2XsGrid", quants.IQ2_XS, 2),
    ("kIq2SGrid", quants.IQ2_S, 2),
    ("kIq3XxsGrid", quants.IQ3_XXS, 4),
    ("kIq3SGrid", quants.IQ3_S, 4),
    ("kIq1Grid", quants.IQ1_S, 2),
]


def words(book, bits):
    book.init_grid()
    grid = book.grid.reshape(book.grid_shape)
    index = np.searchsorted(np.array(book.grid_map, dtype=np.float32), grid)
    return (index << (bits * np.arange(grid.shape[1]))).sum(axis=1)


def main():
    lines = ["// Made by tools/make_codebooks.py with gguf 0.19.0.", "// clang-format off"]
    for name, book, bits in BOOKS:
        values = [f"0x{value:04x}" for value in words(book, bits)]
        lines.append(f"constexpr uint16_t {name}[{len(values)}] = {{")
        lines += ["    " + ", ".join(values[i : i + 13]) + "," for i in range(0, len(values), 13)]
        lines.append("};")
    path = pathlib.Path(__file__).parent.parent / "src/compute/codebooks.inl"
    path.write_text("\n".join(lines) + "\n")
    print(f"{path}: {len(lines)} lines")


main()
