"""A cloud of our own for a test: `neutrino up` in a home of its own, its API, and a steady load of streams on its gateway."""
import asyncio
import contextlib
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
import urllib.parse

import harness

STUB = harness.RELEASE.parent / "bench" / "stub_replica"
ADDRESSES = re.compile(r"inference (\S+)/v1, API (\S+)/api/v1")


class Cloud:
    def __init__(self, home, *flags, ports=(0, 0), binary=harness.RELEASE):
        self.home, self.flags = pathlib.Path(home), flags
        self.log_path = pathlib.Path(tempfile.mkstemp(prefix="up-", suffix=".log", dir=home)[1])
        command = [str(binary), "up", "--port", str(ports[0]), "--api-port", str(ports[1]), *map(str, flags)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment())
        self.inference, self.api_url = self._read_addresses()
        threading.Thread(target=self._drain_stdout, daemon=True).start()
        self.token = None

    def environment(self):
        return os.environ | {"NEUTRINO_HOME": str(self.home)}

    def _read_addresses(self):
        for line in self.process.stdout:
            if match := ADDRESSES.search(line):
                return match.group(1), match.group(2)
        raise AssertionError(f"up ended with {self.process.wait()} before it was ready:\n{self.log()}")

    def _drain_stdout(self):
        for _ in self.process.stdout:
            pass

    def log(self):
        return self.log_path.read_text(errors="replace")

    @property
    def ports(self):
        return tuple(urllib.parse.urlsplit(url).port for url in (self.inference, self.api_url))

    # ---- the API

    def request(self, url, method, path, body=None, token=None, headers=None, timeout_s=60):
        where = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=timeout_s)
        send = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            send["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), send | (headers or {}))
            raw = connection.getresponse()
            return harness.Response(raw, raw.read())
        finally:
            connection.close()

    def sign_in(self):
        """With the key that the first start leaves in a file; good once."""
        key_file = self.home / "cloud" / "one-time-key"
        harness.wait_for(key_file.exists, 30, "there is a one-time key")
        answer = self.request(self.api_url, "POST", "/api/v1/login/one-time-key", {"key": key_file.read_text().strip()})
        assert answer.status == 200, answer.body
        self.token = answer.json()["token"]

    def api(self, method, path, body=None, expect=None, **options):
        answer = self.request(self.api_url, method, "/api/v1" + path, body, self.token, **options)
        assert expect is None or answer.status == expect, (method, path, answer.status, answer.body[:2000])
        return answer

    def make_key(self, name, **fields):
        """The key, once the gateway knows it, and its id."""
        made = self.api("POST", "/keys", {"name": name, **fields}, expect=201).json()
        harness.wait_for(lambda: self.request(self.inference, "GET", "/v1/models", token=made["key"]).status == 200, 10,
                         "the gateway knows the key")
        return made["key"], made["id"]

    def make_stubs(self, name, replicas=1, flags=(), **fields):
        """An endpoint of stub replicas."""
        deployment = {"name": "main", "command": stub_command(*flags), "replicas": replicas, "memory_bytes": 64 << 20,
                      "ready_path": "/health"}
        body = {"name": name, "deployments": [deployment | fields.pop("deployment", {})], **fields}
        return self.api("POST", "/endpoints", body, expect=201).json()

    def endpoint(self, name):
        return self.api("GET", f"/endpoints/{name}", expect=200).json()

    def replicas(self, **filters):
        query = urllib.parse.urlencode(filters)
        return self.api("GET", f"/replicas?limit=1000&{query}", expect=200).json()["items"]

    def events(self, **filters):
        return self.api("GET", "/events?limit=1000&" + urllib.parse.urlencode(filters), expect=200).json()["items"]

    def wait_ready(self, name, count, timeout_s=60):
        harness.wait_for(lambda: self.endpoint(name)["status"]["ready"] == count, timeout_s,
                         lambda: f"{count} ready replicas: {self.endpoint(name)['status']} {self.events()[-5:]}")

    # ---- inference

    def chat(self, key, model, text="Hello", **options):
        timeout_s = options.pop("timeout_s", 120)
        body = {"model": model, "messages": harness.user(text), **options}
        return self.request(self.inference, "POST", "/v1/chat/completions", body, key, timeout_s=timeout_s)

    # ---- processes

    def child(self, name):
        """The pid of `gateway` or `control-plane`; None while it is not there."""
        for pid in children_of(self.process.pid):
            if name in command_line(pid)[1:2]:
                return pid
        return None

    def kill(self, name):
        pid = self.child(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_back(self, name, before, timeout_s=10):
        harness.wait_for(lambda: self.child(name) not in (None, before), timeout_s, f"{name} is back")

    def end_replicas(self):
        """Ends what outlives the cloud on purpose."""
        for endpoint in self.api("GET", "/endpoints?limit=1000", expect=200).json()["items"]:
            self.api("DELETE", f"/endpoints/{endpoint['id']}")
        folder = self.home / "cloud" / "replicas"
        harness.wait_for(lambda: not keepers_of(folder), 60, "all replicas have ended")

    def stop(self, timeout_s=60):
        return harness.stop(self.process, timeout_s)


@contextlib.contextmanager
def signed_in(home, *flags):
    """A cloud for a while; what is left of replicas ends with it."""
    cloud = Cloud(home, *flags)
    try:
        cloud.sign_in()
        yield cloud
        cloud.end_replicas()
        assert cloud.stop() == 0, cloud.log()[-4000:]
    finally:
        cloud.stop()


def stub_command(*flags):
    return [str(STUB), "--host", "{host}", "--port", "{port}", *map(str, flags)]


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def children_of(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def keepers_of(folder):
    """Pids of the keepers whose replicas have their folders in `folder`."""
    pids = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if command_line(pid)[1:2] == ["keeper"] and str(folder) in " ".join(command_line(pid))]


class Terminal:
    """`neutrino ...` in a home, as a person types it."""

    def __init__(self, home):
        self.home = home

    def run(self, *arguments, stdin="", timeout_s=60, **environment):
        settings = os.environ | {"NEUTRINO_HOME": str(self.home), "NO_COLOR": "1"} | environment
        return subprocess.run([harness.RELEASE, *map(str, arguments)], env=settings, input=stdin, capture_output=True, text=True,
                              timeout=timeout_s, check=False)

    def __call__(self, *arguments, **options):
        result = self.run(*arguments, **options)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options))

    def fails(self, code, *arguments, **options):
        result = self.run(*arguments, **options)
        assert result.returncode == code and result.stderr.strip(), (arguments, result)
        return result.stderr

    def start(self, *arguments):
        settings = os.environ | {"NEUTRINO_HOME": str(self.home), "NO_COLOR": "1"}
        return subprocess.Popen([harness.RELEASE, *map(str, arguments)], env=settings, stdout=subprocess.PIPE, text=True)


class Load:
    """Streams at a steady rate, whether those before have ended or not. Each is checked to its last token."""

    def __init__(self, url, key, model, rate, tokens):
        self.where = urllib.parse.urlsplit(url)
        self.rate, self.tokens = rate, tokens
        body = json.dumps({"model": model, "messages": harness.user("count"), "stream": True, "max_tokens": tokens})
        self.message = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.where.netloc}\r\nAuthorization: Bearer {key}\r\n"
                        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}").encode()
        self.good, self.bad, self.open = 0, [], 0
        self.stopping = False
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.thread.start()

    async def _run(self):
        tasks = set()
        begin, count = time.monotonic(), 0
        while not self.stopping:
            task = asyncio.create_task(self._stream())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            count += 1
            await asyncio.sleep(max(0, begin + count / self.rate - time.monotonic()))
        await asyncio.gather(*tasks)

    async def _stream(self):
        self.open += 1
        try:
            text = await asyncio.wait_for(self._exchange(), 120)
            problem = self._problem(text)
        except Exception as error:  # whatever it is, a client had it
            problem = repr(error)
        self.open -= 1
        if problem:
            self.bad.append((time.monotonic(), problem))
        else:
            self.good += 1

    async def _exchange(self):
        reader, writer = await asyncio.open_connection(self.where.hostname, self.where.port)
        writer.write(self.message)
        text = await reader.read(-1)
        writer.close()
        return text.decode(errors="replace")

    def _problem(self, text):
        if not text.startswith("HTTP/1.1 200"):
            return text[:400] or "nothing"
        pieces = text.count('"content":') - text.count('"content":""')
        if "data: [DONE]" not in text or pieces != self.tokens:
            return f"truncated after {pieces} of {self.tokens}: {text[-300:]}"
        return None

    def stop(self):
        self.stopping = True
        self.thread.join()
        return self
