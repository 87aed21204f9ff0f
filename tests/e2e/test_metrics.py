"""/metrics as others read it: Prometheus' own linter, and the series that vLLM's published Grafana boards query."""
import pathlib
import subprocess
import sys

import prometheus_client.parser
import pytest

PROMTOOL = pathlib.Path(sys.executable).parent / "promtool"

# What the linter says of names that are vLLM's, which boards and alert rules ask for as they are.
FOREIGN = ("metric names should not contain ':'", 'vllm:iteration_tokens_total non-counter metrics should not have "_total" suffix')


def lint(text):
    result = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=20, check=False)
    said = (result.stdout + result.stderr).decode().splitlines()
    return result.returncode, [line for line in said if line and not any(word in line for word in FOREIGN)]


def test_promtool_finds_nothing_to_say(server):
    server.complete("Hello", max_tokens=2)
    server.get("/v1/nothing")
    code, problems = lint(server.get("/metrics").body)
    assert code in (0, 3) and not problems  # 3: there are hints, all of them about vLLM's names


@pytest.mark.parametrize("text", [b"a{b=\"c\" 1\n", b"# TYPE a counter\na 1\n", b"# HELP a_total x\n# TYPE a_total gauge\na_total 1\n"])
def test_promtool_does_find_faults(text):
    code, problems = lint(text)
    assert code != 0 and problems


BOARDS = """
gauge vllm:num_requests_running vllm:num_requests_waiting vllm:num_requests_waiting_by_reason vllm:kv_cache_usage_perc
gauge vllm:gpu_cache_usage_perc vllm:engine_sleep_state vllm:lora_requests_info vllm:cache_config_info
counter vllm:prompt_tokens vllm:prompt_tokens_cached vllm:prompt_tokens_by_source vllm:prompt_tokens_cached_by_source
counter vllm:generation_tokens vllm:request_success vllm:num_preemptions vllm:admission_rejections vllm:prefix_cache_queries
counter vllm:prefix_cache_hits vllm:external_prefix_cache_queries vllm:external_prefix_cache_hits vllm:mm_cache_queries vllm:mm_cache_hits
histogram vllm:time_to_first_token_seconds vllm:inter_token_latency_seconds vllm:request_time_per_output_token_seconds
histogram vllm:e2e_request_latency_seconds vllm:request_queue_time_seconds vllm:request_prefill_time_seconds
histogram vllm:request_decode_time_seconds vllm:request_inference_time_seconds vllm:request_prompt_tokens vllm:request_generation_tokens
histogram vllm:request_max_num_generation_tokens vllm:request_params_n vllm:request_params_max_tokens vllm:iteration_tokens_total
histogram vllm:request_prefill_kv_computed_tokens vllm:request_num_preemptions
counter vllm:spec_decode_num_drafts vllm:spec_decode_num_draft_tokens vllm:spec_decode_num_accepted_tokens
counter vllm:spec_decode_num_accepted_tokens_per_pos vllm:tool_call_parser_invocations vllm:corrupted_requests http_requests
histogram http_request_duration_seconds http_request_duration_highr_seconds http_request_size_bytes http_response_size_bytes
counter process_cpu_seconds
gauge process_resident_memory_bytes process_open_fds process_start_time_seconds
"""

LABELS = {"vllm:request_success": ("finished_reason", {"stop", "length", "abort", "error"}),
          "vllm:num_requests_waiting_by_reason": ("reason", {"capacity", "deferred"}),
          "vllm:prompt_tokens_by_source": ("source", {"local_compute", "local_cache_hit", "external_kv_transfer"}),
          "vllm:admission_rejections": ("reason", {"max_num_queued_reqs", "max_num_queued_tokens"}),
          "vllm:engine_sleep_state": ("sleep_state", {"awake", "weights_offloaded", "discard_all"})}


def families(server):
    text = server.get("/metrics").body.decode()
    return {family.name: family for family in prometheus_client.parser.text_string_to_metric_families(text)}


def test_every_series_that_the_boards_query_is_there(server):
    server.complete("Hello", max_tokens=2)
    have = families(server)
    for line in BOARDS.strip().splitlines():
        kind, *names = line.split()
        for name in names:
            assert name in have, name
            assert have[name].type == kind and have[name].samples, name
            if name.startswith("vllm:"):
                assert all(sample.labels.get("model_name") == server.model and sample.labels.get("engine") == "0"
                           for sample in have[name].samples), name
    for name, (label, values) in LABELS.items():
        assert values <= {sample.labels[label] for sample in have[name].samples}, name


def test_derived_series_agree_with_what_they_come_from(server):
    prompt = "A text that is sent twice, so that its beginning comes out of the prefix cache the second time. " * 8
    for _ in range(2):
        server.complete(prompt, max_tokens=2, n=1)
    metrics = server.metrics()
    total = server.metric("vllm:prompt_tokens_total", metrics)
    cached = server.metric("vllm:prompt_tokens_cached_total", metrics)
    assert cached > 0
    assert server.metric("vllm:prompt_tokens_by_source_total", metrics) == total
    assert server.metric("vllm:prompt_tokens_by_source_total", metrics, source="local_cache_hit") == cached
    assert server.metric("vllm:prompt_tokens_cached_by_source_total", metrics) == cached
    assert server.metric("vllm:gpu_cache_usage_perc", metrics) == pytest.approx(server.metric("vllm:kv_cache_usage_perc", metrics))
    assert server.metric("vllm:request_params_n_count", metrics) >= 2
