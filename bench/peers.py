#!/usr/bin/env python3
"""neutrino beside llama.cpp's own tools, in the same minutes on the same machine: `./dev bench peers --quick`.

The peer is built from the source package `llama-cpp-python` with clang (g++ 12 miscompiles its AMX code) for this very CPU,
outside the clone, once. Then rounds alternate between the programs, so that a slow moment of the machine hits all of them,
and each row compares medians: ours against the better of the peer's two attention settings. One JSON line per run is
appended to bench/history.jsonl.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEUTRINO = ROOT / "build" / "release" / "neutrino"
PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
CMAKE_FLAGS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++", "-DGGML_NATIVE=ON",
    "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
]
TOOLS = ["llama-bench", "llama-batched-bench"]

# What the field calls pp512, tg128 @ d128, and 8 sequences of 128 + 64.
CONTEXT, DECODE, PREFILL, BATCH, BATCH_PROMPT, BATCH_DECODE = 128, 128, 512, 8, 128, 64
ROWS = {
    "decode": f"decode {DECODE} at context {CONTEXT}",
    "prefill": f"prefill {PREFILL}",
    "batch": f"batch {BATCH} ({BATCH_PROMPT} + {BATCH_DECODE})",
}


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "neutrino" / "peers" / f"llama.cpp-{VERSION}"


def run(command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def build_peer():
    """The folder of the peer's tools, built on first use."""
    folder = cache_folder()
    tools = folder / "build" / "bin"
    if all((tools / name).exists() for name in TOOLS):
        return tools
    print(f"building llama.cpp in {folder} (once; minutes)", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", folder,
         f"{PACKAGE}=={VERSION}"])
    archive = next(folder.glob("*.tar.gz"))
    run(["tar", "-xzf", archive, "-C", folder])
    source = folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    run(["cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", *CMAKE_FLAGS], stdout=subprocess.DEVNULL)
    run(["ninja", "-C", folder / "build", *TOOLS], stdout=subprocess.DEVNULL)
    return tools


def peer_json(tools, name, arguments, model, threads):
    environment = os.environ | {"LD_LIBRARY_PATH": str(tools)}
    command = [tools / name, "-m", model, "-t", threads, *arguments]
    return run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def peer_round(tools, model, threads, attention):
    """Tokens per second of each row; `attention`: flash attention "on" or "off"."""
    flag = ["-fa", "1" if attention == "on" else "0", "-r", "1", "-o", "json"]
    decode = peer_json(tools, "llama-bench", ["-p", 0, "-n", DECODE, "-d", CONTEXT, *flag], model, threads)
    prefill = peer_json(tools, "llama-bench", ["-p", PREFILL, "-n", 0, *flag], model, threads)
    batch = peer_json(tools, "llama-batched-bench", ["-c", 4096, "-npp", BATCH_PROMPT, "-ntg", BATCH_DECODE, "-npl", BATCH,
                                                     "-fa", attention, "--output-format", "jsonl"], model, threads)
    last = [line for line in batch.splitlines() if line.startswith("{")][-1]
    return {"decode": json.loads(decode)[0]["avg_ts"], "prefill": json.loads(prefill)[0]["avg_ts"],
            "batch": json.loads(last)["speed_tg"]}


def our_round(model, threads):
    command = [NEUTRINO, "bench", model, "--threads", threads, "--prefill", PREFILL, "--context", CONTEXT, "--decode", DECODE,
               "--batch", BATCH, "--batch-prompt", BATCH_PROMPT, "--batch-decode", BATCH_DECODE, "--repetitions", 1, "--json"]
    result = json.loads(run(command, stdout=subprocess.PIPE, text=True).stdout)
    return result["backend"], {row["work"]: row["median_tokens_per_second"] for row in result["rows"]}


def measure(tools, options):
    """Samples by program and row: {"neutrino": {"decode": [...], ...}, "fa on": ..., "fa off": ...}, and our backend's name."""
    samples = {program: {row: [] for row in ROWS} for program in ("neutrino", "fa on", "fa off")}
    backend = ""
    for index in range(options.rounds):
        print(f"round {index + 1} of {options.rounds}", file=sys.stderr)
        backend, ours = our_round(options.model, options.threads)
        rounds = {"neutrino": ours}
        for attention in ("off", "on"):
            rounds[f"fa {attention}"] = peer_round(tools, options.model, options.threads, attention)
        for program, values in rounds.items():
            for row, value in values.items():
                samples[program][row].append(value)
    return backend, samples


def summarise(samples):
    rows = {}
    for row in ROWS:
        medians = {program: statistics.median(values[row]) for program, values in samples.items()}
        best = max(medians["fa on"], medians["fa off"])
        rows[row] = {"neutrino": round(medians["neutrino"], 1), "llama_cpp_fa_on": round(medians["fa on"], 1),
                     "llama_cpp_fa_off": round(medians["fa off"], 1), "ratio": round(medians["neutrino"] / best, 3)}
    return rows


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit():
    describe = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True)
    return describe.stdout.strip() or "unknown"


def record(backend, rows, samples, options):
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "bench": "peers", "commit": commit(), "cpu": cpu_name(), "cores": os.cpu_count(), "load_1m": round(os.getloadavg()[0], 2),
        "backend": backend, "threads": options.threads, "model": pathlib.Path(options.model).name,
        "peer": f"llama.cpp of {PACKAGE} {VERSION}, clang, native", "rounds": options.rounds, "rows": rows,
        "samples": {program: {row: [round(v, 1) for v in values] for row, values in by_row.items()}
                    for program, by_row in samples.items()},
    }


def print_table(rows, entry):
    print(f"{entry['cpu']}, {entry['threads']} threads, {entry['backend']}, commit {entry['commit']}, medians of {entry['rounds']}\n")
    print(f"{'tokens/s':<28}{'neutrino':>10}{'fa on':>10}{'fa off':>10}{'ratio':>8}")
    for row, values in rows.items():
        print(f"{ROWS[row]:<28}{values['neutrino']:>10}{values['llama_cpp_fa_on']:>10}{values['llama_cpp_fa_off']:>10}"
              f"{values['ratio']:>8.2f}")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench peers", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 7")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--no-history", action="store_true", help="do not append to bench/history.jsonl")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    backend, samples = measure(build_peer(), options)
    rows = summarise(samples)
    entry = record(backend, rows, samples, options)
    print_table(rows, entry)
    if not options.no_history:
        with open(ROOT / "bench" / "history.jsonl", "a", encoding="utf-8") as history:
            history.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
