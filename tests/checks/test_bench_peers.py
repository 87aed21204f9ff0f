"""The rules by which `./dev bench peers` judges, and the reading of the peers' output. No peer is needed."""
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
from peers import judge, llama_cpp, ours, processes, report, works


def canary(fma=200.0, read=40.0, size=1000):
    return {"fma_gflops": fma, "read_gb_per_s": read, "bytes": size}


def pair(ours=2.0, peer=1.0, canaries=None, others=0.0, **more):
    return {"work": "w", "samples": {"neutrino": {"rate": ours}, "llama.cpp": {"rate": peer}}, "others": others,
            "canaries": canaries or [canary(), canary(), canary()], **more}


# ---- calibration

SCORES = {("off", 2): 10, ("on", 2): 30, ("on", 1): 20, ("off", 1): 99}
STAGES = [[{"fa": "off"}, {"fa": "on"}], [{"t": 2}, {"t": 1}]]


def score(setting):
    return SCORES[setting["fa"], setting.get("t", 2)]


def test_calibration_takes_the_best_setting_of_each_stage():
    best, tried = judge.calibrate(STAGES, score)
    assert best["fa"] == "on" and best.get("t", 2) == 2
    assert ({"fa": "on", "t": 1}, 20) in tried
    assert {"fa": "off", "t": 1} not in [setting for setting, _ in tried]  # the stage before had settled it


def test_calibration_knows_when_less_is_better():
    assert judge.calibrate(STAGES[:1], score, lower=True)[0] == {"fa": "off"}


def test_calibration_goes_round_settings_that_fail():
    best, tried = judge.calibrate(STAGES[:1], lambda setting: None if setting["fa"] == "on" else 1)
    assert best == {"fa": "off"} and len(tried) == 2
    assert judge.calibrate([], score) == ({}, [])
    assert judge.calibrate(STAGES[:1], lambda setting: None)[0] == {}


def test_a_choice_is_doubtful_when_another_setting_had_done_better_than_the_rounds():
    tried = [({"fa": "off"}, 100), ({"fa": "on"}, 110), ({"fa": "x"}, None)]
    assert judge.is_doubtful(tried, {"fa": "on"}, median=80)
    assert not judge.is_doubtful(tried, {"fa": "on"}, median=86)
    assert judge.is_doubtful(tried, {"fa": "on"}, median=120, lower=True)
    assert not judge.is_doubtful(tried[1:], {"fa": "on"}, median=1)


# ---- rounds that do not count

@pytest.mark.parametrize("odd, why", [
    (pair(canaries=[canary(), canary(fma=160), canary()]), "fma_gflops 160.0"),
    (pair(canaries=[canary(), canary(), canary(read=33)]), "read_gb_per_s 33.0"),
    (pair(others=0.11), "other processes had 11%"),
])
def test_a_round_in_which_the_machine_dips_is_dropped(odd, why):
    pairs = [pair() for _ in range(5)] + [odd]
    assert judge.mark_dropped(pairs)
    assert [p["dropped"] is not None for p in pairs] == [False] * 5 + [True]
    assert why in odd["dropped"]


def test_small_dips_and_small_neighbours_are_borne():
    pairs = [pair(canaries=[canary(), canary(fma=180, read=35), canary()], others=0.09) for _ in range(3)] + [pair()] * 3
    assert judge.mark_dropped(pairs) and not any(p["dropped"] for p in pairs)


def test_the_reference_is_of_the_same_working_set():
    pairs = [pair(canaries=[canary(read=40, size=1000)] * 3), pair(canaries=[canary(read=20, size=9000)] * 3)]
    assert judge.mark_dropped(pairs)
    assert judge.references(pairs)[("read_gb_per_s", 9000)] == 20


def test_a_machine_that_is_busy_half_of_the_time_is_unsteady():
    pairs = [pair(), pair(canaries=[canary(fma=100)] * 3)] * 3
    pairs = [json.loads(json.dumps(p)) for p in pairs]
    assert not judge.mark_dropped(pairs)
    assert sum(p["dropped"] is not None for p in pairs) == 3


def test_a_third_may_be_dropped_but_no_more():
    def run_with(dropped):
        return judge.is_steady([{"dropped": "x"}] * dropped + [{"dropped": None}] * (6 - dropped))
    assert run_with(2) and not run_with(3)


# ---- figures and verdicts

def test_a_row_is_the_medians_of_the_rounds_that_count():
    pairs = [pair(10, 5), pair(12, 4), pair(14, 7), pair(1000, 1, others=0.9)]
    judge.mark_dropped(pairs)
    row = judge.summarise("rate", pairs, limit=24)
    assert (row["kept"], row["rounds"], row["neutrino"], row["share"]) == (3, 4, 12, 0.5)
    assert row["neutrino_spread"] == [10, 14]
    assert row["peers"]["llama.cpp"]["ratio"] == 12 / 5 and row["peers"]["llama.cpp"]["ratio_spread"] == [2, 3]


def test_where_no_round_counts_there_are_figures_but_no_verdict():
    pairs = [pair(8, 2, others=0.5), pair(10, 2, others=0.5)]
    steady = judge.mark_dropped(pairs)
    row = judge.summarise("rate", pairs)
    assert (row["kept"], row["neutrino"], steady) == (0, 9, False)
    assert judge.verdict(judge.Demand(ratio_min=1), row, "llama.cpp", steady) == "unsteady"


def test_a_failed_round_is_no_sample():
    pairs = [pair(error="llama.cpp: ended with 1"), pair(3, 1)]
    judge.mark_dropped(pairs)
    row = judge.summarise("rate", pairs)
    assert row["kept"] == 1 and row["neutrino"] == 3 and row["errors"] == ["llama.cpp: ended with 1"]


DEMAND = judge.Demand(ratio_min=1.5, share_min=0.68)
EITHER = judge.Demand(ratio_min=2.2, share_min=0.75, either=True)


@pytest.mark.parametrize("demand, value, ratio, share, verdict", [
    (DEMAND, 1, 1.5, 0.68, "met"), (DEMAND, 1, 1.49, 0.9, "not met"), (DEMAND, 1, 9, 0.6, "not met"), (DEMAND, 1, None, 0.9, "not measured"),
    (EITHER, 1, 2.2, 0.1, "met"), (EITHER, 1, 1, 0.75, "met"), (EITHER, 1, 1, 0.7, "not met"), (EITHER, 1, 3, None, "met"),
    (judge.Demand(ratio_max=0.25), 1, 0.25, None, "met"), (judge.Demand(ratio_max=0.25), 1, 0.26, None, "not met"),
    (judge.Demand(value_max=60), 60, None, None, "met"), (judge.Demand(value_max=60), 61, 0.1, None, "not met"),
    (judge.Demand(value_min=0.9), 0.89, None, None, "not met"),
])
def test_a_demand_is_met_or_not(demand, value, ratio, share, verdict):
    assert demand.verdict(value, ratio, share) == verdict


def test_an_unsteady_run_or_row_gives_no_verdict():
    pairs = [pair(9, 1)] * 3
    judge.mark_dropped(pairs)
    row = judge.summarise("rate", pairs)
    demand = judge.Demand(ratio_min=2)
    assert judge.verdict(demand, row, "llama.cpp", True) == "met"
    assert judge.verdict(demand, row, "llama.cpp", False) == "unsteady"
    assert judge.verdict(demand, row | {"steady": False}, "llama.cpp", True) == "unsteady"
    assert judge.verdict(demand, row | {"doubtful": True}, "llama.cpp", True).startswith("doubtful")
    assert judge.verdict(demand, row, "another", True) == "not measured"
    assert judge.verdict(demand, row | {"errors": ["x"], "kept": 0}, "llama.cpp", True) == "failed"
    assert judge.verdict(None, row, "llama.cpp", True) == ""


def test_demands_say_what_they_ask_for():
    assert DEMAND.text() == "≥ 1.5×, ≥ 68 %" and EITHER.text() == "≥ 2.2× or ≥ 75 %"
    assert judge.Demand(ratio_max=0.25).text() == "≤ 0.25×" and judge.Demand(value_max=60).text() == "≤ 60"


# ---- rows, columns, parsing

def test_rows_are_chosen_by_the_start_of_their_name():
    assert [work.key for work in works.select(["decode"])] == ["decode-128", "decode-512", "decode-2048"]
    assert works.select([]) == list(works.WORKS) and len({work.key for work in works.WORKS}) == len(works.WORKS)
    with pytest.raises(ValueError, match="no row starts with 'decoed'"):
        works.select(["decoed"])


def test_a_column_follows_the_kernels():
    assert report.column("native", ["avx2", "avx512f", "amx_int8"]) == "amx"
    assert report.column("native", ["avx2", "avx512f"]) == "avx512"
    assert report.column("native", ["avx2"]) == "avx2" == report.column("avx2", ["amx_int8"])
    decode, start = works.WORKS[0].metrics[0], next(work for work in works.WORKS if work.key == "start").metrics[0]
    assert decode.demand("amx").ratio_min == 1.5 and decode.demand("avx2").either and decode.demand("avx512") is None
    assert start.demand("avx512").value_max == 300


def test_every_engine_knows_what_to_do_with_every_kind():
    for work in works.WORKS:
        assert hasattr(ours.Neutrino, f"sample_{work.kind}")
        if work.kind in llama_cpp.LlamaCpp.KINDS:  # each stage has the default in it, which is not measured twice
            assert hasattr(llama_cpp.LlamaCpp, f"sample_{work.kind}")
            assert llama_cpp.LlamaCpp("/nowhere", 2).stages(work)


@pytest.mark.parametrize("text", [
    '\nnoise\n{"pp": 128, "speed_pp": 1.0, "speed_tg": 42.5}\n\n',
    "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n"
    "|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n"
    "|   128 |     64 |    8 |   1536 |    1.000 |  1024.00 |    2.000 |    42.50 |    3.000 |   512.00 |\n\n",
])
def test_the_rate_of_batched_decode_is_read_from_both_forms(text):
    assert llama_cpp.batched_rate(text) == 42.5
    with pytest.raises(RuntimeError):
        llama_cpp.batched_rate("no result")


def test_the_rate_of_llama_bench_is_that_of_its_last_test():
    assert llama_cpp.bench_rate('[{"n_prompt": 512, "avg_ts": 1}, {"n_gen": 64, "avg_ts": 33.5}]') == 33.5


def test_commands_in_the_history_name_no_folder():
    command = processes.shown(["/home/someone/bin/llama-bench", "-m", "/data/model.gguf", "-t", 2], {"LD_LIBRARY_PATH": "/x", "A": "b"})
    assert command == "A=b llama-bench -m model.gguf -t 2"


def test_the_cpu_time_of_this_process_is_not_that_of_others():
    clock = processes.OthersClock()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert 0 <= clock.share() <= 1.05
    assert clock.own > 0 and processes.own_seconds() > clock.own


def test_history_is_short_numbers():
    assert report.rounded({"a": [1.23456789, 2], "b": 123456.789}) == {"a": [1.2346, 2], "b": 123460.0}


def test_a_table_line_shows_demand_ratio_share_and_verdict():
    pairs = [pair(10, 5), pair(12, 4), pair(14, 7)]
    judge.mark_dropped(pairs)
    row = judge.summarise("rate", pairs, limit=24) | {"title": "decode", "demand": "≥ 2×", "verdict": "met"}
    text = report.line(row)
    for part in ("decode", "≥ 2×", "12.0", "2.40×", "2.00–3.00", "50%", "3/3", "met"):
        assert part in text
