#!/usr/bin/env python3
"""Makes tests/golden/checkpoint/: small tensors in every quantisation scheme of checkpoints that neutrino reads, and the
values that the scheme's own library gives them.

Each NAME.safetensors holds the parts as a checkpoint has them; NAME.expected.safetensors holds the dequantised tensors under
their plain names, and in its metadata "config" what config.json says. Libraries: compressed-tensors (packed integers, FP8,
NVFP4, MXFP4, AWQ by its AutoAWQ converter), auto-gptq (GPTQ), bitsandbytes (NF4), transformers (MXFP4 of gpt-oss, FP8 in
blocks). Where a library computes in other steps than one product (NVFP4's two scales), float64 gives the values.

Needs a venv with torch, transformers, safetensors, and: pip install --no-deps compressed-tensors bitsandbytes auto-gptq loguru
"""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "checkpoint"


def save(name, parts, expected, quantization):
    """expected keeps the library's dtype: neutrino must give the same bits in the same type."""
    config = {"quantization_config": quantization}
    save_file({k: v.contiguous() for k, v in parts.items()}, OUT / f"{name}.safetensors")
    save_file({k: v.contiguous() for k, v in expected.items()}, OUT / f"{name}.expected.safetensors",
              metadata={"config": json.dumps(config)})
    print(name, {k: tuple(v.shape) for k, v in parts.items()})


def weights(rows, columns, dtype=torch.float32):
    return (torch.randn(rows, columns) * torch.rand(rows, 1)).to(dtype)


# ---- GPTQ: auto-gptq's own packing and its plain torch form (a product with the unit matrix)

def gptq(name, bits, act_order, version, zeros_of, rows=32, columns=64, group=32):
    path = next(pathlib.Path(p) / "auto_gptq/nn_modules/qlinear/qlinear_cuda.py" for p in sys.path
                if (pathlib.Path(p) / "auto_gptq").exists())
    spec = importlib.util.spec_from_file_location("auto_gptq.nn_modules.qlinear.qlinear_cuda", path)
    for package in ("auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"):
        module = sys.modules.setdefault(package, type(sys)(package))
        module.__path__ = []
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layer = module.QuantLinear(bits, group, columns, rows, bias=False, weight_dtype=torch.float16)
    linear = torch.nn.Linear(columns, rows, bias=False).half()
    linear.weight.data = weights(rows, columns, torch.float16)
    groups = columns // group
    top = 2**bits - 1
    scales = (torch.rand(rows, groups) * 0.1 + 0.01)
    zeros = zeros_of(rows, groups, top)
    g_idx = torch.arange(columns, dtype=torch.int32) // group
    if act_order:
        g_idx = g_idx[torch.randperm(columns)]
    # Weights within reach of the grid, so that packing does not overflow.
    q = torch.randint(0, top + 1, (rows, columns))
    linear.weight.data = ((q - zeros[:, g_idx.long()]) * scales.half()[:, g_idx.long()].float()).half()
    scales = scales.half().float()
    layer.pack(linear, scales, zeros.float(), g_idx)
    dequantized = layer(torch.eye(columns, dtype=torch.float16)).t()
    qzeros = layer.qzeros
    if version == "gptq_v2":  # GPTQModel: the same, zero points as they are
        z = zeros.t().contiguous().numpy().astype(np.uint32)
        packed = np.zeros((groups, rows * bits // 32), dtype=np.uint32)
        for column in range(rows):
            packed[:, column * bits // 32] |= z[:, column] << np.uint32(column * bits % 32)
        qzeros = torch.from_numpy(packed.astype(np.int32))
    parts = {"x.qweight": layer.qweight, "x.qzeros": qzeros, "x.scales": layer.scales}
    if act_order:
        parts["x.g_idx"] = layer.g_idx
    save(name, parts, {"x.weight": dequantized},
         {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "checkpoint_format": version})


def middle(rows, groups, top):
    return torch.full((rows, groups), (top + 1) // 2)


def anywhere(rows, groups, top):
    zeros = torch.randint(1, top + 1, (rows, groups))
    return zeros


# ---- AWQ: random words; compressed-tensors' converter of AutoAWQ checkpoints unpacks them

def awq():
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
    from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter

    rows, columns, group = 32, 64, 32
    integers = torch.iinfo(torch.int32)
    parts = {
        "x.qweight": torch.randint(integers.min, integers.max, (columns, rows // 8), dtype=torch.int32),
        "x.qzeros": torch.randint(integers.min, integers.max, (columns // group, rows // 8), dtype=torch.int32),
        "x.scales": (torch.rand(columns // group, rows) * 0.1).half(),
    }
    quantization = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    converted = AutoAWQConverter.from_autoawq_config(quantization).process(dict(parts))
    q = unpack_from_int32(converted["x.weight_packed"], 4, (rows, columns)).half()
    scale = converted["x.weight_scale"]
    zero = unpack_from_int32(converted["x.weight_zero_point"], 4, scale.shape, packed_dim=0).half()
    spread = lambda t: t.repeat_interleave(group, dim=1)  # noqa: E731
    save("awq", parts, {"x.weight": (q - spread(zero)) * spread(scale)}, quantization)


# ---- compressed-tensors

def scheme(**weights_args):
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights_args))


def packed(name, bits, symmetric, strategy, dtype, rows=24, columns=64, group=32):
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor as Compressor

    arguments = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy}
    if strategy == "group":
        arguments["group_size"] = group
    groups = columns // group if strategy == "group" else 1
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    state = {"weight": weights(rows, columns, dtype), "weight_scale": (torch.rand(rows, groups) * 0.1 + 0.01).to(dtype),
             "weight_zero_point": torch.zeros(rows, groups, dtype=torch.int8)}
    if not symmetric:
        state["weight_zero_point"] = torch.randint(low, high + 1, (rows, groups)).to(torch.int8)
    compressed = Compressor.compress(state, scheme(**arguments))
    plain = Compressor.decompress(dict(compressed), scheme(**arguments))["weight"]
    save(name, {f"x.{k}": v for k, v in compressed.items()}, {"x.weight": plain},
         {"quant_method": "compressed-tensors", "format": "pack-quantized",
          "config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}}})


def packed_act_order():
    """weight_g_idx as llm-compressor writes it: the group of each input."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    rows, columns, group = 16, 64, 16
    q = torch.randint(-8, 8, (rows, columns)).to(torch.int8)
    scale = (torch.rand(rows, columns // group) * 0.1).to(torch.bfloat16)
    g_idx = (torch.arange(columns) // group)[torch.randperm(columns)]
    parts = {"x.weight_packed": pack_to_int32(q, 4), "x.weight_scale": scale, "x.weight_g_idx": g_idx.to(torch.int32),
             "x.weight_shape": torch.tensor([rows, columns])}
    save("packed_int4_act_order", parts, {"x.weight": q.to(torch.bfloat16) * scale[:, g_idx]},
         {"quant_method": "compressed-tensors", "format": "pack-quantized"})


def float8(name, strategy, scale_dtype=torch.float32, rows=24, columns=40):
    from compressed_tensors.compressors.naive_quantized.base import FloatQuantizationCompressor as Compressor

    arguments = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy}
    shape = {"tensor": (1,), "channel": (rows, 1)}[strategy]
    state = {"weight": weights(rows, columns), "weight_scale": (torch.rand(shape) * 0.01 + 0.001).to(scale_dtype)}
    compressed = Compressor.compress(state, scheme(**arguments))
    plain = Compressor.decompress(dict(compressed), scheme(**arguments))["weight"]
    parts = {f"x.{k}": v for k, v in compressed.items()}
    parts["x.input_scale"] = torch.tensor([0.5])
    save(name, parts, {"x.weight": plain},
         {"quant_method": "compressed-tensors", "format": "float-quantized",
          "config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}}})


def float8_blocks():
    """transformers' own dequantisation wants whole blocks, so blocks of 8 x 16 serve, and a stack of experts with them."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    class Quantizer:
        class quantization_config:  # noqa: N801
            weight_block_size = [8, 16]

    values, parts = {}, {}
    for name, shape in {"x": (24, 48), "stack": (2, 16, 32)}.items():
        weight = (torch.randn(shape) * 100).to(torch.float8_e4m3fn)
        scale = torch.rand(*shape[:-2], shape[-2] // 8, shape[-1] // 16) * 0.01 + 0.001
        suffix = ".weight" if name == "x" else ".gate_up_proj"
        parts[name + suffix], parts[name + suffix + "_scale_inv"] = weight, scale
        values[name + suffix] = Fp8Dequantize(Quantizer())._dequantize_one(weight, scale, torch.float32)
    # A last block that is cut off: by the definition.
    weight, scale = (torch.randn(20, 40) * 100).to(torch.float8_e4m3fn), torch.rand(3, 3) * 0.01 + 0.001
    parts["cut.weight"], parts["cut.weight_scale_inv"] = weight, scale
    spread = scale.repeat_interleave(8, 0)[:20].repeat_interleave(16, 1)[:, :40]
    values["cut.weight"] = weight.float() * spread
    save("fp8_blocks", parts, values, {"quant_method": "fp8", "weight_block_size": [8, 16]})


# ---- four-bit floats

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def nvfp4(name, columns, modelopt):
    rows = 6
    packed_bytes = torch.randint(0, 256, (rows, columns // 2)).to(torch.uint8)
    scale = (torch.rand(rows, columns // 16) * 400).to(torch.float8_e4m3fn)
    second = torch.tensor(0.0123) if modelopt else torch.tensor([81.3])
    low, high = E2M1[packed_bytes.numpy() & 15], E2M1[packed_bytes.numpy() >> 4]
    values = np.stack([low, high], -1).reshape(rows, columns)
    blocks = np.repeat(scale.double().numpy(), 16, axis=1)
    factor = second.double().item() if modelopt else 1 / second.double().item()
    parts = {"x.weight_scale": scale, "x.input_scale": torch.tensor(1.0)}
    if modelopt:
        parts |= {"x.weight": packed_bytes, "x.weight_scale_2": second}
        quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    else:
        parts |= {"x.weight_packed": packed_bytes, "x.weight_global_scale": second}
        quantization = {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}
        # The library computes in bfloat16 steps; it must agree with the definition as far as those go.
        from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor as Compressor
        state = {k[2:]: v for k, v in parts.items() if k != "x.input_scale"}
        library = Compressor.decompress(state, scheme(num_bits=4, type="float", symmetric=True, strategy="tensor_group",
                                                      group_size=16))["weight"]
        assert np.allclose(library.double().numpy(), values * blocks * factor, rtol=2**-6, atol=0), name
    save(name, parts, {"x.weight": torch.from_numpy(values * blocks * factor)}, quantization)


def mxfp4():
    from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor as Compressor
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    experts, rows, columns = 2, 4, 64
    blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16)).to(torch.uint8)
    scales = torch.randint(110, 140, (experts, rows, columns // 32)).to(torch.uint8)
    plain = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)  # (experts, in, out)
    save("mxfp4_blocks", {"x.gate_up_proj_blocks": blocks, "x.gate_up_proj_scales": scales},
         {"x.gate_up_proj": plain.transpose(1, 2)}, {"quant_method": "mxfp4"})
    parts = {"weight_packed": torch.randint(0, 256, (rows, columns // 2)).to(torch.uint8),
             "weight_scale": torch.randint(110, 140, (rows, columns // 32)).to(torch.uint8)}
    plain = Compressor.decompress(dict(parts), scheme(num_bits=4, type="float", symmetric=True, strategy="group",
                                                      group_size=32))["weight"]
    save("mxfp4_packed", {f"x.{k}": v for k, v in parts.items()}, {"x.weight": plain.float()},
         {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"})


def bnb(name, double_quantized, dtype, kind):
    import bitsandbytes.functional as functional

    weight = weights(12, 1024, dtype) if double_quantized else weights(6, 66, dtype)  # 66: blocks cross rows
    quantized, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=double_quantized, blocksize=64)
    parts = {"x.weight": quantized}
    parts |= {f"x.weight.{k}": v for k, v in state.as_dict(packed=True).items()}
    plain = functional.dequantize_4bit(quantized, state)
    save(name, parts, {"x.weight": plain},
         {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind})


def main():
    torch.manual_seed(20261122)
    OUT.mkdir(parents=True, exist_ok=True)
    gptq("gptq4", 4, False, "gptq", anywhere)
    gptq("gptq4_act_order", 4, True, "gptq", middle)
    gptq("gptq4_v2", 4, False, "gptq_v2", anywhere)
    gptq("gptq8", 8, False, "gptq", anywhere)
    awq()
    packed("packed_int4", 4, True, "group", torch.bfloat16)
    packed("packed_int4_zero", 4, False, "group", torch.float16)
    packed("packed_int4_channel", 4, False, "channel", torch.float32)
    packed("packed_int8", 8, True, "channel", torch.bfloat16)
    packed_act_order()
    float8("fp8_tensor", "tensor")
    float8("fp8_channel", "channel", torch.bfloat16)
    float8_blocks()
    nvfp4("nvfp4", 128, False)
    nvfp4("nvfp4_modelopt", 64, True)
    nvfp4("nvfp4_narrow", 48, True)
    mxfp4()
    bnb("bnb_nf4", False, torch.bfloat16, "nf4")
    bnb("bnb_nf4_double", True, torch.float16, "nf4")
    bnb("bnb_fp4", False, torch.float32, "fp4")


if __name__ == "__main__":
    main()
