"""Memory: what `model show` foretells is what a full server takes, and requests leave nothing behind."""
import concurrent.futures
import json
import os
import subprocess

import pytest

import harness

LONG = os.environ.get("NEUTRINO_TEST_LONG") == "1"
CONTEXT, SEQUENCES = 512, 4
MIB = 1 << 20


def memory_of(server):
    """{"VmRSS": bytes, ...} of the process."""
    lines = (line.split() for line in open(f"/proc/{server.process.pid}/status", encoding="utf-8"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1] == "kB"}


@pytest.fixture(scope="module")
def own_home(tmp_path_factory):
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def foretold(model_path, own_home):
    settings = os.environ | {"NEUTRINO_HOME": str(own_home)}
    run = lambda *words: subprocess.run([harness.RELEASE, *words], env=settings, check=True, capture_output=True, text=True)
    run("model", "import", str(model_path), "--name", "model")
    shown = run("model", "show", "model", "--context", str(CONTEXT), "--batch", str(SEQUENCES), "--json").stdout
    return json.loads(shown)["details"]["memory"]


def full_requests(server, rounds):
    """Every sequence fills its context, all of them side by side."""
    def one(index):
        prompt = [(index * 7919 + i * 31) % 40_000 for i in range(CONTEXT - 100)]
        response = server.complete(prompt, max_tokens=100, ignore_eos=True)
        assert response.status == 200, response.body
        assert response.json()["usage"]["completion_tokens"] == 100
    with concurrent.futures.ThreadPoolExecutor(SEQUENCES) as clients:
        list(clients.map(one, range(SEQUENCES * rounds)))


def test_a_full_server_takes_what_was_foretold(start, model_path, own_home, foretold):
    flags = ["--context", CONTEXT, "--max-sequences", SEQUENCES, "--kv-memory", foretold["kv_bytes"]]
    server = start("model", *flags, environment={"NEUTRINO_HOME": str(own_home)})
    loaded = memory_of(server)
    file_bytes = model_path.stat().st_size
    assert loaded["VmRSS"] <= file_bytes + foretold["kv_bytes"] + 64 * MIB
    full_requests(server, 3)
    full = memory_of(server)
    assert full["VmRSS"] <= foretold["total_bytes"], (full, foretold)
    assert full["VmHWM"] <= foretold["total_bytes"] + file_bytes, "pages of the file may be mapped beside the weights once"
    assert full["VmRSS"] >= foretold["weights_bytes"] + foretold["kv_bytes"], "or the figures are about something else"


def test_requests_leave_nothing_behind(start, model_path):
    server = start(model_path, "--context", CONTEXT, "--max-sequences", SEQUENCES, "--kv-memory", "24M")
    full_requests(server, 2)

    def one(index):
        response = server.complete(f"Request {index}: tell a story.", max_tokens=1 + index % 8, logprobs=index % 4)
        assert response.status == 200, response.body

    def run(first, count):
        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            list(clients.map(one, range(first, first + count)))
        return memory_of(server)["VmRSS"]

    before = run(0, 100)
    after = run(100, 2000 if LONG else 150)
    assert after <= before + 4 * MIB, f"{(after - before) / MIB:.1f} MiB more"
