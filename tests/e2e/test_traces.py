"""Traces: a collector of our own that decodes OpenTelemetry's protobuf with OpenTelemetry's own classes, and real requests."""
import http.server
import json
import threading
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from harness import TINY, events, wait_for

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes POST /v1/traces; `fail` makes it refuse, `hang` makes it silent."""

    def __init__(self):
        self.spans, self.resources, self.requests, self.fail, self.hang = [], [], [], 0, threading.Event()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                collector.take(self)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        while self.hang.is_set():
            time.sleep(0.05)
        if self.fail > 0:
            self.fail -= 1
            request.send_response(503)
            request.send_header("Content-Length", "0")
            return request.end_headers()
        assert request.path == "/v1/traces" and request.headers["Content-Type"] == "application/x-protobuf"
        self.requests.append(dict(request.headers))
        message = ExportTraceServiceRequest.FromString(body)
        assert message.SerializeToString() == body  # nothing in it that its own classes do not know
        for resource_spans in message.resource_spans:
            self.resources.append(attributes(resource_spans.resource))
            for scope_spans in resource_spans.scope_spans:
                self.spans += scope_spans.spans
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def of_request(self, identity):
        """The root span of a request and its children by name."""
        root = next((span for span in self.spans if attributes(span).get("neutrino.request_id") == identity), None)
        children = [span for span in self.spans if root and span.parent_span_id == root.span_id]
        return root, {name: [span for span in children if span.name == name] for name in {span.name for span in children}}

    def wait_for(self, identity):
        wait_for(lambda: self.of_request(identity)[0] is not None, 10, f"the span of {identity} arrives")
        return self.of_request(identity)

    def close(self):
        self.hang.clear()
        self.server.shutdown()
        self.server.server_close()


def value_of(value):
    kind = value.WhichOneof("value")
    return [value_of(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def attributes(of):
    return {pair.key: value_of(pair.value) for pair in of.attributes}


@pytest.fixture
def collector():
    one = Collector()
    yield one
    one.close()


def test_a_request_and_its_phases(start, collector):
    server = start(TINY, "--otlp-endpoint", collector.url,
                   environment={"OTEL_SERVICE_NAME": "tiny", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
                                "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b"})
    began = time.time_ns()
    answer = server.post("/v1/completions", {"model": server.model, "prompt": "a b c", "max_tokens": 5, "ignore_eos": True, "n": 2,
                                             "temperature": 0.5},
                         headers={"X-Request-Id": "r-1", "traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "v=1"}).json()
    root, children = collector.wait_for("r-1")
    ended = time.time_ns()
    assert root.name == "POST /v1/completions" and root.kind == Span.SPAN_KIND_SERVER
    assert root.trace_id.hex() == TRACE and root.parent_span_id.hex() == PARENT and root.trace_state == "v=1"
    assert began <= root.start_time_unix_nano <= root.end_time_unix_nano <= ended
    said, usage = attributes(root), answer["usage"]
    assert said["gen_ai.operation.name"] == "text_completion" and said["gen_ai.response.id"] == answer["id"]
    assert said["gen_ai.request.model"] == said["gen_ai.response.model"] == server.model
    assert said["gen_ai.usage.input_tokens"] == said["gen_ai.usage.prompt_tokens"] == usage["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == said["gen_ai.usage.completion_tokens"] == usage["completion_tokens"] == 10
    assert said["gen_ai.request.max_tokens"] == 5 and said["gen_ai.request.temperature"] == 0.5 and said["gen_ai.request.n"] == 2
    assert said["gen_ai.response.finish_reasons"] == ["length", "length"]
    assert said["http.response.status_code"] == 200 and said["http.route"] == "/v1/completions"
    latencies = [said[f"gen_ai.latency.{name}"] for name in ("time_in_queue", "time_to_first_token", "e2e", "time_in_model_prefill",
                                                             "time_in_model_decode", "time_in_model_inference")]
    assert all(latency >= 0 for latency in latencies) and latencies[2] >= latencies[1] >= latencies[0]
    assert {name: len(spans) for name, spans in children.items()} == {"queue": 2, "prefill": 2, "decode": 2}
    for spans in children.values():
        for span in spans:
            assert span.trace_id == root.trace_id and span.kind == Span.SPAN_KIND_INTERNAL
            assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= root.end_time_unix_nano + 50_000_000
    for queue in children["queue"]:
        choice = attributes(queue)["neutrino.choice.index"]
        prefill = next(span for span in children["prefill"] if attributes(span)["neutrino.choice.index"] == choice)
        assert queue.end_time_unix_nano == prefill.start_time_unix_nano
    assert collector.resources[0]["service.name"] == "tiny" and collector.resources[0]["deployment.environment"] == "test"
    assert collector.requests[0]["x-tenant"] == "a b"
    assert f'"trace_id":"{TRACE}"' in server.log()


def test_what_is_traced_and_what_is_not(start, collector):
    server = start(TINY, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    server.get("/metrics", headers={"X-Request-Id": "scrape"})
    server.post("/v1/completions", {"prompt": "a"}, authorized=False, headers={"X-Request-Id": "stranger"})
    server.post("/v1/completions", {"model": server.model, "prompt": "a", "max_tokens": 1},
                headers={"X-Request-Id": "unsampled", "traceparent": f"00-{TRACE}-{PARENT}-00"})
    server.post("/v1/completions", {"model": "nobody", "prompt": "a"}, headers={"X-Request-Id": "mistake"})
    connection = server.connect()
    connection.request("POST", "/v1/chat/completions",
                       json.dumps({"model": server.model, "messages": [{"role": "user", "content": "secret words"}], "stream": True,
                                   "max_tokens": 3, "ignore_eos": True}), server.headers({"X-Request-Id": "stream"}, body=""))
    assert list(events(connection.getresponse()))[-1] == "[DONE]"
    connection.close()
    root, children = collector.wait_for("stream")
    assert len(root.trace_id) == 16 and not root.parent_span_id and set(children) == {"queue", "prefill", "decode"}
    assert attributes(root)["gen_ai.operation.name"] == "chat"
    mistake, _ = collector.wait_for("mistake")
    assert mistake.status.code == Status.STATUS_CODE_UNSET and attributes(mistake)["error.type"] == "model_not_found"
    assert not any("secret" in str(attributes(span)) for span in collector.spans)
    for name in ("scrape", "stranger", "unsampled"):
        assert collector.of_request(name)[0] is None


def test_a_collector_that_fails_is_asked_again(start, collector):
    collector.fail = 2
    server = start(TINY, "--otlp-endpoint", collector.url)
    server.post("/v1/completions", {"model": server.model, "prompt": "a", "max_tokens": 1}, headers={"X-Request-Id": "patient"})
    collector.wait_for("patient")
    wait_for(lambda: server.metric("neutrino_trace_spans_sent_total") == 4, 5, "its spans count as sent")
    assert server.metric("neutrino_trace_spans_dropped_total") == 0


def test_a_collector_that_hangs_holds_no_request_up(start, collector):
    """Nor the end of the server."""
    def seconds_of_requests(server):
        started = time.monotonic()
        for _ in range(20):
            assert server.complete("a", max_tokens=1).status == 200
        return time.monotonic() - started

    untraced = seconds_of_requests(start(TINY))
    collector.hang.set()
    server = start(TINY, "--otlp-endpoint", collector.url)
    assert seconds_of_requests(server) < 3 * untraced + 1
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10


def test_spans_in_the_queue_are_sent_at_the_end(start, collector):
    server = start(TINY, "--otlp-endpoint", collector.url)
    server.post("/v1/completions", {"model": server.model, "prompt": "a", "max_tokens": 1}, headers={"X-Request-Id": "last"})
    assert server.stop() == 0
    assert collector.of_request("last")[0] is not None
