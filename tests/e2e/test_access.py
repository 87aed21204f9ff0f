"""Who gets in, and how much they may take: key files, limits per key, TLS, certificates of clients. Real clients throughout."""
import json
import pathlib
import signal
import socket
import ssl
import subprocess
import threading
import time

import httpx2
import openai
import pytest

from harness import RELEASE, TINY, events, wait_for


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def status(server, key, path="/v1/models", carrier=bearer):
    return server.get(path, authorized=False, headers=carrier(key)).status


# ---- keys

def test_a_key_file_gives_scopes_and_is_read_again(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("app key-app\nscraper key-scraper scopes=metrics\n")
    server = start(TINY, "--api-key-file", keys, key=None)
    for carrier in (bearer, lambda key: {"x-api-key": key}):
        assert status(server, "key-app", carrier=carrier) == 200
        assert status(server, "key-scraper", carrier=carrier) == 403
        assert status(server, "key-scraper", "/metrics", carrier) == 200
        assert status(server, "key-app", "/metrics", carrier) == 403
        assert status(server, "wrong", carrier=carrier) == 401
    keys.write_text("app key-new\n")
    wait_for(lambda: status(server, "key-new") == 200, 5, "the changed file is read")
    assert status(server, "key-app") == 401
    keys.write_text("app\n")  # bad: what was good stays
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "keys:1: after the name comes a key" in server.log(), 5, "the fault is in the log")
    assert status(server, "key-new") == 200


def test_a_revoked_key_loses_its_stream(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("app key-app\nops key-ops\n")
    server = start(TINY, "--api-key-file", keys, key="key-of-the-command-line")
    server.key = "key-app"
    connection = server.open_stream("/v1/completions", {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "temperature": 0})
    keys.write_text("ops key-ops\n")
    last = list(events(connection.getresponse()))[-1]
    connection.close()
    assert last == "[DONE]" or json.loads(last)["error"]["code"] == "invalid_api_key"  # a quick machine is done before that
    wait_for(lambda: status(server, "key-app") == 401, 5, "the key is gone")
    assert status(server, "key-of-the-command-line") == 200


def test_admin_calls_need_their_scope_and_leave_an_audit_line(start, tmp_path):
    keys, audit = tmp_path / "keys", tmp_path / "audit"
    keys.write_text("app key-app\nops key-ops scopes=admin\n")
    server = start(TINY, "--api-key-file", keys, "--audit-log", audit, key=None)
    body = {"lora_name": "x", "lora_path": str(tmp_path / "nowhere")}
    for key in ("key-app", "key-ops", "wrong"):
        server.post("/v1/load_lora_adapter", body, headers=bearer(key))
    server.get("/v1/models", headers=bearer("key-app"))
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["audit"], line["key"], line["path"]) for line in lines] == [
        ("admin_call", "app", "/v1/load_lora_adapter"), ("admin_call", "ops", "/v1/load_lora_adapter"),
        ("admin_call", "", "/v1/load_lora_adapter")]
    assert [line["status"] for line in lines][::2] == [403, 401] and lines[1]["status"] in (400, 404)
    assert lines[0]["error"] == "insufficient_scope" and lines[0]["peer"].startswith("127.0.0.1:")


def test_open_metrics(start):
    server = start(TINY, "--metrics-open")
    assert server.get("/metrics", authorized=False).status == 200
    assert server.get("/v1/models", authorized=False).status == 401


def test_limits_are_those_of_the_key(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("small key-small requests_per_minute=2 tokens_per_minute=1000\nlarge key-large\n")
    server = start(TINY, "--api-key-file", keys, "--requests-per-minute", "600", key=None)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="key-small", max_retries=0)

    def complete(**more):
        return client.completions.with_raw_response.create(model=server.model, prompt="Hello", **({"max_tokens": 3} | more))

    first = complete()
    used = first.parse().usage.total_tokens
    assert first.headers["x-ratelimit-limit-requests"] == "2" and first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert 1000 - used <= int(first.headers["x-ratelimit-remaining-tokens"]) <= 1000 - used + 20
    complete()
    with pytest.raises(openai.RateLimitError) as refused:
        complete()
    assert refused.value.code == "rate_limit_exceeded" and refused.value.type == "rate_limit_error"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
    large = openai.OpenAI(base_url=f"{server.url}/v1", api_key="key-large", max_retries=0)
    assert large.completions.with_raw_response.create(model=server.model, prompt="Hello", max_tokens=3).headers[
        "x-ratelimit-limit-requests"] == "600"


def test_the_client_comes_back_when_it_may(start):
    server = start(TINY, "--requests-per-minute", "60")  # one comes back every second
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=4)
    assert any(server.post("/tokenize", {"prompt": "a"}).status == 429 for _ in range(500))
    started = time.monotonic()
    client.completions.create(model=server.model, prompt="Hello", max_tokens=1)  # retried by the client, after Retry-After
    assert time.monotonic() - started < 20
    assert server.metric("neutrino_rate_limited_requests_total") >= 1


# ---- TLS

class Certificates:
    """An authority and what it signs, made by the openssl command."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=authority",
                 "-keyout", "ca.key", "-out", "ca.pem")

    def run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self, name, common_name):
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={common_name}",
                 "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1",
                 "-extfile", str(extensions), "-out", f"{name}.pem")

    def __getitem__(self, name):
        return str(self.folder / name)

    def context(self, client=None):
        context = ssl.create_default_context(cafile=self["ca.pem"])
        if client:
            context.load_cert_chain(self[f"{client}.pem"], self[f"{client}.key"])
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.issue("server", "server-one")
    made.issue("client", "client")
    return made


def tls_flags(certificates):
    return "--tls-cert", certificates["server.pem"], "--tls-key", certificates["server.key"]


def test_clients_speak_tls(start, certificates):
    server = start(TINY, *tls_flags(certificates), tls=certificates.context())
    assert server.url.startswith("https://")
    curl = subprocess.run(["curl", "-sS", "--cacert", certificates["ca.pem"], "-H", f"Authorization: Bearer {server.key}",
                           f"{server.url}/v1/models"], capture_output=True, text=True, check=True)
    assert json.loads(curl.stdout)["data"][0]["id"] == server.model
    insecure = subprocess.run(["curl", "-sS", f"{server.url}/v1/models"], capture_output=True, text=True, check=False)
    assert insecure.returncode == 60  # its certificate is not one that curl trusts by itself
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0,
                           http_client=httpx2.Client(verify=certificates.context()))
    chunks = list(client.completions.create(model=server.model, prompt="Hello", max_tokens=8, stream=True, temperature=0))
    whole = client.completions.create(model=server.model, prompt="Hello", max_tokens=8, temperature=0)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    plain = subprocess.run(["curl", "-s", f"http://{server.host}:{server.port}/v1/models"], capture_output=True, text=True, check=True)
    assert json.loads(plain.stdout)["error"]["code"] == "tls_required"


def s_client(server, certificates, *flags):
    command = ["openssl", "s_client", "-connect", f"{server.host}:{server.port}", "-CAfile", certificates["ca.pem"], "-verify_return_error",
               "-brief", *flags]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    return result.returncode, result.stdout + result.stderr


def test_openssl_agrees_on_nothing_old(start, certificates):
    server = start(TINY, *tls_flags(certificates), tls=certificates.context())
    code, said = s_client(server, certificates)
    assert code == 0 and "TLSv1.3" in said and "Verification: OK" in said
    code, said = s_client(server, certificates, "-tls1_2")
    assert code == 0 and "ECDHE" in said
    for flags in (["-tls1_1"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], ["-tls1_2", "-cipher", "AES128-GCM-SHA256"]):
        assert s_client(server, certificates, *flags)[0] != 0, flags


def test_client_certificates(start, certificates):
    server = start(TINY, *tls_flags(certificates), "--tls-client-ca", certificates["ca.pem"], tls=certificates.context("client"))
    assert server.get("/v1/models").status == 200
    server.tls = certificates.context()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.get("/v1/models")
    server.tls = certificates.context("client")
    assert server.get("/v1/models", authorized=False).status == 401  # the certificate opens the connection, the key the routes
    assert server.metric("neutrino_tls_handshake_failures_total") >= 1


def certificate_of(server, context):
    with socket.create_connection((server.host, server.port), timeout=10) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as connection:
        return dict(field[0] for field in connection.getpeercert()["subject"])["commonName"]


def test_a_renewed_certificate_under_load(start, certificates):
    """No stream and no connection is lost, and new connections see the new certificate."""
    server = start(TINY, *tls_flags(certificates), tls=certificates.context())
    connection = server.connect()
    failures, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            response = server.complete("Hello", max_tokens=4)
            if response.status != 200:
                failures.append(response.status)

    def kept_alive():
        connection.request("GET", "/v1/models", headers=server.headers())
        response = connection.getresponse()
        return response.status, response.read()

    assert kept_alive()[0] == 200
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    certificates.issue("server", "server-two")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: certificate_of(server, server.tls) == "server-two", 10, "the new certificate is served")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert kept_alive()[0] == 200  # on the connection from before
    assert server.metric("neutrino_config_reloads_total", what="tls", result="good") >= 1


def test_bad_files_are_told_before_the_model_is_loaded(certificates, tmp_path):
    bad_keys = tmp_path / "keys"
    bad_keys.write_text("# none\n")
    cases = [(["--api-key-file", bad_keys], "has no key"), (["--tls-cert", certificates["server.pem"]], "both --tls-cert and --tls-key"),
             (["--tls-cert", certificates["server.pem"], "--tls-key", certificates["client.key"]], "mismatch"),
             (["--otlp-endpoint", "collector:4317"], "collector")]
    for flags, said in cases:
        result = subprocess.run([RELEASE, "serve", tmp_path / "no-model.gguf", *flags], capture_output=True, text=True, timeout=20, check=False)
        assert result.returncode == 2 and said in result.stderr, (flags, result.stderr)


def test_beyond_loopback_tls_is_enough(start, certificates):
    server = start(TINY, *tls_flags(certificates), "--host", "0.0.0.0", tls=None, key="k", ready=False)
    server.host, server.tls = "127.0.0.1", certificates.context()
    wait_for(lambda: server.get("/v1/health/ready").status == 200, 30, "the server is ready")
    assert server.get("/v1/models").status == 200


def test_a_stream_over_tls_ends_with_its_client(start, certificates):
    server = start(TINY, *tls_flags(certificates), tls=certificates.context())
    connection = server.open_stream("/v1/completions", {"prompt": "a", "max_tokens": 200, "ignore_eos": True})
    next(events(connection.getresponse()))
    connection.close()
    wait_for(lambda: server.kv_blocks()["referenced"] == 0, 10, "its blocks are given back")
