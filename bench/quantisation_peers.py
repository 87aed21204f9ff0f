#!/usr/bin/env python3
"""Our quantised files beside those that llama.cpp makes of the same float32 models.

Two questions for each type, both in mean Kullback-Leibler divergence (nats) over the next tokens of a text:

  loss   how far from the float32 source is the file? Ours and llama-quantize's (without imatrix), both run by us in
         --exact. Ours must be at most 1.05 times theirs, in a file that is no larger.
  drift  how far is llama.cpp, running a file, from our --exact running the same file? On our file at most 1.5 times as far
         as on its own of that type: what we write means to llama.cpp what it means to us.

Two controls must miss the bars: a poorer type passed off as a better one, and llama.cpp beside --exact on other weights. The
sources are made from SmolLM2 (quantisation_models.py says how). Needs a release build, clang++ and a Python with numpy and
safetensors (tools/golden/requirements.txt), 8 GB of memory, 6 GB of disk and a quarter of an hour:

    python bench/quantisation_peers.py --model ~/.local/share/neutrino/cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
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
from quantisation_models import make_source

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEUTRINO = ROOT / "build" / "release" / "neutrino"
MODEL_LOGITS = ROOT / "build" / "release" / "bench" / "model_logits"
LOSS_BAR, DRIFT_BAR, SIZE_BAR = 1.05, 1.5, 1.01
WINDOW = 512

FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18,
              "iq4_xs": 30, "mxfp4": 38}  # llama.h: enum llama_ftype
ROWS = [("plain", name) for name in FILE_TYPES if name != "mxfp4"]  # rows of 576: blocks of 256 only in ffn_down
ROWS += [("wide", name) for name in ("q4_k_m", "q5_k_m", "q6_k", "iq4_xs")]
ROWS += [("experts", "mxfp4")]  # which both give to experts only, and Q8_0 to the others


def run(*command):
    subprocess.run([str(part) for part in command], stdout=sys.stderr, check=True)


def convert(source, target, name, threads):
    run(NEUTRINO, "model", "convert", source, target, "--type", name, "--threads", threads, "--force")


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def mean_kl(reference, other):
    """Of logits (positions, vocabulary)."""
    divergence = []
    for at in range(0, len(reference), 64):
        p, q = log_softmax(reference[at:at + 64]), log_softmax(other[at:at + 64])
        divergence.append((np.exp(p) * (p - q)).sum(1))
    return max(0.0, float(np.concatenate(divergence).mean()))


class Bench:
    def __init__(self, options, work):
        self.work, self.threads = work, options.threads
        self.peer = llama_cpp.compile_client(work)
        self.exact_sources = {}
        self.model = options.model
        self.tokens = self.write_tokens(options)

    def source(self, name):
        """The float32 GGUF file, made unless it is there."""
        path = self.work / f"{name}.f32.gguf"
        if not path.exists():
            checkpoint, dequantised = self.work / "checkpoint", self.work / "dequantised"
            if not dequantised.exists():
                convert(self.model, dequantised, "f32", self.threads)
            make_source(name, dequantised, checkpoint)
            convert(checkpoint, path, "f32", self.threads)
            shutil.rmtree(checkpoint)
        return path

    def write_tokens(self, options):
        text = pathlib.Path(options.text).read_text(encoding="utf-8")
        shown = subprocess.run([NEUTRINO, "tokenize", self.model, "--json"], input=text, text=True, capture_output=True, check=True)
        tokens = np.array(json.loads(shown.stdout)["tokens"], np.int32)[:options.positions]
        tokens.tofile(self.work / "tokens")
        return len(tokens)

    def logits(self, command, name):
        path = self.work / f"{name}.logits"
        run(*command, path)
        return np.memmap(path, np.float32, "r").reshape(self.tokens, -1)

    def exact(self, model, name):
        return self.logits([MODEL_LOGITS, model, self.work / "tokens", WINDOW, self.threads], name)

    def theirs(self, model, name):
        return self.logits([self.peer, "logits", model, self.work / "tokens", WINDOW, self.threads], name)

    def exact_source(self, source):
        if source not in self.exact_sources:
            self.exact_sources[source] = self.exact(self.source(source), f"{source}.f32")
        return self.exact_sources[source]

    def measure(self, source, name):
        files = {"ours": self.work / "ours.gguf", "llama.cpp's": self.work / "theirs.gguf"}
        convert(self.source(source), files["ours"], name, self.threads)
        run(self.peer, "quantize", self.source(source), files["llama.cpp's"], FILE_TYPES[name], self.threads)
        row = {}
        exact = {maker: self.exact(file, "exact-" + file.stem) for maker, file in files.items()}
        for maker, file in files.items():
            llama = self.theirs(file, "llama-" + file.stem)
            row[maker] = {"bytes": file.stat().st_size, "loss": mean_kl(self.exact_source(source), exact[maker]),
                          "drift": mean_kl(exact[maker], llama)}
            row[maker]["drift of other weights"] = mean_kl(exact["ours"], llama) if maker != "ours" else None
        return row


def ratio(ours, theirs):
    return 1.0 if ours == theirs else ours / theirs if theirs else float("inf")


def judge(row):
    """The row's ratios, and the names of the bars that it misses."""
    ours, theirs = row["ours"], row["llama.cpp's"]
    ratios = {what: ratio(ours[what], theirs[what]) for what in ("loss", "drift", "bytes")}
    bars = {"loss": LOSS_BAR, "drift": DRIFT_BAR, "bytes": SIZE_BAR}
    return ratios, [what for what, bar in bars.items() if not ratios[what] <= bar]


def print_row(source, name, row):
    ratios, missed = judge(row)
    ours, theirs = row["ours"], row["llama.cpp's"]
    print(f"{source:8} {name:7}{ours['bytes'] / 1e6:9.1f}{ratios['bytes']:7.4f}   {ours['loss']:11.4e}{theirs['loss']:12.4e}"
          f"{ratios['loss']:7.3f}   {ours['drift']:11.4e}{theirs['drift']:12.4e}{ratios['drift']:7.3f}   "
          f"{'missed: ' + ', '.join(missed) if missed else 'ok'}", flush=True)
    return not missed


def check_controls(rows):
    """What is wrong must be seen as wrong."""
    low, high = rows.get(("plain", "q4_0")), rows.get(("plain", "q8_0"))
    if not low or not high:
        return True
    loss = ratio(low["ours"]["loss"], high["llama.cpp's"]["loss"])
    drift = ratio(low["llama.cpp's"]["drift of other weights"], low["llama.cpp's"]["drift"])
    print(f"controls: q4_0 as q8_0 has loss ratio {loss:.3g} (bar {LOSS_BAR}); llama.cpp on its q4_0 beside --exact on ours has "
          f"drift ratio {drift:.3g} (bar {DRIFT_BAR})")
    return loss > LOSS_BAR and drift > DRIFT_BAR


def measure_all(bench, options):
    print(f"{bench.tokens} positions, windows of {WINDOW}; KL in nats; {report.cpu_facts().get('model name')}, commit {report.commit()}\n\n"
          f"{'':15} {'file':>8}{'':7}   {'loss: KL to the source':30}   drift: llama.cpp to --exact\n"
          f"{'source':8} {'type':7}{'MB':>9}{'ratio':>7}   {'ours':>11}{'llama.cpp':>12}{'ratio':>7}   "
          f"{'our file':>11}{'its file':>12}{'ratio':>7}")
    rows, good = {}, True
    for source, name in ROWS:
        if options.types and name not in options.types.split(","):
            continue
        rows[source, name] = bench.measure(source, name)
        good &= print_row(source, name, rows[source, name])
    return good & check_controls(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="SmolLM2-135M-Instruct as a GGUF file")
    parser.add_argument("--text", default=ROOT / "tests" / "golden" / "text.txt")
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", help="only these, with commas between")
    parser.add_argument("--work", type=pathlib.Path, help="a folder that is kept, with the sources, for the next run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantisation") as passing:
        work = options.work or pathlib.Path(passing)
        work.mkdir(exist_ok=True)
        good = measure_all(Bench(options, work), options)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
