"""Whoever of the cloud dies: streams go on, replicas live, and who died comes back and finds everything."""
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

import cloud as clouds
import harness

LONG = bool(os.environ.get("NEUTRINO_TEST_LONG"))
PLANE_KILLS = 50 if LONG else 5
GATEWAY_KILLS = 20 if LONG else 3
RATE = 50 if LONG else 25
TOKENS = 20
BACK_S = 3 * 1  # on a quiet machine within one second


def processes(cloud):
    """The replicas that run, by what their keepers know: pid and start time of each keeper."""
    folder = cloud.home / "cloud" / "replicas"
    return sorted(clouds.keepers_of(folder))


@pytest.fixture
def busy(cloud):
    cloud.make_stubs("busy", replicas=2, flags=["--token-ms", "20"])
    key, key_id = cloud.make_key("load")
    cloud.wait_ready("busy", 2)
    load = clouds.Load(cloud.inference, key, "busy", RATE, TOKENS)
    time.sleep(1)
    yield load
    load.stop()
    cloud.api("DELETE", "/endpoints/busy", expect=204)
    cloud.api("DELETE", f"/keys/{key_id}", expect=204)


def test_the_control_plane_dies_again_and_again(cloud, busy):
    before = processes(cloud)
    chance = random.Random(7)
    slowest = 0
    for _ in range(PLANE_KILLS):
        time.sleep(chance.uniform(0.05, 1.0))
        killed = cloud.kill("control-plane")
        begin = time.monotonic()
        cloud.wait_back("control-plane", killed)
        harness.wait_for(lambda: cloud.request(cloud.api_url, "GET", "/health", timeout_s=20).status == 200, 20, "the API answers")
        slowest = max(slowest, time.monotonic() - begin)
    cloud.wait_ready("busy", 2)
    busy.stop()
    print(f"{PLANE_KILLS} kills of the control plane: {busy.good} streams, {len(busy.bad)} harmed; back after {slowest:.2f} s at most")
    assert not busy.bad, busy.bad[:5]
    assert processes(cloud) == before
    assert slowest <= BACK_S


def test_the_gateway_dies(cloud, busy):
    before = processes(cloud)
    slowest = 0
    for _ in range(GATEWAY_KILLS):
        time.sleep(0.7)
        killed = cloud.kill("gateway")
        begin = time.monotonic()
        harness.wait_for(lambda: cloud.request(cloud.inference, "GET", "/health", timeout_s=20).status == 200, 20, "the gateway answers")
        slowest = max(slowest, time.monotonic() - begin)
        assert cloud.child("gateway") != killed
    time.sleep(1)
    harmed = len(busy.bad)
    begin = time.monotonic()
    time.sleep(1)
    busy.stop()
    print(f"{GATEWAY_KILLS} kills of the gateway: {busy.good} streams good, {len(busy.bad)} cut; back after {slowest:.2f} s at most")
    # Only what was open at a kill is cut, and what comes meanwhile waits in the kernel's queue.
    assert harmed <= GATEWAY_KILLS * RATE * TOKENS * 0.02 * 2
    assert not [when for when, _ in busy.bad if when > begin]
    assert processes(cloud) == before
    assert slowest <= BACK_S


def test_the_gateway_does_without_the_control_plane(cloud, busy):
    """Stopped, not killed: so it stays away. A gateway that is started meanwhile has the last table from its disk."""
    plane = cloud.child("control-plane")
    os.kill(plane, signal.SIGSTOP)
    try:
        killed = cloud.kill("gateway")
        cloud.wait_back("gateway", killed)
        busy.stop()
        key_file = cloud.home / "cloud" / "gateway" / "routes.json"
        assert key_file.stat().st_mode & 0o077 == 0
        load = clouds.Load(cloud.inference, busy.message.split(b"Bearer ")[1].split(b"\r\n")[0].decode(), "busy", 10, TOKENS)
        time.sleep(1)
        load.stop()
        assert load.good >= 5 and not load.bad, load.bad[:3]
    finally:
        os.kill(plane, signal.SIGCONT)


def test_the_supervisor_dies(tmp_path):
    first = clouds.Cloud(tmp_path)
    first.sign_in()
    first.make_stubs("left", replicas=2, flags=["--token-ms", "5"])
    key, _ = first.make_key("k")
    first.wait_ready("left", 2)
    before = processes(first)
    first.process.kill()
    first.process.wait()
    second = clouds.Cloud(tmp_path, ports=first.ports)
    second.token = first.token
    try:
        second.wait_ready("left", 2)
        assert processes(second) == before
        assert second.chat(key, "left", max_tokens=3).status == 200
        second.end_replicas()
    finally:
        assert second.stop() == 0


def test_the_machine_starts_again_with_neutrino_in_another_folder(tmp_path, model_path):
    """Replicas that are down run the binary that is there now, and not the path of the one that made them."""
    old, new, home = (tmp_path / name for name in ("old", "new", "home"))
    for folder in (old, new, home):
        folder.mkdir()
    shutil.copy(harness.RELEASE, old / "neutrino")
    first = clouds.Cloud(home, binary=old / "neutrino")
    first.sign_in()
    subprocess.run([harness.RELEASE, "model", "import", model_path, "--name", "smol"], check=True, env=first.environment(), capture_output=True)
    deployment = {"name": "main", "model": "smol", "arguments": ["--context", "2048"], "replicas": 1}
    first.api("POST", "/endpoints", {"name": "smol", "deployments": [deployment]}, expect=201)
    key, _ = first.make_key("k")
    first.wait_ready("smol", 1)
    assert first.stop() == 0
    for keeper in clouds.keepers_of(home):
        os.kill(keeper, signal.SIGKILL)
    (old / "neutrino").rename(new / "neutrino")
    second = clouds.Cloud(home, ports=first.ports, binary=new / "neutrino")
    second.token = first.token
    try:
        second.wait_ready("smol", 1)
        assert second.chat(key, "smol", max_tokens=3).status == 200
        running = clouds.children_of(clouds.keepers_of(home)[0])
        assert [clouds.command_line(pid)[:2] for pid in running] == [[str(new / "neutrino"), "serve"]]
        second.end_replicas()
    finally:
        assert second.stop() == 0


def test_sigterm_drains_and_replicas_stay(tmp_path):
    first = clouds.Cloud(tmp_path)
    first.sign_in()
    first.make_stubs("left", replicas=1, flags=["--token-ms", "50"])
    key, _ = first.make_key("k")
    first.wait_ready("left", 1)
    load = clouds.Load(first.inference, key, "left", 20, TOKENS)
    time.sleep(1.5)
    load.stopping = True
    time.sleep(0.1)
    assert first.stop() == 0
    load.stop()
    assert load.good > 10 and not load.bad, load.bad[:3]
    second = clouds.Cloud(tmp_path, ports=first.ports)
    second.token = first.token
    second.wait_ready("left", 1)
    second.end_replicas()
    assert second.stop() == 0
