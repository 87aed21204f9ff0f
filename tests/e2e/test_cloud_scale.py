"""Thousands of endpoints in one cloud: lists, changes and memory stay what they are with few."""
import concurrent.futures
import os
import pathlib
import re
import time

import cloud as clouds
import harness

LONG = bool(os.environ.get("NEUTRINO_TEST_LONG"))
ENDPOINTS = 10_000 if LONG else 600
PAGES = 300
# On a quiet machine 50 ms and 500 MiB; of the time three times as much is asserted: of nearly all in the long form, in the short one,
# beside whatever else a machine does, of most. (cloud_test asserts nearly all without processes in between.)
PAGE_MS, MEMORY_MIB = 3 * 50, 500


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def test_many_endpoints(tmp_path):
    cloud = clouds.Cloud(tmp_path)
    try:
        cloud.sign_in()
        sleeper = {"name": "main", "command": clouds.stub_command(), "memory_bytes": 64 << 20, "ready_path": "/health"}

        def make(number):
            cloud.api("POST", "/endpoints", {"name": f"e{number:05}", "scaling": {"replicas_min": 0, "replicas_max": 1},
                                             "deployments": [sleeper]}, expect=201)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(ENDPOINTS)))
        key, _ = cloud.make_key("k")

        page_ms, after, seen = [], "", 0
        for _ in range(PAGES):
            begin = time.monotonic()
            page = cloud.api("GET", f"/endpoints?limit=100&after={after}", expect=200).json()
            page_ms.append((time.monotonic() - begin) * 1000)
            seen, after = seen + len(page["items"]), page["next"]
        page_ms.sort()
        assert seen >= min(ENDPOINTS, PAGES * 100)

        begin = time.monotonic()
        assert cloud.chat(key, "e00000", max_tokens=3).status == 200  # from zero, among all the others
        woken_s = time.monotonic() - begin
        begin = time.monotonic()
        cloud.api("PATCH", "/endpoints/e00001", {"aliases": ["another-name"]}, expect=200)
        harness.wait_for(lambda: "another-name" in cloud.request(cloud.inference, "GET", "/v1/models", token=key).body.decode(), 30,
                         "the gateway knows the new name")
        known_s = time.monotonic() - begin
        memory = {name: resident_mib(cloud.child(name)) for name in ("control-plane", "gateway")}
        p99 = page_ms[len(page_ms) * 99 // 100]
        print(f"{ENDPOINTS} endpoints: page of 100 p50 {page_ms[PAGES // 2]:.1f} ms, p99 {p99:.1f} ms; from zero {woken_s:.2f} s; "
              f"a new name at the gateway after {known_s:.2f} s; resident {memory}")
        assert (p99 if LONG else page_ms[PAGES * 9 // 10]) <= PAGE_MS
        assert max(memory.values()) <= MEMORY_MIB
        assert woken_s <= 3 * 2 and known_s <= 3 * 2

        killed = cloud.kill("control-plane")
        cloud.wait_back("control-plane", killed)
        harness.wait_for(lambda: cloud.request(cloud.api_url, "GET", "/health", timeout_s=20).status == 200, 20, "the API answers")
        assert cloud.chat(key, "e00000", max_tokens=3).status == 200
        cloud.api("PATCH", "/endpoints/e00000", {"paused": True}, expect=200)
        harness.wait_for(lambda: not clouds.keepers_of(cloud.home / "cloud" / "replicas"), 60, "the replica has ended")
    finally:
        assert cloud.stop() == 0
