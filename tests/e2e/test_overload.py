"""Ten times too many requests, in short: bench/overload.py with few requests and three times its bars, on a machine that also tests."""
import contextlib
import os
import sys
import time

import pytest

from harness import KEY, ROOT, TINY, wait_for

sys.path.insert(0, str(ROOT / "bench"))
import overload  # noqa: E402

LONG = os.environ.get("NEUTRINO_TEST_LONG") == "1"


def figures(ratio=1.5, goodput=0.95, refusal=10.0, bare=0, recovery=1.0, refused=0):
    return {"peak_per_second": 100.0,
            "normal": {"first_token_ms_p95": 100.0},
            "crowded": {"first_token_ms_p95": 100.0 * ratio, "answered_per_second": 100.0 * goodput, "refusal_ms_p95": refusal,
                        "refused_without_retry_after": bare},
            "after": {"first_token_ms_p95": 100.0 * recovery, "refused": refused, "admitted": 100 - refused}}


@pytest.mark.parametrize("worse", [{}, {"ratio": 2.1}, {"goodput": 0.85}, {"refusal": 51.0}, {"bare": 1}, {"recovery": 1.6}, {"refused": 3}])
def test_the_judge_sees_each_bar_missed(worse):
    missed = [bar for bar, (_, _, met) in overload.judge(figures(**worse)).items() if not met]
    assert len(missed) == len(worse)


if LONG:  # it measures waits of tens of milliseconds: only on a machine that does nothing else

    def test_ten_times_the_load_leaves_the_admitted_alone(start, model_path):
        @contextlib.contextmanager
        def serve(wait):
            server = start(model_path, "--context", 512, "--served-model-name", "m", "--max-queue-wait", wait)
            yield server.port
            server.stop()

        measured = overload.measure(serve, 1000, clients=(16, 32), key=KEY)
        verdicts = overload.judge(measured, slack=3)
        assert measured["crowded"]["refused"] > 100 and measured["crowded"]["admitted"] >= 1000
        assert all(met for *_, met in verdicts.values()), (verdicts, measured)


# ---- deadlines ---------------------------------------------------------------------------------------------------------

def test_a_deadline_ends_a_generation(start):
    server = start(TINY)
    began = time.monotonic()
    answer = server.complete("abc", n=8, temperature=1, max_tokens=100, ignore_eos=True, timeout_ms=1)  # a quick machine may do 100 tokens in time
    assert answer.status == 504 and answer.error()["code"] == "deadline_exceeded"
    assert time.monotonic() - began < 5
    wait_for(lambda: server.kv_blocks()["referenced"] == 0, 5, "its blocks are free")
    patient = server.post("/v1/completions", {"model": server.model, "prompt": "abc", "max_tokens": 4}, headers={"X-Request-Timeout": "60"})
    assert patient.status == 200
