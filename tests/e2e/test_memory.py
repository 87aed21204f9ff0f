"""Memory: what `model show` foretells is what a full server takes, with and without windows; requests leave nothing behind."""
import concurrent.futures
import json
import os
import struct
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


def with_windows(model):
    """The GGUF file with a window of 64 tokens in every second layer: keys put before the others, in a multiple of its alignment."""
    def entry(key, kind, value):
        return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value
    keys = [entry(b"llama.attention.sliding_window", 4, struct.pack("<I", 64)),
            entry(b"llama.attention.sliding_window_pattern", 4, struct.pack("<I", 2))]
    padding = -(sum(map(len, keys)) + len(entry(b"test.padding", 8, bytes(8)))) % 32
    keys.append(entry(b"test.padding", 8, struct.pack("<Q", padding) + b"x" * padding))
    magic, tensors, entries = model[:8], *struct.unpack("<QQ", model[8:24])
    return magic + struct.pack("<QQ", tensors, entries + len(keys)) + b"".join(keys) + model[24:]


@pytest.fixture(scope="module", params=["whole", "windows"])
def own_model(request, model_path, own_home):
    if request.param == "whole":
        return model_path
    path = own_home / "windows.gguf"
    path.write_bytes(with_windows(model_path.read_bytes()))
    return path


@pytest.fixture(scope="module")
def foretold(own_model, own_home):
    settings = os.environ | {"NEUTRINO_HOME": str(own_home)}
    run = lambda *words: subprocess.run([harness.RELEASE, *words], env=settings, check=True, capture_output=True, text=True)
    name = own_model.stem.lower()
    run("model", "import", str(own_model), "--name", name)
    shown = run("model", "show", name, "--context", str(CONTEXT), "--batch", str(SEQUENCES), "--json").stdout
    return json.loads(shown)["details"]["memory"] | {"name": name}


def full_requests(server, rounds):
    """Every sequence fills its context, all of them side by side."""
    def one(index):
        prompt = [(index * 7919 + i * 31) % 40_000 for i in range(CONTEXT - 100)]
        response = server.complete(prompt, max_tokens=100, ignore_eos=True)
        assert response.status == 200, response.body
        assert response.json()["usage"]["completion_tokens"] == 100
    with concurrent.futures.ThreadPoolExecutor(SEQUENCES) as clients:
        list(clients.map(one, range(SEQUENCES * rounds)))


def test_a_full_server_takes_what_was_foretold(start, own_model, own_home, foretold):
    flags = ["--context", CONTEXT, "--max-sequences", SEQUENCES, "--kv-memory", foretold["kv_bytes"]]
    server = start(foretold["name"], *flags, environment={"NEUTRINO_HOME": str(own_home)})
    loaded = memory_of(server)
    file_bytes = own_model.stat().st_size
    assert loaded["VmRSS"] <= file_bytes + foretold["kv_bytes"] + 64 * MIB
    full_requests(server, 3)
    full = memory_of(server)
    assert full["VmRSS"] <= foretold["total_bytes"], (full, foretold)
    assert full["VmHWM"] <= foretold["total_bytes"] + file_bytes, "pages of the file may be mapped beside the weights once"
    assert full["VmRSS"] >= foretold["weights_bytes"] + foretold["kv_bytes"], "or the figures are about something else"
    if "window" in foretold:
        assert foretold["window"] == 64
        assert foretold["window_bytes"] < foretold["kv_bytes"] / 2
        assert server.metric("neutrino_kv_window_blocks") < server.metric("neutrino_kv_blocks")


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
