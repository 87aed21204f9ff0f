#!/usr/bin/env python3
"""neutrino beside sentence-transformers on the embedding model, in the same minutes.

1,000 sentences of 8 to 64 tokens in batches of 32, two threads each. Ours are sent over HTTP to `neutrino serve`, one
request a batch; the peer's encode() is called with the same batches (it sorts by length and pads). Rounds alternate; the
medians are compared. Needs a release build and a Python with sentence-transformers (tools/golden/requirements.txt):

    python bench/embedding_peers.py --model ~/.local/share/neutrino/cache/models/all-MiniLM-L6-v2
"""
import argparse
import base64
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
BATCH = 32


class Server:
    def __init__(self, model, threads):
        self.process = subprocess.Popen(
            [ROOT / "build/release/neutrino", "serve", model, "--port", "0", "--threads", str(threads), "--api-key", "k"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        self.url, self.model = line.split()[2], line.split("model=")[1].strip()

    def embed(self, texts):
        body = json.dumps({"model": self.model, "input": texts, "encoding_format": "base64"}).encode()
        request = urllib.request.Request(f"{self.url}/v1/embeddings", body,
                                         {"Authorization": "Bearer k", "Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            return [base64.b64decode(item["embedding"]) for item in json.load(reply)["data"]]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve_encode(peer, texts):
    peer.encode(texts[:BATCH])
    print(json.dumps(texts), flush=True)
    for line in sys.stdin:
        print(timed(lambda size=int(line): peer.encode(texts, batch_size=size)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true",
                        help="for `./dev bench peers`: print the sentences, then for each batch size on standard input encode "
                             "them once and print the seconds")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import numpy as np
    import torch
    from make_embedding_golden import sentences
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(options.threads)
    texts = list(sentences(1000, 2))
    peer = SentenceTransformer(options.model, device="cpu")
    if options.worker:
        serve_encode(peer, texts)
        return
    ours = Server(options.model, options.threads)
    try:
        batches = [texts[i:i + BATCH] for i in range(0, len(texts), BATCH)]
        mine = np.array([np.frombuffer(v, "<f4") for b in batches for v in ours.embed(b)])
        theirs = peer.encode(texts, batch_size=BATCH, normalize_embeddings=True)
        print(f"lowest cosine between the two: {(mine * theirs).sum(1).min():.6f}")
        times = {"neutrino": [], "sentence-transformers": []}
        for _ in range(options.rounds):
            times["neutrino"].append(timed(lambda: [ours.embed(b) for b in batches]))
            times["sentence-transformers"].append(timed(lambda: peer.encode(texts, batch_size=BATCH)))
    finally:
        ours.stop()
    rate = {name: len(texts) / statistics.median(t) for name, t in times.items()}
    for name, value in rate.items():
        print(f"{name:24} {value:8.1f} sentences/s")
    print(f"ratio {rate['neutrino'] / rate['sentence-transformers']:.2f}")


if __name__ == "__main__":
    main()
