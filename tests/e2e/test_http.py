"""The HTTP surface itself: status codes, headers, the error object, health, metrics, the API description."""
import http.client
import json
import re
import socket
import subprocess

import jsonschema
import openapi_spec_validator
import pytest

from harness import events, user


def assert_error(response, status, kind, code=None):
    assert response.status == status, response.body
    error = response.error()
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["type"] == kind and error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    assert code is None or error["code"] == code
    assert response.headers["X-Request-Id"]


def test_health_needs_no_key(server):
    for path in ("/v1/health/live", "/v1/health/ready", "/health"):
        assert server.get(path, authorized=False).status == 200, path


@pytest.mark.parametrize("path", ["/v1/models", "/v1/metadata", "/metrics", "/v1/metrics", "/v1/version", "/openapi.json"])
def test_the_rest_needs_a_key(server, path):
    refused = server.get(path, authorized=False)
    assert_error(refused, 401, "authentication_error", "invalid_api_key")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert server.get(path).status == 200


def test_an_unknown_path_is_404_even_without_a_key(server):
    assert server.get("/v1/nothing", authorized=False).status in (401, 404)
    assert_error(server.get("/v1/nothing"), 404, "invalid_request_error")


def test_a_wrong_method_is_405_with_allow(server):
    response = server.get("/v1/chat/completions")
    assert_error(response, 405, "invalid_request_error")
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize("body, code", [
    (b"{", "invalid_json"), (b"[]", None), (b"", "invalid_json"), (b'{"model": "\xff"}', None),
    (b"[" * 5000 + b"]" * 5000, None), (b'{"model": 1, "messages": []}', "invalid_type"),
    (b'{"messages": [{"role": "user", "content": "x"}]}', "missing_required_parameter"),
    (b'{"model": "x", "temperature": 1e999, "messages": [{"role": "user", "content": "x"}]}', None),
])
def test_a_bad_body_is_400(server, body, code):
    assert_error(server.post("/v1/chat/completions", body), 400, "invalid_request_error", code)


def test_other_content_is_415(server):
    response = server.post("/v1/completions", "model=x", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert_error(response, 415, "invalid_request_error")


def test_a_huge_body_is_413_before_it_is_sent(server):
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nAuthorization: Bearer {server.key}\r\n"
                           "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n".encode())
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


def test_huge_headers_are_431(server):
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: " + b"a" * 100_000 + b"\r\n\r\n")
        assert b" 431 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_foreign_host_is_421_and_a_foreign_origin_403(server):
    assert server.get("/v1/models", headers={"Host": "attacker.example"}).status == 421
    assert server.get("/v1/models", headers={"Origin": "http://attacker.example"}).status == 403


def test_request_ids_are_echoed_or_made(server):
    assert server.get("/v1/models", headers={"X-Request-Id": "my-id-17"}).headers["X-Request-Id"] == "my-id-17"
    first, second = (server.get("/v1/models").headers["X-Request-Id"] for _ in range(2))
    assert first and first != second
    bad = server.post("/v1/completions", "{", headers={"X-Request-Id": "my-id-18"})
    assert bad.headers["X-Request-Id"] == "my-id-18" and "my-id-18" in bad.body.decode()


def test_many_requests_on_one_connection(server):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    for _ in range(5):
        connection.request("GET", "/v1/models", headers=server.headers())
        response = connection.getresponse()
        assert response.status == 200 and response.read()
    connection.close()


def test_stream_headers_and_framing(server):
    connection = server.open_stream("/v1/chat/completions", {"messages": user("Say hello."), "max_tokens": 4, "temperature": 0})
    response = connection.getresponse()
    assert response.status == 200 and response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache" and response.headers["X-Accel-Buffering"] == "no"
    data = list(events(response))
    connection.close()
    assert data[-1] == "[DONE]" and data.count("[DONE]") == 1
    chunks = [json.loads(item) for item in data[:-1]]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert sum(choice["finish_reason"] is not None for chunk in chunks for choice in chunk["choices"]) == 1


def test_a_bad_stream_request_is_an_ordinary_error(server):
    response = server.chat("hello", stream=True, temperature=9)
    assert_error(response, 400, "invalid_request_error")
    assert response.headers["Content-Type"].startswith("application/json")


def test_tokenize_and_back(server):
    text = "Hello, wörld! 你好 <|im_start|>"
    tokens = server.post("/tokenize", {"model": server.model, "prompt": text}).json()
    assert tokens["count"] == len(tokens["tokens"]) and tokens["max_model_len"] == 2048
    back = server.post("/detokenize", {"model": server.model, "tokens": tokens["tokens"]}).json()
    assert back["prompt"] == text


def test_version_and_metadata(server):
    assert re.match(r"\d+\.\d+\.\d+", server.get("/v1/version").json()["version"])
    metadata = server.get("/v1/metadata").json()
    assert server.model in json.dumps(metadata)


def test_cancel_by_id(server):
    identity = "cancel-me-1"
    connection = server.open_stream("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True})
    response = connection.getresponse()
    chunk = json.loads(next(events(response)))
    cancelled = server.post(f"/v1/requests/{chunk['id']}/cancel", {})
    assert cancelled.status == 200, cancelled.body
    rest = list(events(response))
    assert len(rest) < 1400
    connection.close()
    assert server.post(f"/v1/requests/{identity}/cancel", {}).status == 404


METRICS = """vllm:num_requests_running vllm:num_requests_waiting vllm:kv_cache_usage_perc vllm:prompt_tokens_total
vllm:prompt_tokens_cached_total vllm:generation_tokens_total vllm:request_success_total vllm:num_preemptions_total
vllm:prefix_cache_queries_total vllm:prefix_cache_hits_total vllm:time_to_first_token_seconds_bucket
vllm:inter_token_latency_seconds_bucket vllm:e2e_request_latency_seconds_bucket vllm:request_queue_time_seconds_bucket
vllm:request_prefill_time_seconds_bucket vllm:request_decode_time_seconds_bucket vllm:request_prompt_tokens_bucket
vllm:request_generation_tokens_bucket vllm:cache_config_info http_requests_total neutrino_kv_blocks""".split()


def test_metrics_have_the_names_that_dashboards_ask_for(server):
    server.complete("Hello", max_tokens=4)
    names = {name for name, _ in server.metrics()}
    assert not set(METRICS) - names
    assert all(value >= 0 for value in server.kv_blocks().values())
    assert server.get("/v1/metrics").status == 200
    assert server.get("/metrics").headers["Content-Type"].startswith("text/plain")


def test_metrics_count_tokens(server):
    before = {name: server.metric(name) for name in ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")}
    usage = server.complete("Count these tokens", max_tokens=7, ignore_eos=True).json()["usage"]
    assert server.metric("vllm:generation_tokens_total") - before["vllm:generation_tokens_total"] == usage["completion_tokens"] == 7
    assert server.metric("vllm:prompt_tokens_total") - before["vllm:prompt_tokens_total"] == usage["prompt_tokens"]


def test_the_api_description_is_valid_and_complete(server):
    description = server.get("/openapi.json").json()
    openapi_spec_validator.validate(description)
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{id}", "/tokenize", "/detokenize",
            "/v1/health/live", "/v1/health/ready", "/health", "/v1/version", "/v1/metadata", "/metrics", "/v1/metrics"} <= set(
                re.sub(r"\{[^}]*\}", "{id}", path) for path in description["paths"])


def test_described_bodies_are_what_is_accepted(server):
    description = server.get("/openapi.json").json()
    content = description["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = {"model": server.model, "messages": user("hi"), "max_tokens": 1, "temperature": 0.5}
    validator = jsonschema.Draft202012Validator({**content, "components": description.get("components", {})})
    validator.validate(body)
    assert list(validator.iter_errors(body | {"temperature": 3})), "the schema must know what the server refuses"
    assert server.post("/v1/chat/completions", body | {"temperature": 3}).status == 400


def test_curl(server):
    command = ["curl", "-sS", "--fail-with-body", f"{server.url}/v1/chat/completions", "-H", f"Authorization: Bearer {server.key}",
               "-H", "Content-Type: application/json",
               "-d", json.dumps({"model": server.model, "messages": user("Say hi."), "max_tokens": 3})]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["choices"][0]["message"]["content"]
