"""Commands, servers, the canary, and whose CPU time it was."""
import contextlib
import http.client
import json
import os
import pathlib
import resource
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"
TIMEOUT_S = 300  # of one sample: the longest takes half a minute on an idle machine


def run(command, environment=None):
    """Standard output of a command; raises RuntimeError with the end of what it said when it fails."""
    result = subprocess.run([str(part) for part in command], env={**os.environ, **(environment or {})}, capture_output=True,
                            text=True, timeout=TIMEOUT_S, check=False)
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{pathlib.Path(str(command[0])).name} ended with {result.returncode}: {' / '.join(said)}")
    return result.stdout


def shown(command, environment=None):
    """A command without this machine's paths, for the history."""
    def word(part):
        part = str(part)
        return pathlib.Path(part).name if part.startswith("/") else part
    return " ".join([f"{key}={value}" for key, value in (environment or {}).items() if key != "LD_LIBRARY_PATH"]
                    + [word(part) for part in command])


def canary(threads, size_bytes):
    return json.loads(run([BUILD / "bench" / "canary", "--threads", threads, "--bytes", size_bytes]))


def load(port, *arguments):
    return json.loads(run(load_command(port, *arguments)))


def load_command(port, *arguments):
    return [BUILD / "bench" / "load_generator", "--port", port, *arguments]


def busy_seconds():
    """CPU time that somebody had since the machine started, and what the host took from us."""
    fields = [int(value) for value in pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds(pids=()):
    """CPU time of this process, its ended children and the living processes `pids`."""
    total = 0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class OthersClock:
    """The share of the machine that other processes had since this was made. Children must have ended to count as ours."""

    def __init__(self, pids=()):
        self.pids, self.start, self.busy, self.own = pids, time.monotonic(), busy_seconds(), own_seconds(pids)

    def share(self):
        elapsed = max(time.monotonic() - self.start, 0.05)
        others = (busy_seconds() - self.busy) - (own_seconds(self.pids) - self.own)
        return max(0.0, others) / (elapsed * os.cpu_count())


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server process on loopback. `port` None: its ready line names it, as neutrino's does."""

    def __init__(self, command, environment=None, port=None):
        self.started = time.monotonic()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(part) for part in command], env={**os.environ, **(environment or {})},
                                        stdout=subprocess.PIPE if port is None else self.log, stderr=self.log)
        try:
            self.port = port or self.port_from_ready_line()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def port_from_ready_line(self):
        line = self.process.stdout.readline().decode()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {self.last_words()}")
        return int(line.split("http://", 1)[1].split()[0].rsplit(":", 1)[1])

    def wait_until_ready(self):
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.last_words()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                with contextlib.closing(connection):
                    connection.request("GET", "/health")
                    if connection.getresponse().status == 200:
                        return
            if time.monotonic() - self.started > 120:
                raise RuntimeError(f"the server was not ready within 120 s: {self.last_words()}")
            time.sleep(0.003)

    def last_words(self):
        self.log.seek(0)
        return " / ".join(self.log.read().decode(errors="replace").strip().splitlines()[-3:])

    def first_token_ms(self):
        """From the start of the process to the first token of a short prompt."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            body = {"model": "m", "prompt": list(range(1000, 1016)), "max_tokens": 2, "temperature": 0, "ignore_eos": True,
                    "stream": True}
            connection.request("POST", "/v1/completions", json.dumps(body),
                               {"Content-Type": "application/json", "Authorization": "Bearer k"})
            response = connection.getresponse()
            for line in response:
                if line.startswith(b"data:") and b'"text"' in line:
                    elapsed = (time.monotonic() - self.started) * 1e3
                    response.read()
                    return elapsed
            raise RuntimeError(f"no token came: status {response.status}")

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the server has no VmRSS")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
