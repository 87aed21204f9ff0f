"""`./dev bench peers`: neutrino beside llama.cpp, row by row, with each row's demand and whether it is met.

A peer's best setting of each row is found once. Then come the rounds: for each row one sample of every engine, in alternating
order, with a canary before, between and after. judge.py says which rounds count. One JSON line a run in bench/history.jsonl.
"""
import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

from . import judge, models, report, works
from .embeddings import SentenceTransformers
from .llama_cpp import IkLlama, LlamaCpp, build_peer
from .ours import Neutrino
from .processes import ROOT, OthersClock, canary

BUDGET_S = 25 * 60       # no further round begins that would end later, once three are done
CANARY_BYTES = 96 << 20  # where a row has no working set of its own


class Run:
    def __init__(self, options):
        self.options, self.started = options, time.monotonic()
        self.rounds = options.rounds or (3 if options.quick else 5)
        self.works = works.select(options.rows)
        self.pairs, self.calibration, self.settings, self.skipped = [], {}, {}, {}
        self.steady, self.seconds = True, 0.0
        self.engines = self.make_engines()
        self.model_facts = {}
        self.column = report.column(options.isa, report.cpu_facts().get("flags", "").split())
        self.facts = report.facts(options, self.facts_of("main")["backend"], self.column)

    def make_engines(self):
        options = self.options
        engines = {"neutrino": Neutrino(options.isa, options.threads),
                   "llama.cpp": LlamaCpp(build_peer(options.isa), options.threads)}
        if options.ik_llama:
            engines["ik_llama.cpp"] = IkLlama(options.ik_llama, options.threads)
        if any(work.kind == "embeddings" for work in self.works):
            self.add_embedding_peer(engines)
        return engines

    def add_embedding_peer(self, engines):
        folder, missing = models.find("minilm", self.options.model)
        if not self.options.embedding_python:
            missing = missing or "--embedding-python names a Python that has sentence-transformers"
        if missing:
            self.skipped["embeddings"] = missing
            return
        peer = SentenceTransformers(self.options.embedding_python, folder, self.options.threads)
        engines["sentence-transformers"], engines["neutrino"].sentences = peer, peer.sentences

    def facts_of(self, key):
        """weight_bytes and kv_bytes_per_position of a model file."""
        if key not in self.model_facts:
            self.model_facts[key] = self.engines["neutrino"].facts(models.find(key, self.options.model)[0])
        return self.model_facts[key]

    def bytes_per_token(self, work):
        """What a decode step of that work reads: the weights, and the keys and values of its mean context."""
        facts = self.facts_of(work.model)
        return facts["weight_bytes"] + facts["kv_bytes_per_position"] * (work.size + works.DECODE_STEPS // 2)

    def working_set(self, work):
        return self.bytes_per_token(work) if work.kind == "decode" else CANARY_BYTES

    def limit(self, work):
        """Tokens per second of decode if nothing but the reads took time, by the run's bandwidth of that working set."""
        bandwidth = judge.references(self.pairs).get(("read_gb_per_s", self.working_set(work)))
        return bandwidth and bandwidth * 1e9 / self.bytes_per_token(work)

    def rivals(self, work):
        return {name: engine for name, engine in self.engines.items() if name != "neutrino" and engine.lacks(work) is None}

    def prepare(self):
        """Skips what cannot be measured here, and finds each peer's best setting for the rest."""
        for work in self.works:
            path, missing = models.find(work.model, self.options.model)
            if missing:
                self.skipped.setdefault(work.key, missing)
            if work.key in self.skipped:
                continue
            self.settings[work.key], self.calibration[work.key] = {}, {}
            for name, engine in self.rivals(work).items():
                say(f"calibrating {name}: {work.key}")
                best, tried = judge.calibrate(engine.stages(work), lambda setting, engine=engine, work=work, path=path: self.score(
                    engine, work, path, setting), work.metrics[0].lower)
                self.settings[work.key][name], self.calibration[work.key][name] = best, tried

    def score(self, engine, work, path, setting):
        """The first metric of a light sample; the better of two where a sample is cheap."""
        repeats = 2 if work.kind in ("decode", "prefill") and work.size <= 512 and not self.options.quick else 1
        try:
            scores = [engine.sample(work, path, setting, light=True)[work.metrics[0].key] for _ in range(repeats)]
        except (RuntimeError, subprocess.SubprocessError) as error:
            say(f"  {setting}: {error}")
            return None
        return min(scores) if work.metrics[0].lower else max(scores)

    def measure(self):
        wanted, self.rounds, took = self.rounds, 0, 0.0
        for index in range(wanted):
            begin = time.monotonic()
            if index >= 3 and begin - self.started + took > BUDGET_S:
                say(f"{index} rounds of {wanted}: another one would end after {BUDGET_S // 60} minutes")
                break
            for work in self.works:
                if work.key in self.skipped:
                    continue
                say(f"round {index + 1} of {wanted}: {work.key}")
                self.pairs.append(self.pair(work, index))
            self.rounds, took = index + 1, time.monotonic() - begin
        self.steady = judge.mark_dropped(self.pairs)
        self.seconds = time.monotonic() - self.started

    def pair(self, work, index):
        """One sample of every engine that can do the work. Every other round goes backwards."""
        path, _ = models.find(work.model, self.options.model)
        names = ["neutrino", *self.rivals(work)]
        names = names[::-1] if index % 2 else names
        clock = OthersClock([engine.process.pid for engine in self.engines.values() if hasattr(engine, "process")])
        size = self.working_set(work)
        pair = {"work": work.key, "round": index, "order": names, "canaries": [canary(self.options.threads, size)], "samples": {}}
        for name in names:
            setting = self.settings[work.key].get(name, {})
            try:
                pair["samples"][name] = self.engines[name].sample(work, path, setting)
            except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                pair["error"] = f"{name}: {error}"
            pair["canaries"].append(canary(self.options.threads, size))
        pair["others"] = clock.share()
        return pair

    def stop(self):
        for engine in self.engines.values():
            if hasattr(engine, "stop"):
                engine.stop()


def say(text):
    print(text, file=sys.stderr, flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench peers", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--isa", choices=("native", "avx2"), default="native", help="kernels on both sides (default: this CPU's)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 5, and a shorter calibration")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=[], help="only rows whose name starts with one of these")
    parser.add_argument("--ik-llama", metavar="DIR", type=pathlib.Path, help="folder of ik_llama.cpp's built tools, as another peer")
    parser.add_argument("--embedding-python", metavar="PYTHON", help="a Python with sentence-transformers, for that row")
    parser.add_argument("--no-history", action="store_true", help="do not append to bench/history.jsonl")
    options = parser.parse_args()
    try:
        works.select(options.rows)
    except ValueError as error:
        parser.error(str(error))
    return options


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    run = Run(options)
    try:
        run.prepare()
        run.measure()
    finally:
        run.stop()
    rows = report.table(run)
    report.show(run, rows)
    if not options.no_history:
        with open(ROOT / "bench" / "history.jsonl", "a", encoding="utf-8") as history:
            history.write(json.dumps(report.history_line(run, rows), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
