#!/usr/bin/env python3
"""Runs fuzz targets (src/*/NAME_fuzz.cpp) with clang's libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer.

  fuzz.py list
  fuzz.py run NAME|all [--seconds S] [--runs N]    starts from tests/fuzz/NAME.corpus; new inputs stay in build/fuzz/corpus/NAME
  fuzz.py add NAME FILE...                          more inputs for build/fuzz/corpus/NAME
  fuzz.py save NAME|all [--limit BYTES]             the smallest inputs with all that they reach, packed into tests/fuzz/NAME.corpus

A run prints one line a target: executions, executions a second, edges and features covered, inputs, crashes. What crashed lies in
build/fuzz/crashes/NAME. Needs clang 15 or newer with its runtime (Debian: clang-16 libclang-rt-16-dev).
"""
import argparse
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
PACKED = ROOT / "tests" / "fuzz"
INPUT_BYTES = {"gguf": 65536, "safetensors": 8192, "tokenizer_json": 16384, "http_header": 2048, "sse": 2048}
INPUT_BYTES_DEFAULT = 4096


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


def figures(report):
    """What libFuzzer says at its end."""
    executed = re.search(r"number_of_executed_units: (\d+)", report)
    rate = re.search(r"average_exec_per_sec:\s+(\d+)", report)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", report)
    return {"runs": int(executed[1]) if executed else 0, "rate": int(rate[1]) if rate else 0,
            "edges": int(covered[-1][0]) if covered else 0, "features": int(covered[-1][1]) if covered else 0,
            "inputs": int(covered[-1][2]) if covered else 0}


def run(name, options):
    fill_corpus(name)
    crashes = BUILD / "crashes" / name
    crashes.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    command = [program(name), BUILD / "corpus" / name, f"-artifact_prefix={crashes}/", f"-max_total_time={options.seconds}",
               f"-runs={options.runs}", f"-max_len={INPUT_BYTES.get(name, INPUT_BYTES_DEFAULT)}", "-rss_limit_mb=2048", "-timeout=5",
               "-print_final_stats=1", "-use_value_profile=0"]
    dictionary = PACKED / f"{name}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    report = result.stdout.decode(errors="replace")
    (BUILD / f"{name}.log").write_text(report)
    found = sorted(set(crashes.iterdir()) - before)
    crashed = result.returncode != 0
    numbers = figures(report)
    print(f"{name:16} {numbers['runs']:>10} runs {numbers['rate']:>7}/s  {numbers['edges']:>6} edges {numbers['features']:>7} features "
          f"{numbers['inputs']:>6} inputs  {'FAILED' if crashed else 'no crash'}", flush=True)
    if crashed:
        print("\n".join(report.splitlines()[-40:]))
        print("\n".join(f"input: {path.relative_to(ROOT)}" for path in found))
    return not crashed


def save(name, options):
    merged = BUILD / "merged" / name
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    fill_corpus(name)
    subprocess.run([program(name), "-merge=1", "-timeout=5", "-rss_limit_mb=2048", merged, BUILD / "corpus" / name], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    parser.add_argument("command", choices=["list", "run", "add", "save"])
    parser.add_argument("name", nargs="?", default="all")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1)
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
    good = [run(name, options) for name in names]
    return sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
