"""./dev up and ./dev down, in a home of their own."""
import json
import os
import re
import socket
import stat
import subprocess
import urllib.request

import pytest

from harness import ROOT


@pytest.fixture
def dev(tmp_path, model_path):
    """./dev with a fresh NEUTRINO_HOME whose download cache already holds the model."""
    home = tmp_path / "home"
    cache = home / "cache" / "models"
    cache.mkdir(parents=True)
    (cache / model_path.name).symlink_to(model_path.resolve())

    def run(*arguments, timeout_s=300):
        return subprocess.run([ROOT / "dev", *arguments], env=os.environ | {"NEUTRINO_HOME": str(home)}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout_s, check=False)

    run.home = home
    yield run
    run("down")


def test_up_answers_and_down_stops(dev):
    result = dev("up", "--detach", "--port", "0")
    assert result.returncode == 0, result.stderr
    url = re.search(r"URL\s+(http://127\.0\.0\.1:\d+)/v1", result.stdout).group(1)
    key_file = dev.home / "api-key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600 and key_file.read_text().strip() in result.stdout
    command = result.stdout[result.stdout.index("curl "):].split("\n\n")[0]
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"], answer.stderr

    again = dev("up", "--detach", "--port", "0")
    assert again.returncode != 0 and "already up" in again.stderr
    assert dev("down").returncode == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(url + "/v1/health/live", timeout=2)
    assert "not up" in dev("down").stdout


def test_the_key_is_made_once(dev):
    assert dev("up", "--detach", "--port", "0").returncode == 0
    key = (dev.home / "api-key").read_text()
    dev("down")
    assert dev("up", "--detach", "--port", "0").returncode == 0
    assert (dev.home / "api-key").read_text() == key


def test_a_busy_port_is_an_error_that_names_it(dev):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = dev("up", "--detach", "--port", port)
    assert result.returncode != 0 and port in result.stderr


def test_down_leaves_strangers_alone(dev):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (dev.home / "run").mkdir(parents=True)
        (dev.home / "run" / "neutrino.pid").write_text(f"{stranger.pid} 12345\n")
        assert dev("down").returncode == 0 and stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_unknown_verb_is_an_error(dev):
    result = dev("frobnicate")
    assert result.returncode == 1 and "frobnicate" in result.stderr
