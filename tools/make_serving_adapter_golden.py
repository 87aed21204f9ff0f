#!/usr/bin/env python3
"""Makes tests/golden/serving_adapters.json: the logits that PEFT gives some golden models with adapters beside their weights.

    python tools/make_serving_adapter_golden.py

Needs torch, transformers, safetensors and peft (tools/golden/requirements.txt). As in make_model_golden.py, tensors are
functions of their names, here with the adapter's name in front; of each adapter's logits three rows are kept.
"""
import json
import pathlib
import shutil
import tempfile

import numpy as np
import safetensors.torch
import torch
from golden_values import uniform
from make_model_golden import NAMES, all_cases, load, make_checkpoint
from peft import LoraConfig, PeftModel, get_peft_model

ROOT = pathlib.Path(__file__).resolve().parent.parent
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = ATTENTION + ["gate_proj", "up_proj", "down_proj"]
ROWS = [0, 32, 47]

# Golden case: adapters. Eight of the llama, which tests put into one batch; one or two of the others.
ADAPTERS = {
    "llama": {
        "a": dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"]),
        "b": dict(r=3, lora_alpha=6, target_modules=LINEAR),
        "c": dict(r=4, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "k_proj", "down_proj"]),
        "d": dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"], rank_pattern={"o_proj": 2},
                  alpha_pattern={"layers.1.self_attn.q_proj": 3}),
        "e": dict(r=17, lora_alpha=8, target_modules=LINEAR),
        "f": dict(r=1, lora_alpha=2, target_modules=["gate_proj"]),
        "g": dict(r=8, lora_alpha=8, target_modules=["up_proj", "o_proj"], layers_to_transform=[1]),
        "h": dict(r=16, lora_alpha=16, target_modules=ATTENTION),
    },
    "smollm3": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "qwen2": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "qwen3": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "phi3": {"a": dict(r=4, lora_alpha=6, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])},
    "gemma2": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "gemma3": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "granite": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "olmo2": {"a": dict(r=4, lora_alpha=6, target_modules=LINEAR)},
    "nemotron": {"a": dict(r=4, lora_alpha=6, target_modules=ATTENTION + ["up_proj", "down_proj"])},
    "mixtral": {"a": dict(r=4, lora_alpha=6, target_modules=ATTENTION)},
    "qwen3moe": {"a": dict(r=4, lora_alpha=6, target_modules=ATTENTION)},
    "gpt-oss": {"a": dict(r=4, lora_alpha=6, target_modules=ATTENTION)},
    "deepseek2-v3": {"a": dict(r=4, lora_alpha=6, target_modules=["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"])},
}


def fill(folder, name):
    """Gives the adapter's tensors our values; returns their list."""
    path = folder / "adapter_model.safetensors"
    listed, tensors = [], {}
    for key, tensor in sorted(safetensors.torch.load_file(path).items()):
        # Of unit variance through A, and small enough behind B that the model stays one.
        scale = np.float32((3.0 / tensor.shape[1]) ** 0.5 if "lora_A" in key else 0.25)
        values = scale * uniform(f"{name}.{key}", tensor.numel())
        tensors[key] = torch.from_numpy(values).reshape(tensor.shape)
        listed.append([key, NAMES[torch.float32], list(tensor.shape), 0.0, float(scale)])
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    return listed


def make(case, base_folder, tokens, plain, name, options):
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        get_peft_model(load(case, base_folder), LoraConfig(task_type="CAUSAL_LM", **options)).save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = fill(folder, name)
        model = PeftModel.from_pretrained(load(case, base_folder), folder).eval()
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()
    finally:
        shutil.rmtree(folder)
    change = float(np.abs(logits - plain).max())
    assert np.isfinite(logits).all() and change > 0.1, (case.name, name, change)
    print(f"{case.name} {name}: {len(tensors)} tensors move a logit by {change:.2f}")
    config = {key: value for key, value in config.items() if value is not None and key != "base_model_name_or_path"}
    return {"config": config, "tensors": tensors,
            "output_1e5": [int(round(float(v) * 1e5)) for r in ROWS for v in logits[r]]}


def make_all(case):
    golden = json.loads((ROOT / f"tests/golden/models/{case.name}.json").read_text())
    base_folder = pathlib.Path(tempfile.mkdtemp())
    try:
        make_checkpoint(case, base_folder)
        with torch.no_grad():
            plain = load(case, base_folder)(torch.tensor([golden["tokens"]]), use_cache=False).logits[0].float().numpy()
        return {name: make(case, base_folder, golden["tokens"], plain, name, options)
                for name, options in ADAPTERS[case.name].items()}
    finally:
        shutil.rmtree(base_folder)


def main():
    made = {case.name: make_all(case) for case in all_cases() if case.name in ADAPTERS}
    assert set(made) == set(ADAPTERS), set(ADAPTERS) - set(made)
    lines = [f'"rows": {json.dumps(ROWS)}']
    for case, adapters in made.items():
        inner = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in adapters.items())
        lines.append(f"{json.dumps(case)}: {{\n{inner}\n}}")
    (ROOT / "tests/golden/serving_adapters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
