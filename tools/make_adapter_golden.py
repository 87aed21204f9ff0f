#!/usr/bin/env python3
"""Makes tests/golden/adapters.json: what PEFT's merge_and_unload() makes of the golden case "llama" and some adapters.

    python tools/make_adapter_golden.py

Needs torch, transformers, safetensors and peft (tools/golden/requirements.txt). As in make_model_golden.py, tensors are
functions of their names; of each merged tensor 48 elements are kept.
"""
import json
import pathlib
import shutil
import tempfile

import numpy as np
import safetensors.torch
import torch
from make_model_golden import NAMES, Case, hashes, load, make_checkpoint, uniform
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

ADAPTERS = {
    "lora": dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"]),
    "all": dict(r=3, lora_alpha=6, target_modules=LINEAR),
    "rslora": dict(r=4, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "k_proj", "down_proj"]),
    "patterns": dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"], rank_pattern={"o_proj": 2},
                     alpha_pattern={"layers.1.self_attn.q_proj": 3}),
    "dora": dict(r=4, lora_alpha=8, use_dora=True, target_modules=["q_proj", "up_proj"]),
    "embedding": dict(r=4, lora_alpha=8, target_modules=["embed_tokens"], modules_to_save=["lm_head"]),
}


def fill(folder):
    """Gives the adapter's tensors our values; returns their list."""
    path = folder / "adapter_model.safetensors"
    listed, tensors = [], {}
    for name, tensor in sorted(safetensors.torch.load_file(path).items()):
        offset, scale = (2.0, 0.5) if "magnitude" in name else (0.0, 0.25)
        values = np.float32(offset) + np.float32(scale) * uniform(name, tensor.numel())
        tensors[name] = torch.from_numpy(values).reshape(tensor.shape)
        listed.append([name, NAMES[torch.float32], list(tensor.shape), offset, scale])
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    return listed


def make(name, options, base_folder, case):
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        get_peft_model(load(case, base_folder), LoraConfig(task_type="CAUSAL_LM", **options)).save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = fill(folder)
        base = load(case, base_folder)
        before = {key: value.clone() for key, value in base.state_dict().items()}
        merged = PeftModel.from_pretrained(base, folder).merge_and_unload().state_dict()
    finally:
        shutil.rmtree(folder)
    expected = {}
    for key in sorted(before):
        if torch.equal(before[key], merged[key]):
            continue
        flat = merged[key].flatten()
        at = (hashes(f"{name}.{key}", 48) >> np.uint64(33)).astype(np.int64) % flat.numel()
        expected[key] = {"at": at.tolist(), "values": [round(float(flat[i]), 8) for i in at]}
    assert expected, name
    print(f"{name}: {len(tensors)} tensors change {len(expected)}")
    config = {key: value for key, value in config.items() if value is not None and key != "base_model_name_or_path"}
    return {"config": config, "tensors": tensors, "expected": expected}


def main():
    golden = json.loads((ROOT / "tests/golden/models/llama.json").read_text())
    case = Case("llama", LlamaConfig(**golden["config"]), AutoModelForCausalLM)
    case.model_class = None
    base_folder = pathlib.Path(tempfile.mkdtemp())
    try:
        make_checkpoint(case, base_folder)
        adapters = {name: make(name, options, base_folder, case) for name, options in ADAPTERS.items()}
    finally:
        shutil.rmtree(base_folder)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in adapters.items())
    (ROOT / "tests/golden/adapters.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
