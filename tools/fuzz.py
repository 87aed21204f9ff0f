#!/usr/bin/env python3
"""Runs fuzz targets (src/*/NAME_fuzz.cpp) with clang's libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer.

  fuzz.py list
  fuzz.py run NAME|all [--seconds S | --runs N]     starts from tests/fuzz/NAME.corpus; new inputs stay in build/fuzz/corpus/NAME
  fuzz.py campaign [NAME] [--processes P]           the fixed numbers of runs below: 10^7 over all targets
  fuzz.py add NAME FILE...                          more inputs for build/fuzz/corpus/NAME
  fuzz.py save NAME|all [--limit BYTES]             the smallest inputs with all that they reach, packed into tests/fuzz/NAME.corpus

A run prints one line a target, a row of a Markdown table: executions, processor seconds, edges and features covered, inputs of the corpus, and
what it found. The inputs that crashed, leaked or hung lie in build/fuzz/crashes/NAME. Needs clang 15 or newer with
its runtime (Debian: clang-16 libclang-rt-16-dev).
"""
import argparse
import hashlib
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
PACKED = ROOT / "tests" / "fuzz"
INPUT_BYTES = {"gguf": 65536, "safetensors": 8192, "tokenizer_json": 16384, "http_header": 2048, "sse": 2048,
               "tool_parser": 512, "adapter": 8192, "grammar": 2048}
INPUT_BYTES_DEFAULT = 4096
SEEDS = {"gguf": ["tests/golden/tiny/llama-q4_1.gguf"]}  # whole files that are too large for a packed corpus
CAMPAIGN_RUNS = {"http_header": 3_000_000, "safetensors": 2_500_000, "http_body": 1_000_000, "sse": 750_000}
CAMPAIGN_RUNS_DEFAULT = 500_000
HANG_SECONDS = 120  # of the clock, in which a machine may do other work; a target itself counts the processor's
RUST_ON_THREADS = ("grammar", "schema")  # a thread for each compilation: its second stack costs a fifth and sees no Rust
FINDINGS = ("crash", "leak", "timeout", "oom")  # how libFuzzer begins the names of such inputs


def targets():
    return {path.name.removesuffix("_fuzz.cpp"): path.parent.name for path in sorted((ROOT / "src").rglob("*_fuzz.cpp"))}


def compiler():
    for version in range(25, 14, -1):
        if shutil.which(f"clang++-{version}"):
            return f"clang++-{version}"
    sys.exit("fuzz: clang++ 15 or newer must be installed (apt install clang-16 libclang-rt-16-dev)")


def build(names):
    if not (BUILD / "build.ninja").exists():
        command = ["cmake", "--preset", "fuzz", f"-DCMAKE_CXX_COMPILER={compiler()}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", BUILD, "--target", *(f"fuzz_{name}" for name in names)], check=True, stdout=sys.stderr)


def program(name):
    return BUILD / "src" / targets()[name] / f"fuzz_{name}"


def pack(inputs):
    return b"".join(b"%d\n%s\n" % (len(data), data) for data in inputs)


def unpack(packed):
    while packed:
        size, packed = packed.split(b"\n", 1)
        yield packed[:int(size)]
        packed = packed[int(size) + 1:]


def write_input(name, data):
    folder = BUILD / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def fill_corpus(name):
    (BUILD / "corpus" / name).mkdir(parents=True, exist_ok=True)
    packed = PACKED / f"{name}.corpus"
    for data in unpack(packed.read_bytes()) if packed.exists() else ():
        write_input(name, data)
    for path in SEEDS.get(name, ()):
        write_input(name, (ROOT / path).read_bytes())


def figures(report):
    """What libFuzzer says at its end."""
    executed = re.search(r"number_of_executed_units: (\d+)", report)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", report)
    return {"runs": int(executed[1]) if executed else 0,
            "edges": int(covered[-1][0]) if covered else 0, "features": int(covered[-1][1]) if covered else 0,
            "inputs": int(covered[-1][2]) if covered else 0}


def environment(name):
    """What targets write to a temporary folder stays in memory; short stacks of allocations and little memory that is kept from
    being used again make executions a quarter cheaper."""
    options = "malloc_context_size=3:quarantine_size_mb=16:"
    if name in RUST_ON_THREADS:
        options += "detect_stack_use_after_return=0:"
    options += os.environ.get("ASAN_OPTIONS", "")
    memory = pathlib.Path("/dev/shm")
    return {**os.environ, "ASAN_OPTIONS": options, **({"TMPDIR": str(memory)} if os.access(memory, os.W_OK) else {})}


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def print_head():
    print("| target | executions | processor seconds | edges | features | inputs | crashes | leaks | hangs | out of memory |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)


def print_row(name, numbers, seconds, found):
    """`numbers`: of each process; what they covered is about the same, so the most counts."""
    largest = [f"{max(number[key] for number in numbers):,}" for key in ("edges", "features", "inputs")]
    counts = [str(sum(path.name.startswith(f"{kind}-") for path in found)) for kind in FINDINGS]
    cells = [name, f"{sum(number['runs'] for number in numbers):,}", f"{seconds:.0f}", *largest, *counts]
    print(f"| {' | '.join(cells)} |", flush=True)


def run(name, seconds, runs, processes):
    """`seconds` 0: no limit of time; `runs` -1: no limit of executions, else shared by `processes`. False: it found something."""
    fill_corpus(name)
    crashes = BUILD / "crashes" / name
    crashes.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    command = [program(name), BUILD / "corpus" / name, f"-artifact_prefix={crashes}/", f"-max_total_time={seconds}",
               f"-runs={-(-runs // processes)}", f"-max_len={INPUT_BYTES.get(name, INPUT_BYTES_DEFAULT)}", "-rss_limit_mb=2048",
               f"-timeout={HANG_SECONDS}", "-print_final_stats=1"]
    dictionary = PACKED / f"{name}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    begin = processor_seconds()
    logs = [BUILD / f"{name}.{i}.log" for i in range(processes)]
    started = [subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=environment(name)) for log in logs]
    failed = [process.wait() != 0 for process in started]
    taken = processor_seconds() - begin
    reports = [log.read_text(errors="replace") for log in logs]
    found = sorted(set(crashes.iterdir()) - before)
    print_row(name, [figures(report) for report in reports], taken, found)
    for report in (report for report, bad in zip(reports, failed) if bad):
        print("\n".join(report.splitlines()[-40:]))
    for path in found:
        print(f"input: {path.relative_to(ROOT)}", flush=True)
    return not any(failed)


def save(name, options):
    merged = BUILD / "merged" / name
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    fill_corpus(name)
    subprocess.run([program(name), "-merge=1", f"-timeout={HANG_SECONDS}", "-rss_limit_mb=2048", merged, BUILD / "corpus" / name], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(name))
    kept, size = [], 0
    for data in sorted((path.read_bytes() for path in merged.iterdir()), key=lambda data: (len(data), data)):
        if size + len(data) > options.limit:
            break
        kept.append(data)
        size += len(data)
    PACKED.mkdir(exist_ok=True)
    (PACKED / f"{name}.corpus").write_bytes(pack(kept))
    print(f"{name}: {len(kept)} inputs, {size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["list", "run", "campaign", "add", "save"])
    parser.add_argument("name", nargs="?", default="all")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, help="for each target; 60 where --runs is not given")
    parser.add_argument("--runs", type=int, help="for each target")
    parser.add_argument("--processes", type=int, default=1, help="that share a target's runs")
    parser.add_argument("--limit", type=int, default=150_000)
    options = parser.parse_args()
    known = targets()
    if options.command == "list":
        return print("\n".join(known))
    if options.name != "all" and options.name not in known:
        sys.exit(f"fuzz: no target {options.name}; there are {', '.join(known)}")
    names = list(known) if options.name == "all" else [options.name]
    if options.command == "add":
        for file in options.files:
            write_input(options.name, file.read_bytes())
        return None
    build(names)
    if options.command == "save":
        for name in names:
            save(name, options)
        return None
    print_head()
    if options.command == "campaign":
        good = [run(name, 0, CAMPAIGN_RUNS.get(name, CAMPAIGN_RUNS_DEFAULT), options.processes) for name in names]
    else:
        seconds = options.seconds if options.seconds is not None else 0 if options.runs else 60
        good = [run(name, seconds, options.runs or -1, options.processes if options.runs else 1) for name in names]
    return sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
