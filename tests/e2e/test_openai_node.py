"""The official Node client (client.mjs and responses.mjs do the talking)."""
import json
import pathlib
import subprocess

import pytest

from harness import wait_for

FOLDER = pathlib.Path(__file__).parent


def run(script, server):
    result = subprocess.run(["node", FOLDER / script, server.url, server.key, server.model], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def seen(server):
    return run("client.mjs", server)


@pytest.fixture(scope="module")
def newer(server):
    return run("responses.mjs", server)


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


def test_a_response_and_its_stream(newer):
    whole, streamed = newer["whole"], newer["streamed"]
    assert "Paris" in whole["text"] and whole["types"] == ["message"]
    assert streamed["text"] == whole["text"] and streamed["final"]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert streamed["types"][0] == "response.created" and streamed["types"][-1] == f"response.{whole['status']}"


def arguments_fit(text):
    arguments = json.loads(text)
    return arguments.keys() == {"unit", "days"} and arguments["unit"] in ("celsius", "kelvin") and 1 <= arguments["days"] <= 9


def test_a_call_in_a_response_and_in_its_stream(newer):
    call, streamed = newer["call"]["call"], newer["streamedCall"]
    assert newer["call"]["types"] == ["function_call"] and call["name"] == "weather" and arguments_fit(call["arguments"])
    assert streamed["callArguments"] == call["arguments"] == streamed["final"]["call"]["arguments"]
    assert "response.function_call_arguments.done" in streamed["types"]
    assert newer["afterTheCall"]["types"] == ["message"] and newer["afterTheCall"]["text"]


def test_a_response_follows_its_schema(newer):
    assert arguments_fit(newer["schema"]["text"])


def test_calls_and_schemas_of_chats(newer):
    whole = newer["chatCalls"]["whole"]
    assert whole == newer["chatCalls"]["streamed"] and whole["finish_reason"] == "tool_calls"
    assert [name for name, _ in whole["calls"]] == ["weather"] and arguments_fit(whole["calls"][0][1])
    assert isinstance(newer["chatSchema"]["sure"], bool)


def test_what_a_response_cannot_have_is_named(newer):
    assert newer["stored"] | {"code": None} == {"name": "BadRequestError", "status": 400, "code": None, "param": "store"}
    assert newer["previous"]["name"] == "NotFoundError" and newer["previous"]["code"] == "not_stored_here"
    assert newer["webSearch"]["name"] == "BadRequestError" and newer["webSearch"]["param"] == "tools[0].type"
