#!/usr/bin/env python3
"""Makes tests/golden/models/*.json: what `transformers` computes for tiny random models, one file per case.

    python tools/make_model_golden.py [CASE...]     # those whose name begins with one of the arguments; none: all

Needs torch, transformers and safetensors (tools/golden/requirements.txt). A file holds no weights: the value of a tensor's
element is a function of the tensor's name and the element's index (golden_values.py),
so config.json, the list of tensors, the tokens and some rows of the reference's output are enough.

The cases stand in tools/model_cases/*.py, each with a list CASES.
"""
import argparse
import dataclasses
import fnmatch
import importlib.util
import json
import pathlib
import shutil
import tempfile
from typing import Callable, Optional

import numpy as np
import safetensors.torch
import torch
from golden_values import hashes, uniform

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/models"
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


@dataclasses.dataclass
class Case:
    name: str  # of the file
    config: object  # a transformers config
    model_class: Optional[type] = None  # default: AutoModelForCausalLM's choice
    tokens: int = 48
    rows: Optional[list] = None  # of the output that are kept; default: about 13, the block boundary at 32 among them
    # (glob of tensor names, (offset, scale)); the first that matches counts. An element is offset + scale * u, u in [-1, 1).
    weights: list = dataclasses.field(default_factory=list)
    dtype: torch.dtype = torch.float32  # of the matrices in the checkpoint
    run: Optional[Callable] = None  # (model, ids) -> (tokens, columns) float32; default: the logits
    config_extra: dict = dataclasses.field(default_factory=dict)  # put into config.json
    extra: Optional[Callable] = None  # (model, case) -> dict, put into the golden file
    modules: dict = dataclasses.field(default_factory=dict)  # tensors of sentence-transformers modules: name to shape
    files: dict = dataclasses.field(default_factory=dict)  # further files of the checkpoint: name to JSON
    minimum_std: float = 1.0  # of the output
    strict: bool = True  # every tensor of the checkpoint is loaded, and none is missing


def default_weights(name, shape):
    """Of unit variance through each product, so that every tensor shows in the output."""
    if "norm" in name.lower() and name.endswith("weight"):
        return 1.0, 0.5
    if len(shape) == 1:
        return 0.0, 0.5
    if "embed" in name or "wte" in name:
        return 0.0, 1.5
    gain = 2.0 if "lm_head" in name else 1.0
    return 0.0, gain * (3.0 / shape[-1]) ** 0.5


def fill(case, name, tensor):
    offset, scale = next((w for pattern, w in case.weights if fnmatch.fnmatchcase(name, pattern)), None) or default_weights(
        name, tensor.shape
    )
    offset, scale = np.float32(offset), np.float32(scale)
    values = offset + scale * uniform(name, tensor.numel())
    matrix = tensor.dim() > 1
    return torch.from_numpy(values).reshape(tensor.shape).to(case.dtype if matrix else torch.float32), offset, scale


def module_tensor(name, shape):
    """A tensor of Case.modules, for Case.run."""
    _, scale = default_weights(name, shape)
    return torch.from_numpy(np.float32(scale) * uniform(name, int(np.prod(shape)))).reshape(shape)


def make_checkpoint(case, folder):
    """Saves the model as transformers does, with our values. Returns the list for the golden file."""
    import transformers

    torch.manual_seed(0)
    cls = case.model_class
    model = cls(case.config) if cls else transformers.AutoModelForCausalLM.from_config(case.config)
    model.save_pretrained(folder)
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 1, files
    saved = safetensors.torch.load_file(files[0])
    listed, tensors = [], {}
    for name in sorted(saved):
        if not saved[name].is_floating_point():
            continue
        tensors[name], offset, scale = fill(case, name, saved[name])
        listed.append([name, NAMES[tensors[name].dtype], list(saved[name].shape), float(offset), float(scale)])
    safetensors.torch.save_file(tensors, files[0], metadata={"format": "pt"})
    for name, shape in case.modules.items():
        listed.append([name, "F32", list(shape), 0.0, float(np.float32(default_weights(name, shape)[1]))])
    config = json.loads((folder / "config.json").read_text()) | case.config_extra
    (folder / "config.json").write_text(json.dumps(config))
    return config, listed


def load(case, folder):
    import transformers

    cls = case.model_class or transformers.AutoModelForCausalLM
    model, info = cls.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    if case.strict:
        assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval()


def rows_of(case):
    if case.rows is not None:
        return case.rows
    step = max(1, case.tokens // 8)
    return sorted({0, 1, *range(0, case.tokens, step), *(r for r in (31, 32, 33) if r < case.tokens), case.tokens - 1})


def make(case):
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        config, listed = make_checkpoint(case, folder)
        model = load(case, folder)
    finally:
        shutil.rmtree(folder)
    vocabulary = config.get("vocab_size") or config["text_config"]["vocab_size"]
    ids = (hashes(case.name + ".tokens", case.tokens) >> np.uint64(33)).astype(np.int64) % vocabulary
    with torch.no_grad():
        batch = torch.from_numpy(ids)[None]
        output = case.run(model, batch) if case.run else model(batch, use_cache=False).logits[0]
    output = output.float().numpy()
    assert np.isfinite(output).all()
    std = float(output.std())
    assert std >= case.minimum_std, f"{case.name}: standard deviation of the output is {std}"
    rows = rows_of(case)
    golden = {
        "config": config,
        "tensors": listed,
        "tokens": ids.tolist(),
        "rows": rows,
        "columns": output.shape[1],
        "output_1e5": [int(round(float(v) * 1e5)) for r in rows for v in output[r]],
    }
    if case.files:
        golden["files"] = case.files
    if case.extra:
        golden |= case.extra(model, case)
    OUT.mkdir(exist_ok=True)
    lines = ["{"] + [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}," for k, v in golden.items()]
    lines[-1] = lines[-1][:-1]
    (OUT / f"{case.name}.json").write_text("\n".join(lines) + "\n}\n")
    print(f"{case.name}: {len(listed)} tensors, std {std:.2f}")


def all_cases():
    for path in sorted((ROOT / "tools/model_cases").glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield from module.CASES


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*")
    wanted = parser.parse_args().cases
    for case in all_cases():
        if not wanted or any(case.name.startswith(w) for w in wanted):
            make(case)


if __name__ == "__main__":
    import sys

    sys.modules["make_model_golden"] = sys.modules["__main__"]
    main()
