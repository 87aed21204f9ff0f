"""A neutrino server of our own for a test: started on a free loopback port, talked to, stopped."""
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

import prometheus_client.parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = pathlib.Path(os.environ.get("NEUTRINO_TEST_BINARY", ROOT / "build" / "release" / "neutrino"))
DEBUG = ROOT / "build" / "debug" / "neutrino"
TINY = ROOT / "tests" / "golden" / "tiny" / "llama-q4_1.gguf"
KEY = "test-key-of-the-e2e-suite"
URL = re.compile(r"(https?)://([^\s/:]+):(\d+)")


class Response:
    def __init__(self, raw, body):
        self.status, self.headers, self.body = raw.status, raw.headers, body

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]


class Server:
    def __init__(self, model, *flags, home, binary=RELEASE, key=KEY, environment=None, tls=None, ready=True):
        """`tls`: an ssl.SSLContext, for a server that is given certificates; `ready`: wait until it is."""
        self.model = pathlib.Path(model).name.removesuffix(".gguf")
        self.key, self.tls = key, tls
        self.log_path = pathlib.Path(tempfile.mkstemp(prefix="serve-", suffix=".log", dir=home)[1])
        command = [str(binary), "serve", str(model), "--port", "0", "--served-model-name", self.model, *map(str, flags)]
        if key:
            command += ["--api-key", key]
        settings = os.environ | {"NEUTRINO_HOME": str(home)} | (environment or {})
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=settings)
        self.scheme, self.host, self.port = self._read_address()
        threading.Thread(target=self._drain_stdout, daemon=True).start()
        self.url = f"{self.scheme}://{self.host}:{self.port}"
        if ready:
            self._wait_until_ready()

    def _read_address(self):
        for line in self.process.stdout:
            if match := URL.search(line):
                return match.group(1), match.group(2), int(match.group(3))
        raise AssertionError(f"serve ended with {self.process.wait()} before it was ready:\n{self.log()}")

    def _drain_stdout(self):
        for _ in self.process.stdout:
            pass

    def _wait_until_ready(self, timeout_s=120):
        wait_for(lambda: self.get("/v1/health/ready").status == 200, timeout_s, "the server is ready")

    def log(self):
        return self.log_path.read_text(errors="replace")

    def connect(self, timeout_s=120):
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)

    def request(self, method, path, body=None, headers=None, timeout_s=120, authorized=True):
        connection = self.connect(timeout_s)
        try:
            connection.request(method, path, body, self.headers(headers, authorized, body))
            raw = connection.getresponse()
            return Response(raw, raw.read())
        finally:
            connection.close()

    def headers(self, more=None, authorized=True, body=None):
        headers = {"Authorization": f"Bearer {self.key}"} if authorized and self.key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return headers | (more or {})

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.request("POST", path, data, **options)

    def complete(self, prompt, **parameters):
        return self.post("/v1/completions", {"model": self.model, "prompt": prompt, **parameters})

    def chat(self, question, **parameters):
        return self.post("/v1/chat/completions", {"model": self.model, "messages": user(question), **parameters})

    def open_stream(self, path, body, timeout_s=120):
        """A connection with a streaming request on it; the caller reads its response and closes it."""
        connection = self.connect(timeout_s)
        connection.request("POST", path, json.dumps(body | {"model": self.model, "stream": True}), self.headers(body=body))
        return connection

    def metrics(self):
        """{(name, frozenset of labels): value} of /metrics."""
        text = self.get("/metrics").body.decode()
        return {(sample.name, frozenset(sample.labels.items())): sample.value
                for family in prometheus_client.parser.text_string_to_metric_families(text) for sample in family.samples}

    def metric(self, name, metrics=None, **labels):
        """The sum over all series of a metric that carry these labels, in `metrics` or in a scrape of its own."""
        samples = (metrics or self.metrics()).items()
        values = [value for (series, tags), value in samples if series == name and set(labels.items()) <= tags]
        assert values, f"no metric {name} {labels}"
        return sum(values)

    def kv_blocks(self):
        metrics = self.metrics()
        return {state: self.metric("neutrino_kv_blocks", metrics, state=state) for state in ("referenced", "cached", "free")}

    def stop(self, timeout_s=60):
        return stop(self.process, timeout_s)


def stop(process, timeout_s=60):
    """Ends it as a supervisor does, and returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def user(text):
    return [{"role": "user", "content": text}]


def events(response):
    """The data of each server-sent event, until the stream ends."""
    for line in response:
        line = line.decode().rstrip("\r\n")
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def wait_for(condition, timeout_s, what):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what() if callable(what) else what}")
