"""Changes under load: no stream is lost or cut while replicas come and go."""
import os
import time

import pytest

import cloud as clouds
import harness

LONG = bool(os.environ.get("NEUTRINO_TEST_LONG"))
RATE = 50 if LONG else 25  # streams a second
TOKENS = 20
STUB_FLAGS = ["--token-ms", "20", "--startup-ms", "200"]
SETTLE_S = 2 if LONG else 1  # of load before and after a change


@pytest.fixture
def served(cloud):
    """An endpoint of two stub replicas under load; after the test the load must have had no error."""
    cloud.make_stubs("busy", replicas=2, flags=STUB_FLAGS)
    key, key_id = cloud.make_key("load")
    cloud.wait_ready("busy", 2)
    load = clouds.Load(cloud.inference, key, "busy", RATE, TOKENS)
    time.sleep(SETTLE_S)
    try:
        yield load
        time.sleep(SETTLE_S)
    finally:
        load.stop()
        cloud.api("DELETE", "/endpoints/busy", expect=204)
        cloud.api("DELETE", f"/keys/{key_id}", expect=204)
    print(f"{load.good} streams, {len(load.bad)} with errors")
    assert not load.bad, load.bad[:5]
    assert load.good > RATE * SETTLE_S


def change(cloud, **fields):
    deployment = cloud.endpoint("busy")["deployments"][0]
    del deployment["revision"]
    cloud.api("PATCH", "/endpoints/busy", {"deployments": [deployment | fields]}, expect=200)


def all_of_revision(cloud, revision, count):
    replicas = cloud.replicas(endpoint=cloud.endpoint("busy")["id"])
    return [r["revision"] for r in replicas if r["state"] == "ready" and r["goal"] == "run"] == [revision] * count and all(
        r["revision"] == revision or r["state"] == "stopping" for r in replicas)


@pytest.mark.parametrize("policy", [{"surge_max": 1, "unavailable_max": 0}, {"surge_max": 0, "unavailable_max": 1}], ids=["surge", "no surge"])
def test_a_rolling_update(cloud, served, policy):
    change(cloud, rollout=policy, environment=[{"name": "VERSION", "value": "2"}])
    harness.wait_for(lambda: all_of_revision(cloud, 2, 2), 60, lambda: f"all have moved: {cloud.replicas()}")


def test_a_rollback(cloud, served):
    change(cloud, environment=[{"name": "VERSION", "value": "2"}])
    harness.wait_for(lambda: all_of_revision(cloud, 2, 2), 60, "all have moved")
    cloud.api("POST", "/endpoints/busy/rollback", {"deployment": "main"}, expect=200)
    harness.wait_for(lambda: all_of_revision(cloud, 1, 2), 60, "all have moved back")
    assert cloud.endpoint("busy")["deployments"][0]["environment"] == []


def test_scaling_in_and_out(cloud, served):
    change(cloud, replicas=1)
    cloud.wait_ready("busy", 1)
    change(cloud, replicas=3)
    cloud.wait_ready("busy", 3)


def test_a_canary_gets_more_and_more(cloud, served):
    main = {name: value for name, value in cloud.endpoint("busy")["deployments"][0].items()
            if name not in ("revision", "memory_predicted_bytes")}
    for weight in (10, 50, 100):
        canary = main | {"name": "canary", "replicas": 1, "weight": weight}
        cloud.api("PATCH", "/endpoints/busy", {"deployments": [main | {"weight": 100 - weight}, canary]}, expect=200)
        cloud.wait_ready("busy", 3)
        time.sleep(SETTLE_S)
    cloud.api("PATCH", "/endpoints/busy", {"deployments": [main | {"weight": 0, "replicas": 0}, canary]}, expect=200)
    harness.wait_for(lambda: {r["deployment"].rsplit("-", 1)[1] for r in cloud.replicas(endpoint=cloud.endpoint("busy")["id"])
                              if r["state"] == "ready"} == {"canary"}, 60, "the canary alone serves")


def test_a_revision_that_never_becomes_ready_changes_nothing(cloud, served):
    change(cloud, command=clouds.stub_command("--startup-ms", "600000"))
    time.sleep(3 * SETTLE_S)
    replicas = cloud.replicas(endpoint=cloud.endpoint("busy")["id"])
    assert [r["revision"] for r in replicas if r["state"] == "ready"] == [1, 1]
