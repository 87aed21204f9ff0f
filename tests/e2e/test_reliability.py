"""The walls: disconnects, overload, drain, and an engine that breaks."""
import concurrent.futures
import http.client
import json
import os
import random
import signal
import subprocess
import time

import pytest

from harness import DEBUG, KEY, RELEASE, TINY, events, wait_for

LONG = os.environ.get("NEUTRINO_TEST_LONG") == "1"
PROMPT = "Once upon a time, in a country with many rivers and one bridge, there lived a ferryman who could not swim. " * 6


def read_stream(connection):
    """(status, events) of a streaming response, however it ends."""
    try:
        response = connection.getresponse()
        data = list(events(response)) if response.status == 200 else [response.read().decode()]
        return response.status, data
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        return None, []
    finally:
        connection.close()


def is_whole(data):
    """A 200 stream is whole if it says how it finished, or that it failed; silence is a truncated answer."""
    if data and data[-1] == "[DONE]":
        return any(choice["finish_reason"] for item in data[:-1] for choice in json.loads(item)["choices"])
    return bool(data) and "error" in json.loads(data[-1])


def test_the_check_for_truncation_sees_one():
    chunk = '{"choices": [{"index": 0, "text": "a", "finish_reason": null}]}'
    last = '{"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}'
    assert is_whole([chunk, last, "[DONE]"]) and is_whole([chunk, '{"error": {"message": "x"}}'])
    assert not is_whole([chunk]) and not is_whole([chunk, "[DONE]"]) and not is_whole([])


# ---- disconnects -------------------------------------------------------------------------------------------------------

def disconnect(server, generator):
    """Starts a request and leaves it: at once, during the prefill, after some tokens, or while an unstreamed one runs."""
    kind = generator.choice(["queue", "prefill", "decode", "whole"])
    body = {"prompt": f"{generator.random()} {PROMPT}", "max_tokens": 200, "ignore_eos": True, "model": server.model, "stream": kind != "whole"}
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), server.headers(body=body))
        if kind == "decode":
            response = connection.getresponse()
            if response.status == 200:
                for _ in zip(range(3), events(response)):
                    pass
        else:
            time.sleep({"queue": 0, "prefill": 0.3, "whole": 0.8}[kind] * generator.random())
    finally:
        connection.close()
    return kind


def test_disconnects_give_every_block_back(start, model_path):
    server = start(model_path, "--max-sequences", 16, "--context", 512, "--batch-tokens", 64)
    total = sum(server.kv_blocks().values())
    kinds, sums, generator = [], set(), random.Random(1)
    for _ in range(10 if LONG else 3):
        with concurrent.futures.ThreadPoolExecutor(64) as clients:
            seeds = [random.Random(generator.random()) for _ in range(64)]
            running = [clients.submit(disconnect, server, seed) for seed in seeds]
            while not all(client.done() for client in running):
                sums.add(sum(server.kv_blocks().values()))
            kinds += [client.result() for client in running]
    assert sums == {total}
    wait_for(lambda: server.kv_blocks()["referenced"] == 0, 20, "no block is referenced any more")
    assert sum(server.kv_blocks().values()) == total
    assert set(kinds) == {"queue", "prefill", "decode", "whole"}
    assert server.metric("vllm:num_requests_running") == server.metric("vllm:num_requests_waiting") == 0
    assert server.metric("vllm:request_success_total", finished_reason="abort") > len(kinds) / 4
    assert server.complete("Still there?", max_tokens=4).status == 200


def test_a_slow_reader_does_not_stop_the_others(start):
    server = start(TINY)
    stalled = server.open_stream("/v1/completions", {"prompt": "a", "max_tokens": 200, "ignore_eos": True})
    start_time = time.monotonic()
    for _ in range(5):
        assert server.complete("b", max_tokens=20, ignore_eos=True).status == 200
    assert time.monotonic() - start_time < 30
    stalled.close()


# ---- overload ----------------------------------------------------------------------------------------------------------

def test_overload_answers_or_says_when_to_come_back(start, model_path):
    server = start(model_path, "--max-sequences", 2, "--context", 512)
    capacity = 2 + 4 * 2  # running, and four waiting for each
    def ask(index):
        return server.complete(f"{index} bottles of lemonade on the wall,", max_tokens=48, ignore_eos=True)
    with concurrent.futures.ThreadPoolExecutor(2 * capacity) as clients:
        answers = list(clients.map(ask, range(2 * capacity)))
    refused = [answer for answer in answers if answer.status == 429]
    served = [answer for answer in answers if answer.status == 200]
    assert len(refused) + len(served) == len(answers), [answer.status for answer in answers]
    assert refused and len(served) >= capacity - 2
    for answer in refused:
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.error()["type"] == "rate_limit_error" and answer.error()["code"] == "queue_full"
    for answer in served:
        assert answer.json()["usage"]["completion_tokens"] == 48


# ---- drain -------------------------------------------------------------------------------------------------------------

def test_sigterm_under_load_truncates_nothing(start, model_path):
    server = start(model_path, "--max-sequences", 8, "--context", 512)
    def stream(index):
        body = {"prompt": f"{index}. The history of the bridge begins", "max_tokens": 100, "ignore_eos": True}
        return read_stream(server.open_stream("/v1/completions", body))
    def whole(index):
        return server.complete(f"{index}. A list of rivers:", max_tokens=100, ignore_eos=True)
    with concurrent.futures.ThreadPoolExecutor(17) as clients:
        streams = [clients.submit(stream, i) for i in range(8)]
        wholes = [clients.submit(whole, i) for i in range(8)]
        wait_for(lambda: server.metric("vllm:num_requests_running") == 8, 60, "the load is on")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.get("/v1/health/ready").status == 503, 5, "ready says 503")
        assert server.get("/v1/health/live").status == 200
        late = server.complete("too late", max_tokens=1)
        assert late.status == 503 and late.error()["code"] == "draining"
        statuses, data = zip(*[future.result() for future in streams])
        assert statuses == (200,) * 8 and all(map(is_whole, data))
        for answer in (future.result() for future in wholes):
            assert answer.status == 200 and answer.json()["usage"]["completion_tokens"] == 100
    assert server.process.wait(30) == 0


def test_a_second_sigterm_ends_it_now(start, model_path):
    server = start(model_path, "--context", 4096)
    connection = server.open_stream("/v1/completions", {"prompt": "Forever and", "max_tokens": 4000, "ignore_eos": True})
    response = connection.getresponse()
    next(events(response))
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(5)
    connection.close()


# ---- a broken engine ---------------------------------------------------------------------------------------------------

@pytest.fixture
def broken(start):
    def start_broken(fault):
        return start(TINY, "--threads", 1, binary=DEBUG, environment={"NEUTRINO_FAULT": fault})
    return start_broken


def open_endless(server):
    connection = server.open_stream("/v1/completions", {"prompt": "abc", "max_tokens": 200, "ignore_eos": True})
    return connection, connection.getresponse()


def follow(server):
    """The last event of an endless stream, and how long after the one before it came."""
    connection, response = open_endless(server)
    assert response.status == 200, response.read()
    item, gap, last = None, None, time.monotonic()
    for item in events(response):
        gap, last = time.monotonic() - last, time.monotonic()
    connection.close()
    return item, gap


def test_a_bug_in_the_engine_ends_every_stream_and_the_process(broken):
    server = broken("engine_step:throw@150")
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        endings = list(clients.map(follow, [server] * 4))
    for item, gap in endings:
        assert json.loads(item)["error"]["type"] == "server_error"
        assert gap <= 3, "the error event comes within a second (three on a busy machine)"
    try:
        assert server.get("/v1/health/ready", timeout_s=5).status == 503
    except (ConnectionError, http.client.HTTPException):
        pass  # it has already exited
    assert server.process.wait(30) not in (0, None)


# In every stage: a step, a worker thread, the io thread itself (where nobody can ask whether it is ready).
# A request passes most of them once; eight are asked.
HANGS = {"engine_step": 150, "chat_template": 6, "http_write": 150, "http_read": 6, "request_parse": 6, "tokenize": 6, "engine_submit": 6,
         "engine_sample": 150, "detokenize": 150}


@pytest.mark.parametrize("point", list(HANGS)[:3] + LONG * list(HANGS)[3:])
def test_what_hangs_ends_every_stream_and_the_process(start, point):
    limit = 2
    server = start(TINY, "--threads", 1, "--watchdog-timeout", limit, binary=DEBUG,
                   environment={"NEUTRINO_FAULT": f"{point}:hang@{HANGS[point]}"})
    def stream(index):
        began = time.monotonic()
        body = {"messages": [{"role": "user", "content": f"abc {index}"}], "max_tokens": 200, "ignore_eos": True}
        status, data = read_stream(server.open_stream("/v1/chat/completions", body))
        return status, data, time.monotonic() - began
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        endings = [ending for _ in range(2) for ending in clients.map(stream, range(4))]
    assert server.process.wait(15) not in (0, None)
    hung = [data for status, data, _ in endings if data and "engine_dead" in data[-1]]
    assert hung, endings
    for status, data, seconds in endings:
        if status is not None:  # else it came when the process had ended
            assert status in (200, 503) and (status == 503 or is_whole(data))
    assert "watchdog" in server.log()


def test_an_error_in_a_step_fails_only_its_sequences(broken):
    server = broken("engine_step:error@60")
    connection, response = open_endless(server)
    data = list(events(response))
    connection.close()
    assert "error" in json.loads(data[-1])
    assert server.get("/v1/health/ready").status == 200
    after = server.complete("and now?", max_tokens=8, ignore_eos=True)
    assert after.status == 200 and after.json()["usage"]["completion_tokens"] == 8
    assert server.kv_blocks()["referenced"] == 0


def test_without_the_fault_nothing_breaks(broken):
    server = broken("engine_step:throw@1000000")
    connection, response = open_endless(server)
    data = list(events(response))
    connection.close()
    assert data[-1] == "[DONE]" and is_whole(data)


def test_a_release_binary_refuses_faults(home):
    environment = os.environ | {"NEUTRINO_HOME": str(home), "NEUTRINO_FAULT": "engine_step:throw@1"}
    result = subprocess.run([RELEASE, "serve", TINY, "--port", "0", "--api-key", KEY], env=environment, capture_output=True, text=True,
                            timeout=20, check=False)
    assert result.returncode != 0 and "NEUTRINO_FAULT" in result.stderr
