"""The table that a run prints, and its line of bench/history.jsonl."""
import datetime
import os
import pathlib
import platform
import subprocess

from . import judge, llama_cpp, works
from .processes import ROOT


def cpu_facts():
    facts = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return facts


def column(isa, flags):
    """Which column of demands a run belongs to."""
    if isa == "avx2":
        return "avx2"
    if "amx_int8" in flags:
        return "amx"
    return "avx512" if "avx512f" in flags else "avx2"


def commit():
    describe = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True,
                              check=False)
    return describe.stdout.strip() or "unknown"


def main_peer(work):
    return "sentence-transformers" if work.kind == "embeddings" else llama_cpp.LlamaCpp.name


def table(run):
    """[{work, metric, demand, verdict, ...}] in the order of the rows. `run`: what __main__.Run gathered."""
    rows = []
    for work in run.works:
        pairs = [pair for pair in run.pairs if pair["work"] == work.key]
        for metric in work.metrics:
            demand = metric.demand(run.column)
            row = {"work": work.key, "metric": metric.key, "title": metric.title, "unit": metric.unit,
                   "demand": demand.text() if demand else ""}
            if work.key in run.skipped or not pairs:
                rows.append(row | {"verdict": f"skipped: {run.skipped.get(work.key, 'no round was measured')}"})
                continue
            row |= judge.summarise(metric.key, pairs, run.limit(work) if metric.limited else None)
            row["setting"] = {peer: best for peer, best in run.settings.get(work.key, {}).items() if best}
            row["doubtful"] = is_doubtful(run, work, metric, row)
            row["verdict"] = judge.verdict(demand, row, main_peer(work), run.steady)
            rows.append(row)
    return rows


def is_doubtful(run, work, metric, row):
    """Calibration against the rounds, where both measure the same."""
    peer = main_peer(work)
    if metric is not work.metrics[0] or work.kind in works.LIGHTER or peer not in row["peers"]:
        return False
    return judge.is_doubtful(run.calibration[work.key][peer], run.settings[work.key][peer], row["peers"][peer]["median"], metric.lower)


def number(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def span(low_and_high):
    return "–".join(number(value) for value in low_and_high)


def line(row):
    head = f"{row['title']:<49}{row['demand']:<19}"
    if row.get("neutrino") is None:
        errors = sorted(set(row.get("errors", [])))
        return head + (row["verdict"] if "rounds" not in row else "; ".join(errors) or row["verdict"])
    text = head + f"{number(row['neutrino']):>8}  {span(row['neutrino_spread']):<14}"
    peers = list(row["peers"].items()) or [(None, None)]
    for index, (name, peer) in enumerate(peers):
        if index > 0:
            text += f"\n{'':<49}{name:<19}{'':>8}  {'':<14}"
        text += (f"{number(peer['median']):>8} {span(peer['spread']):<14}{peer['ratio']:>6.2f}× {span(peer['ratio_spread']):<12}"
                 if peer else f"{'':>8} {'':<14}{'':>7} {'':<12}")
        if index == 0:
            share = f"{row['share']:.0%}" if row["share"] is not None else ""
            text += f"{share:>6}  {row['kept']}/{row['rounds']}  {row['verdict']}"
    return text


def show(run, rows):
    entry = run.facts
    print(f"\n{entry['cpu']}, {entry['threads']} threads, {entry['backend']} beside {entry['peer']}\n"
          f"commit {entry['commit']}, load {entry['load_1m']}, {run.rounds} rounds in {run.seconds / 60:.0f} minutes, medians (spread); "
          f"demands of the column '{run.column}'\n")
    print(f"{'':<49}{'demand':<19}{'neutrino':>8}  {'':<14}{'peer':>8} {'':<14}{'ratio':>7} {'':<12}{'limit':>6}  kept")
    for row in rows:
        print(line(row))
    dropped = sum(pair["dropped"] is not None for pair in run.pairs)
    print(f"\n{len(run.pairs) - dropped} of {len(run.pairs)} rounds kept"
          + ("" if run.steady else ": unsteady, so there is no verdict. Run it on a quiet machine."))


def facts(options, backend, isa_column):
    cpu = cpu_facts()
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "bench": "peers",
        "commit": commit(), "cpu": cpu.get("model name") or platform.processor(), "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2), "isa": options.isa, "column": isa_column, "backend": backend,
        "threads": options.threads, "model": options.model.name, "quick": options.quick,
        "peer": f"llama.cpp {llama_cpp.COMMIT} of {llama_cpp.PACKAGE} {llama_cpp.VERSION}, clang, {options.isa}",
    }


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def history_line(run, rows):
    kept = ("work", "metric", "demand", "verdict", "kept", "rounds", "neutrino", "neutrino_spread", "share", "peers")
    calibration = {work: {peer: [{"setting": setting, "score": score} for setting, score in tried]
                          for peer, tried in peers.items()} for work, peers in run.calibration.items()}
    return rounded(run.facts | {
        "rounds": run.rounds, "steady": run.steady, "seconds": run.seconds, "demand_rules": {
            "dip": judge.DIP, "others_max": judge.OTHERS_MAX, "dropped_max": judge.DROPPED_MAX, "decode_steps": works.DECODE_STEPS},
        "rows": [{key: row[key] for key in kept if key in row} for row in rows], "settings": run.settings,
        "calibration": calibration, "pairs": run.pairs, "skipped": run.skipped,
        "commands": {name: engine.commands for name, engine in run.engines.items()}})
