"""The official Node client (client.mjs does the talking)."""
import json
import pathlib
import subprocess

import pytest

from harness import wait_for

SCRIPT = pathlib.Path(__file__).parent / "client.mjs"


@pytest.fixture(scope="module")
def seen(server):
    result = subprocess.run(["node", SCRIPT, server.url, server.key, server.model], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_answers(seen, server):
    assert server.model in seen["models"]
    assert "Paris" in seen["text"] and seen["usage"]["completion_tokens"] > 0
    assert seen["completion"]


def test_stream_equals_the_whole_answer(seen):
    assert seen["streamed"]["text"] == seen["text"]
    assert seen["streamed"]["usage"]["completion_tokens"] == seen["usage"]["completion_tokens"]


def test_an_abort_is_seen_by_the_server(seen, server):
    assert seen["aborted"] == 3
    wait_for(lambda: server.metric("vllm:num_requests_running") == 0, 10, "nothing runs after the abort")


def test_errors_have_their_types(seen):
    assert seen["unauthorized"]["name"] == "AuthenticationError" and seen["unauthorized"]["code"] == "invalid_api_key"
    assert seen["badRequest"]["name"] == "BadRequestError" and seen["badRequest"]["param"] == "temperature"
    assert seen["notFound"]["name"] == "NotFoundError" and seen["notFound"]["code"] == "model_not_found"
