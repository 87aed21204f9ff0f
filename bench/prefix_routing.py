#!/usr/bin/env python3
"""Routing by prefix beside other policies: eight stub replicas that compute prompts one after the other and keep the prefixes used last,
the gateway in front of them, and an open loop of streams. Each run has fresh replicas; the two policies of a pair get the same requests at
the same moments.

    python3 bench/prefix_routing.py [--build build/release] [--rounds 3] [--seconds 40] [shared random hot]

Exits with 1 where a bar is missed: shared prefixes must have at most half of round robin's mean time to first token, random prompts at most
1.05 of least-loaded's, and one hot prefix no replica that is overloaded.
"""
import argparse
import asyncio
import contextlib
import hashlib
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time

import gateway

REPLICAS, PREFIXES, CACHED, PREFIX_TOKENS, SUFFIX_TOKENS = 8, 64, 12, 2048, 64
TOKENS_PER_SECOND = 10_000  # of prompt, by each replica
ANSWER_TOKENS, TOKEN_MS = 16, 30


@contextlib.contextmanager
def running(build, policy):
    """The port of a gateway in front of eight fresh stubs, and their log files."""
    with tempfile.TemporaryDirectory() as name:
        folder, processes = pathlib.Path(name), []
        try:
            replicas = []
            for i in range(REPLICAS):
                process, port = gateway.start([build / "bench/stub_replica", "--prefill", TOKENS_PER_SECOND, "--token-ms", TOKEN_MS,
                                               "--cache-tokens", CACHED * PREFIX_TOKENS, "--log", folder / f"{i}.log"])
                processes.append(process)
                replicas.append({"id": f"r{i}", "host": "127.0.0.1", "port": port, "cache_tokens": CACHED * PREFIX_TOKENS})
            table = {"version": 1,
                     "endpoints": [{"id": "e", "workspace": "w", "name": "bench", "policy": policy,
                                    "deployments": [{"id": "d", "replicas": replicas}]}],
                     "keys": [{"id": "k", "workspace": "w", "digest": hashlib.sha256(gateway.KEY.encode()).hexdigest()}]}
            (folder / "routes.json").write_text(json.dumps(table))
            process, port = gateway.start([build / "bench/gateway_server", "--routes", folder / "routes.json", "--journal", folder / "journal"])
            processes.append(process)
            yield port, [folder / f"{i}.log" for i in range(REPLICAS)]
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(timeout=20)


def prompt(prefix, number, suffix_tokens):
    """At four bytes a token, which is what stub and gateway count."""
    return f"prefix {prefix} ".ljust(4 * PREFIX_TOKENS, ".") + f"request {number} ".ljust(4 * suffix_tokens, ".")


def schedule(seed, seconds, rate, prefix_of, suffix_tokens):
    """(moment, text) of each request: a Poisson process."""
    chance, moment, made = random.Random(seed), 0.0, []
    while (moment := moment + chance.expovariate(rate)) < seconds:
        made.append((moment, prompt(prefix_of(chance, len(made)), len(made), suffix_tokens)))
    return made


async def first_token_s(port, text):
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": ANSWER_TOKENS})
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.KEY}\r\nConnection: close\r\n"
                  f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
    await reader.readuntil(b'"content":"word')
    took = time.monotonic() - begin
    rest = await reader.read(-1)
    writer.close()
    assert b"[DONE]" in rest
    return took


def measure(build, policy, requests):
    """Mean and p90 of the time to the first token once caches are warm, and the busiest replica's share of time computing prompts."""
    async def run(port):
        begin, tasks = time.monotonic(), []
        for moment, text in requests:
            await asyncio.sleep(max(0, begin + moment - time.monotonic()))
            tasks.append(asyncio.create_task(first_token_s(port, text)))
        return await asyncio.gather(*tasks)

    with running(build, policy) as (port, logs):
        times = sorted(asyncio.run(run(port))[len(requests) // 5:])
        lines = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    computed = [sum(one["prompt_tokens"] - one["cached_tokens"] for one in log) for log in lines]
    busiest = max(computed) / TOKENS_PER_SECOND / requests[-1][0]
    return statistics.mean(times), times[len(times) * 9 // 10], busiest


def compare(options, what, policies, **traffic):
    """The last policy's mean over the first's, round by round; prints all."""
    ratios, busiest = [], []
    for seed in range(options.rounds):
        requests = schedule(seed, options.seconds, **traffic)
        runs = {policy: measure(options.build, policy, requests) for policy in (policies if seed % 2 else reversed(policies))}
        for policy in policies:
            mean, p90, share = runs[policy]
            print(f"{what}, {policy:12}: mean {mean * 1000:4.0f} ms, p90 {p90 * 1000:4.0f} ms, busiest replica {share:.2f}", flush=True)
        ratios.append(runs[policies[-1]][0] / runs[policies[0]][0])
        busiest.append(runs[policies[-1]][2])
    return statistics.median(ratios), statistics.median(busiest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("what", nargs="*", default=["shared", "random", "hot"])
    options = parser.parse_args()
    rate = 0.7 * REPLICAS * TOKENS_PER_SECOND / (PREFIX_TOKENS + SUFFIX_TOKENS)  # of capacity without any cache
    figures, good = {}, True
    if "shared" in options.what:
        ratio, _ = compare(options, "64 prefixes", ["round_robin", "prefix"], rate=rate, suffix_tokens=SUFFIX_TOKENS,
                           prefix_of=lambda chance, _: chance.randrange(PREFIXES))
        figures["prefix_over_round_robin"], good = ratio, good and ratio <= 0.5
    if "random" in options.what:
        ratio, _ = compare(options, "random prompts", ["least_loaded", "prefix"], rate=rate, suffix_tokens=SUFFIX_TOKENS,
                           prefix_of=lambda _, number: PREFIXES + number)
        figures["prefix_over_least_loaded"], good = ratio, good and ratio <= 1.05
    if "hot" in options.what:  # the work of 2.4 replicas has one prefix, of the 4 that all takes
        _, busiest = compare(options, "one hot prefix", ["least_loaded", "prefix"], rate=0.5 * REPLICAS * TOKENS_PER_SECOND / 512,
                             suffix_tokens=512, prefix_of=lambda chance, _: 0 if chance.random() < 0.6 else chance.randrange(PREFIXES))
        figures["hot_prefix_busiest_replica"], good = busiest, good and busiest <= 0.9
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
