"""Metering: what is billed is what replicas did, to the token, whoever dies; and a hard budget holds."""
import concurrent.futures
import json
import os
import time

import pytest

import cloud as clouds
import harness

LONG = bool(os.environ.get("NEUTRINO_TEST_LONG"))
KILLS = 20 if LONG else 2
RATE = 30
TOKENS = 20


@pytest.fixture
def stubs(cloud):
    """Two stub replicas that write down what they served, and a key."""
    cloud.make_stubs("metered", replicas=2, flags=["--token-ms", "20", "--log", "/dev/stdout"])
    key, key_id = cloud.make_key("metered")
    cloud.wait_ready("metered", 2)
    yield key, key_id
    cloud.api("DELETE", "/endpoints/metered", expect=204)
    cloud.api("DELETE", f"/keys/{key_id}", expect=204)


def served(cloud):
    """What the replicas' logs say that they did."""
    lines = []
    for replica in cloud.replicas(endpoint=cloud.endpoint("metered")["id"]):
        cursor, text = 0, ""
        while True:
            chunk = cloud.api("GET", f"/replicas/{replica['id']}/log?cursor={cursor}", expect=200).json()
            if chunk["next"] == cursor:
                break
            cursor, text = chunk["next"], text + chunk["text"]
        lines += [json.loads(line) for line in text.splitlines() if "usage_id" in line]
    return lines


def usage_rows(cloud, key_id):
    rows, after = [], ""
    while True:
        page = cloud.api("GET", f"/usage?key={key_id}&limit=1000&after={after}", expect=200).json()
        rows += page["items"]
        if not (after := page["next"]):
            return rows


def all_settled(cloud, key_id, count):
    rows = usage_rows(cloud, key_id)
    return len(rows) >= count and all(row["exact"] or row["settled"] for row in rows)


def test_usage_is_what_replicas_served_though_gateway_and_control_plane_die(cloud, stubs):
    key, key_id = stubs
    load = clouds.Load(cloud.inference, key, "metered", RATE, TOKENS)
    for kill in range(KILLS):
        for name in ("gateway", "control-plane"):
            time.sleep(0.6)
            killed = cloud.kill(name)
            cloud.wait_back(name, killed)
    time.sleep(1)
    load.stop()
    harness.wait_for(lambda: all_settled(cloud, key_id, len(served(cloud))), 60, "all usage is settled")
    time.sleep(1)
    done = served(cloud)
    rows = usage_rows(cloud, key_id)
    print(f"{KILLS} kills each: {len(done)} requests at replicas, {len(rows)} usage rows, {len(load.bad)} streams cut, "
          f"{sum(row['settled'] and not row['exact'] for row in rows)} left as estimates")
    by_id = {one["usage_id"]: one for one in done}
    assert {row["id"] for row in rows if row["replica"] and row["output_tokens"]} <= set(by_id)
    billed = {row["id"]: (row["input_tokens"], row["output_tokens"]) for row in rows if row["id"] in by_id}
    assert billed == {usage_id: (one["prompt_tokens"], one["completion_tokens"]) for usage_id, one in by_id.items()}
    hours = cloud.api("GET", f"/usage/hours?key={key_id}&limit=1000", expect=200).json()["items"]
    for field in ("input_tokens", "output_tokens", "cost"):
        assert sum(hour[field] for hour in hours) == sum(row[field] for row in rows), field
    assert sum(hour["requests"] for hour in hours) == len(rows)


def test_a_hard_budget_is_not_overrun_by_many_streams(cloud, stubs):
    key, key_id = stubs
    amount = 40_000 if LONG else 8_000
    budget = cloud.api("POST", "/budgets", {"name": "cap", "subject": "key", "subject_id": key_id, "unit": "tokens", "amount": amount,
                                            "hard": True, "period": "total"}, expect=201).json()
    time.sleep(1)

    def ask(_):
        return cloud.chat(key, "metered", "word " * 40, max_tokens=40)

    with concurrent.futures.ThreadPoolExecutor(64) as pool:  # where what is reserved runs out first,
        for _ in range(amount // 4000):
            assert {answer.status for answer in pool.map(ask, range(128))} <= {200, 429}
    answers = [ask(0)]
    while answers[-1].status == 200:  # and one after the other, to what was spent
        answers.append(ask(0))
    assert answers[-1].status == 429 and answers[-1].error()["code"] == "insufficient_quota"
    spent = sum(one["prompt_tokens"] + one["completion_tokens"] for one in served(cloud))
    print(f"budget {amount}, spent {spent}")
    assert spent <= amount * 1.001
    assert spent >= amount * 0.9
    harness.wait_for(lambda: cloud.api("GET", f"/budgets/{budget['id']}").json()["spent"] == spent, 30, "the budget says what was spent")
    cloud.api("DELETE", f"/budgets/{budget['id']}", expect=204)


def test_a_revoked_key_ends_open_streams_within_a_second(cloud, stubs):
    key, key_id = stubs
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stream = pool.submit(cloud.chat, key, "metered", stream=True, max_tokens=1000)
        time.sleep(1)
        cloud.api("POST", f"/keys/{key_id}/revoke", expect=200)
        begin = time.monotonic()
        text = stream.result(20).body.decode()
        took = time.monotonic() - begin
    assert "[DONE]" not in text and "invalid_api_key" in text, text[-500:]
    assert took <= 3 * 1
    assert cloud.chat(key, "metered").status == 401
