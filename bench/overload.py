#!/usr/bin/env python3
"""What ten times too many requests do to a server: measured in an open loop, on the machine that runs the server.

    .venv/bin/python bench/overload.py MODEL [--admitted 1000] [-- flags of serve]

Four phases, each a run of build/release/bench/load_generator with 32 + 16 tokens: the peak (a closed loop, the best number of
clients, of a server that refuses nobody), then with `--max-queue-wait auto` 1x (0.8 of that peak, at random times), 10x, and 1x again
from five seconds after the last request of 10x. What must hold is
in `judge()`; every phase's figures, the generator's own CPU among them, are printed as one JSON object, and the exit code is 1 where a
bar is missed. `--slack 3` is for machines that do something else besides.
"""
import argparse
import contextlib
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPT, OUTPUT = 32, 16
NORMAL, CROWDED = 0.8, 8.0  # of the peak


@contextlib.contextmanager
def serving(binary, model, flags, wait):
    """A server on a free port with the key "k" and the model name "m"; yields the port."""
    command = [str(binary), "serve", str(model), "--port", "0", "--api-key", "k", "--served-model-name", "m",
               "--request-log", os.devnull, "--max-queue-wait", wait, *flags]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = server.stdout.readline()
            match = re.search(r"http://[^\s/:]+:(\d+)", line)
            if not match:
                server.wait(10)
                log.seek(0)
                sys.exit(f"the server did not start:\n{log.read()}")
            yield int(match.group(1))
        finally:
            server.terminate()
            server.wait(60)


class Generator:
    def __init__(self, port, key, program=ROOT / "build" / "release" / "bench" / "load_generator"):
        self.base = [str(program), "--port", str(port), "--api-key", key, "--prompt", str(PROMPT), "--output", str(OUTPUT)]

    def run(self, *flags, seed=1):
        result = subprocess.run([*self.base, "--seed", str(seed), *map(str, flags)], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(result.stderr.strip())
        return json.loads(result.stdout)

    def closed(self, clients, requests, seed):
        run = self.run("--clients", clients, "--requests", requests, seed=seed)
        return {"clients": clients, "answered_per_second": run["tokens_per_second"] / OUTPUT,
                "first_token_ms_p95": run["first_token_ms_p95"], "client_cpu_share": run["client_cpu_share"]}

    def open(self, rate, requests, seed):
        return self.run("--rate", f"{rate:.4f}", "--requests", max(1, int(requests)), seed=seed)


def measure(serve, admitted, clients=(8, 16, 32), key="k"):
    """The phases' figures, by name. serve(wait): a context with the port of a server that bounds the wait so."""
    with serve("0") as port:
        generator = Generator(port, key)
        generator.closed(8, 64, seed=1)  # warms everything up
        closed = [generator.closed(count, max(admitted // 4, 4 * count), seed=2 + count) for count in clients]
    peak = max(run["answered_per_second"] for run in closed)
    with serve("auto") as port:
        generator = Generator(port, key)
        generator.open(NORMAL * peak, 100, seed=100)
        normal = generator.open(NORMAL * peak, admitted, seed=101)
        crowded = generator.open(CROWDED * peak, 1.1 * admitted * CROWDED, seed=102)
        time.sleep(5)
        after = generator.open(NORMAL * peak, admitted / 4, seed=103)
    return {"peak_per_second": peak, "closed": closed, "normal": normal, "crowded": crowded, "after": after}


def judge(figures, slack=1.0):
    """{bar: (value, most or least, met)}."""
    normal, crowded, after = figures["normal"], figures["crowded"], figures["after"]
    goodput = crowded["answered_per_second"] / figures["peak_per_second"]
    ratio = crowded["first_token_ms_p95"] / normal["first_token_ms_p95"]
    recovery = after["first_token_ms_p95"] / normal["first_token_ms_p95"]
    refused_later = after["refused"] / (after["refused"] + after["admitted"])
    return {
        "admitted p95 TTFT at 10x over that at 1x": (ratio, 2 * slack, ratio <= 2 * slack),
        "goodput at 10x over the peak": (goodput, 0.9 / slack, goodput >= 0.9 / slack),
        "refusal p95 ms": (crowded["refusal_ms_p95"], 50 * slack, crowded["refusal_ms_p95"] <= 50 * slack),
        "refusals without Retry-After": (crowded["refused_without_retry_after"], 0, crowded["refused_without_retry_after"] == 0),
        "p95 TTFT 5 s after over that at 1x": (recovery, 1.5 * slack, recovery <= 1.5 * slack),
        "share refused 5 s after": (refused_later, 0.02 * slack, refused_later <= 0.02 * slack),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name in the store or a file")
    parser.add_argument("--binary", default=ROOT / "build" / "release" / "neutrino")
    parser.add_argument("--admitted", type=int, default=1000, help="requests that 10x lets in, about")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on every bar")
    parser.add_argument("flags", nargs="*", help="of serve, after --")
    options = parser.parse_args()
    figures = measure(functools.partial(serving, options.binary, options.model, options.flags), options.admitted)
    verdicts = judge(figures, options.slack)
    print(json.dumps(figures))
    for bar, (value, limit, met) in verdicts.items():
        print(f"{'met   ' if met else 'MISSED'} {bar}: {value:.3g} (bar {limit:.3g})")
    print(f"{figures['crowded']['admitted']} were admitted at 10x; the generator took "
          f"{100 * figures['crowded']['client_cpu_share']:.1f} % of the CPU there")
    return 0 if all(met for *_, met in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
