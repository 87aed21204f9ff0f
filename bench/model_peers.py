#!/usr/bin/env python3
"""Our --exact beside llama.cpp in float32, on one GGUF file: the tiny random models of tests/golden/models.

Each case is written as its Hugging Face checkpoint, converted by `neutrino model convert --type f32`, and run over its tokens by
both. The largest difference of a logit must be at most 1e-3. A control must miss that: our logits with the last norm's weights
one per cent larger. Needs a release build, clang++ and a Python with numpy and safetensors. Of use for architectures that both
compute in float32 (not Gemma: llama.cpp takes GELU from a table of float16).

    python bench/model_peers.py [CASE...]     # default: deci, whose reference in the tests is a module of ours
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from peers import llama_cpp, report
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from golden_values import uniform  # noqa: E402

NEUTRINO = ROOT / "build" / "release" / "neutrino"
MODEL_LOGITS = ROOT / "build" / "release" / "bench" / "model_logits"
BAR = 1e-3
WINDOW = 64


def run(*command):
    subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, check=True)


def write_checkpoint(golden, folder, changed=None):
    tensors = {}
    for name, dtype, shape, offset, scale in golden["tensors"]:
        if dtype != "F32":
            raise SystemExit(f"{name} has dtype {dtype}: only F32 cases can be compared")
        values = np.float32(offset) + np.float32(scale) * uniform(name, int(np.prod(shape)))
        tensors[name] = (values * np.float32(1.01) if name == changed else values).reshape(shape)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    for name, content in tokenizer_files(golden["config"]["vocab_size"]).items():
        (folder / name).write_text(json.dumps(content))


def tokenizer_files(size):
    """llama.cpp loads no model without a vocabulary and a merge. Nothing is tokenised with it."""
    tokens = [chr(33 + i) for i in range(size - 1)] + ["!\""]
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"tokenizer.json": {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": split,
                               "post_processor": None, "decoder": {"type": "ByteLevel"},
                               "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)},
                                         "merges": [["!", "\""]]}}}


def logits(work, *command):
    run(*command, work / "logits")
    return np.fromfile(work / "logits", np.float32)


def converted(golden, work, changed=None):
    folder = work / "checkpoint"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_checkpoint(golden, folder, changed)
    path = work / "model.gguf"
    run(NEUTRINO, "model", "convert", folder, path, "--type", "f32", "--force")
    return path


def compare(name, client, work):
    """The case's row of the table: whether it met the bar, and its control did not."""
    golden = json.loads((ROOT / "tests" / "golden" / "models" / f"{name}.json").read_text(encoding="utf-8"))
    np.array(golden["tokens"], np.int32).tofile(work / "tokens")
    changed = next(tensor[0] for tensor in golden["tensors"] if tensor[0].endswith("model.norm.weight"))
    path = converted(golden, work)
    theirs = logits(work, client, "exact", path, work / "tokens", WINDOW, 1)
    ours = logits(work, MODEL_LOGITS, path, work / "tokens", WINDOW, 1)
    control = logits(work, MODEL_LOGITS, converted(golden, work, changed), work / "tokens", WINDOW, 1)
    if not ours.shape == theirs.shape == (len(golden["tokens"]) * golden["columns"],):
        raise SystemExit(f"{name}: {ours.size} of our logits, {theirs.size} of llama.cpp's")
    delta, other = (float(np.abs(some - theirs).max()) for some in (ours, control))
    good = delta <= BAR < other
    print(f"{name:20} {len(golden['tokens']):6} {ours.std():8.3f} {delta:12.2e} {other:12.2e}   {'ok' if good else 'missed'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["deci"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="models") as folder:
        work = pathlib.Path(folder)
        client = llama_cpp.compile_client(work)
        print(f"{report.cpu_facts().get('model name')}, commit {report.commit()}, llama.cpp {llama_cpp.COMMIT}; bar {BAR}\n\n"
              f"{'case':20} {'tokens':>6} {'std':>8} {'max |delta|':>12} {'control':>12}")
        good = [compare(name, client, work) for name in options.cases]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
