#!/usr/bin/env python3
"""The gateway beside nginx as a plain proxy to the same stub replica, interleaved; and its memory and patience with many clients.

nginx and wrk come from apt: apt-get install nginx-light wrk. No test needs them.

    python3 bench/gateway.py [--build build/release] [--pairs 5] [--seconds 4] [throughput latency streams slowloris]
"""
import argparse
import asyncio
import contextlib
import hashlib
import json
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile

KEY = "sk-bench"
BODY = {"model": "bench", "messages": [{"role": "user", "content": "What is the capital of France? Answer in one word."}],
        "max_tokens": 16}

WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%f %%f %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
"""

NGINX = """
worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000000;
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host 127.0.0.1; proxy_buffering off; }} }}
}}
"""


def start(command):
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    return process, int(re.search(r"port (\d+)", line).group(1))


def free_port():
    import socket
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(build, stub_flags=()):
    """A stub, the gateway and nginx in front of it: their ports, and the gateway's process."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        processes = []
        try:
            stub, stub_port = start([build / "bench/stub_replica", *stub_flags])
            processes.append(stub)
            table = {"version": 1,
                     "endpoints": [{"id": "e", "workspace": "w", "name": "bench", "prices": {"input": 20, "output": 60},
                                    "limits": {"requests_per_minute": 100_000_000},
                                    "deployments": [{"id": "d", "replicas": [
                                        {"id": "r", "host": "127.0.0.1", "port": stub_port}]}]}],
                     "keys": [{"id": f"k{i}", "workspace": "w", "budgets": ["b"],
                               "limits": {"requests_per_minute": 100_000_000, "concurrency": 100_000},
                               "digest": hashlib.sha256(f"sk-{i}".encode() if i else KEY.encode()).hexdigest()}
                              for i in range(1000)],
                     "budgets": [{"id": "b", "limit": 1 << 60}]}
            (folder / "routes.json").write_text(json.dumps(table))
            gateway, gateway_port = start([build / "bench/gateway_server", "--routes", folder / "routes.json", "--journal",
                                           folder / "journal"])
            processes.append(gateway)
            nginx_port = free_port()
            (folder / "nginx.conf").write_text(NGINX.format(folder=folder, stub=stub_port, port=nginx_port))
            processes.append(subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder]))
            import time
            time.sleep(0.5)
            yield {"stub": stub_port, "gateway": gateway_port, "nginx": nginx_port}, gateway
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(timeout=20)


def wrk(port, connections, seconds, stream=False):
    """Requests per second, p50 and p99 in ms; any error is fatal."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT % (json.dumps({**BODY, "stream": stream}), KEY))
        script.flush()
        out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, f"http://127.0.0.1:{port}"],
                             capture_output=True, text=True, check=True).stdout
    requests, micros, p50, p99, errors = map(float, re.search(r"RESULT (.*)", out).group(1).split())
    if errors or not requests:
        sys.exit(f"errors: {out}")
    return requests / micros * 1e6, p50 / 1000, p99 / 1000


def throughput(options):
    result = {}
    with running(options.build) as (ports, _):
        for stream in (False, True):
            ratios, rates = [], {"gateway": [], "nginx": []}
            for pair in range(options.pairs):
                for name in ("gateway", "nginx") if pair % 2 else ("nginx", "gateway"):
                    rates[name].append(wrk(ports[name], 64, options.seconds, stream)[0])
                ratios.append(rates["gateway"][-1] / rates["nginx"][-1])
            what = "streams of 16 tokens" if stream else "answers"
            direct = wrk(ports["stub"], 64, options.seconds, stream)[0]
            result[what] = statistics.median(ratios)
            print(f"{what}: gateway {statistics.median(rates['gateway']):.0f}/s, nginx {statistics.median(rates['nginx']):.0f}/s, "
                  f"stub alone {direct:.0f}/s; ratio median {result[what]:.3f} of {', '.join(f'{r:.3f}' for r in ratios)}")
    return {"requests_ratio": result["answers"], "streams_ratio": result["streams of 16 tokens"]}


def latency(options):
    added = []
    with running(options.build) as (ports, _):
        for _ in range(options.pairs):
            direct = wrk(ports["stub"], 1, 2)[1]
            through = wrk(ports["gateway"], 1, 2)[1]
            nginx = wrk(ports["nginx"], 1, 2)[1]
            added.append(through - direct)
            print(f"one client: direct p50 {direct:.3f} ms, through the gateway {through:.3f} ms, through nginx {nginx:.3f} ms")
    print(f"added latency p50: {statistics.median(added):.3f} ms")
    return {"added_p50_ms": statistics.median(added)}


def rss_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


async def open_streams(port, count):
    body = json.dumps({**BODY, "stream": True, "max_tokens": 1000})
    request = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
               f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()
    clients = []

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 ** 12)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        await reader.readuntil(b"word")
        clients.append((reader, writer))

    for begin in range(0, count, 250):
        await asyncio.gather(*(one() for _ in range(min(250, count - begin))))
    return clients


def streams(options):
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    with running(options.build, ["--token-ms", "2000"]) as (ports, gateway):
        before = rss_mib(gateway)

        async def measure():
            clients = await open_streams(ports["gateway"], options.streams)
            await asyncio.sleep(3)
            used = rss_mib(gateway)
            for _, writer in clients:
                writer.transport.abort()
            return used

        used = asyncio.run(measure())
    print(f"{options.streams} open streams: {used:.0f} MiB resident (idle {before:.0f} MiB), "
          f"{(used - before) * 1024 / options.streams:.1f} KiB each")
    return {"streams_mib": used}


def slowloris(options):
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    script = pathlib.Path(__file__).with_name("slow_clients.py")
    ratios = []
    with running(options.build) as (ports, process):
        for pair in range(options.pairs):
            p99 = {}
            for kind in ("attacked", "quiet") if pair % 2 else ("quiet", "attacked"):
                attacker = None
                if kind == "attacked":
                    attacker = subprocess.Popen([sys.executable, script, str(ports["gateway"]), "2000"], stdout=subprocess.PIPE, text=True)
                    attacker.stdout.readline()
                p99[kind] = wrk(ports["gateway"], 8, options.seconds * 2)[2]
                if attacker:
                    attacker.kill()
                    attacker.wait()
            ratios.append(p99["attacked"] / p99["quiet"])
            print(f"p99 quiet {p99['quiet']:.3f} ms, with 2,000 slow clients {p99['attacked']:.3f} ms")
    print(f"p99 with slow clients / without: median {statistics.median(ratios):.3f} of {', '.join(f'{r:.3f}' for r in ratios)}")
    return {"slowloris_p99_ratio": statistics.median(ratios)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("what", nargs="*", default=["throughput", "latency", "streams", "slowloris"])
    options = parser.parse_args()
    parts = {"throughput": throughput, "latency": latency, "streams": streams, "slowloris": slowloris}
    figures = {}
    for name in options.what:
        figures |= parts[name](options)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
