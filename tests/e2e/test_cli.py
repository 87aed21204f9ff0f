"""The terminal: every subcommand's help, one-shot answers, and the model store."""
import json
import os
import shutil
import socket
import subprocess

import pytest

from harness import RELEASE, TINY

COMMANDS = ["serve", "chat", "run", "model", "tokenize", "bench", "eval", "doctor"]


@pytest.fixture
def neutrino(tmp_path):
    def run(*arguments, stdin="", timeout_s=120):
        return subprocess.run([RELEASE, *map(str, arguments)], env=os.environ | {"NEUTRINO_HOME": str(tmp_path / "home")}, input=stdin,
                              capture_output=True, text=True, timeout=timeout_s, check=False)
    return run


def test_help_lists_the_commands(neutrino):
    result = neutrino("--help")
    assert result.returncode == 0 and all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(neutrino, command):
    result = neutrino(command, "--help")
    assert result.returncode == 0 and f"neutrino {command}" in result.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["serve", str(TINY), "--no-such-flag"], ["serve", str(TINY), "--port", "70000"]])
def test_bad_usage_is_exit_code_2(neutrino, arguments):
    result = neutrino(*arguments)
    assert result.returncode == 2 and result.stderr.strip()


def test_a_missing_model_is_named(neutrino):
    result = neutrino("run", "no-such-model", "hello")
    assert result.returncode == 1 and "no-such-model" in result.stderr


def test_run_answers(neutrino, model_path):
    result = neutrino("run", model_path, "What is the capital of France?", "--max-tokens", 24)
    assert result.returncode == 0 and "Paris" in result.stdout


def test_run_reads_stdin_and_prints_json(neutrino, model_path):
    result = neutrino("run", model_path, "--json", "--max-tokens", 5, stdin="Tell me a long story about a river.")
    answer = json.loads(result.stdout)
    assert answer["completion_tokens"] == 5 and answer["finish_reason"] == "length" and answer["text"]


def test_tokenize(neutrino, model_path):
    assert json.loads(neutrino("tokenize", model_path, "--json", "Hello world").stdout) == {"tokens": [19556, 905], "count": 2}


def test_bench_prints_json(neutrino):
    result = neutrino("bench", TINY, "--prefill", 16, "--context", 16, "--decode", 4, "--batch", 2, "--batch-prompt", 8,
                      "--batch-decode", 4, "--repetitions", 1, "--json")
    rows = json.loads(result.stdout)["rows"]
    assert [row["work"] for row in rows] == ["prefill", "decode", "batch"]
    assert all(row["median_tokens_per_second"] > 0 for row in rows)


def test_doctor(neutrino):
    result = neutrino("doctor")
    assert result.returncode == 0 and "avx2" in result.stdout.lower()


def test_the_life_of_a_model_in_the_store(neutrino):
    assert neutrino("model", "import", TINY, "--name", "tiny").returncode == 0
    assert "tiny" in neutrino("model", "list").stdout
    shown = neutrino("model", "show", "tiny")
    assert shown.returncode == 0 and "llama" in shown.stdout
    by_path = neutrino("model", "show", TINY)
    assert by_path.returncode == 0 and "memory" in by_path.stdout and str(TINY) in by_path.stdout
    assert neutrino("model", "verify", "tiny").returncode == 0
    assert neutrino("run", "tiny", "hello", "--max-tokens", 3).returncode == 0
    assert neutrino("model", "rm", "tiny").returncode == 0
    gone = neutrino("model", "show", "tiny")
    assert gone.returncode == 1 and "tiny" in gone.stderr


def test_a_damaged_model_does_not_verify(neutrino, tmp_path):
    assert neutrino("model", "import", TINY, "--name", "tiny").returncode == 0
    blob = max((path for path in (tmp_path / "home" / "models").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    with open(blob, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damage")
    result = neutrino("model", "verify", "tiny")
    assert result.returncode == 1 and "tiny" in result.stderr + result.stdout


def test_what_is_not_a_model_is_refused(neutrino, tmp_path):
    fake = tmp_path / "model.gguf"
    shutil.copy("/bin/true", fake)
    result = neutrino("model", "import", fake, "--name", "fake")
    assert result.returncode != 0 and result.stderr.strip()
    assert "fake" not in neutrino("model", "list").stdout


def test_a_busy_port_is_named(neutrino):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = neutrino("serve", TINY, "--port", port, "--api-key", "k")
    assert result.returncode != 0 and str(port) in result.stderr


def test_a_public_address_needs_a_key_and_consent(neutrino):
    for flags in ([], ["--api-key", "k"]):
        result = neutrino("serve", TINY, "--host", "0.0.0.0", "--port", "0", *flags, timeout_s=20)
        assert result.returncode != 0 and result.stderr.strip()
