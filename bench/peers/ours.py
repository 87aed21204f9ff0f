"""neutrino: the same works, by `neutrino bench` and `neutrino serve` of the release build, with their default settings."""
import base64
import concurrent.futures
import json
import time
import urllib.request

from . import works
from .llama_cpp import load_arguments, server_figures, stall_figures
from .processes import BUILD, Server, load, run, shown

KV_MEMORY_MIB = 64  # what the start work's server may use for keys and values
EMBEDDING_BATCH = 32


class Neutrino:
    name = "neutrino"

    def __init__(self, isa, threads):
        self.binary, self.threads = BUILD / "neutrino", threads
        self.environment = {} if isa == "native" else {"NEUTRINO_ISA": isa}
        self.commands = {}
        self.sentences = []  # for embeddings, as the peer's worker gave them

    def lacks(self, work):
        return None

    def stages(self, work):
        return []

    def facts(self, model):
        """backend, threads, weight_bytes and kv_bytes_per_position of a model that decodes."""
        command = [self.binary, "bench", model, "--threads", self.threads, "--work", "prefill", "--prefill", 16, "--repetitions", 1,
                   "--json"]
        return json.loads(run(command, self.environment))

    def sample(self, work, model, setting, light=False):
        return getattr(self, f"sample_{work.kind}")(work, model)

    def bench(self, work, model, *arguments):
        command = [self.binary, "bench", model, "--threads", self.threads, "--work", work.kind, *arguments, "--repetitions", 1,
                   "--json"]
        self.commands[work.key] = shown(command, self.environment)
        return {"rate": json.loads(run(command, self.environment))["rows"][0]["median_tokens_per_second"]}

    def sample_decode(self, work, model):
        return self.bench(work, model, "--context", work.size, "--decode", works.DECODE_STEPS)

    def sample_prefill(self, work, model):
        return self.bench(work, model, "--prefill", work.size)

    def sample_batch(self, work, model):
        return self.bench(work, model, "--batch", work.size, "--batch-prompt", works.BATCH_PROMPT, "--batch-decode",
                          works.BATCH_DECODE)

    def server(self, work, model, *arguments):
        command = [self.binary, "serve", model, "--port", 0, "--threads", self.threads, "--served-model-name", "m", "--api-key", "k",
                   "--request-log", "/dev/null", *arguments]
        self.commands[work.key] = shown(command, self.environment)
        return Server(command, self.environment)

    def sample_server(self, work, model):
        with self.server(work, model) as server:
            return server_figures(work, server.port)

    def sample_stall(self, work, model):
        with self.server(work, model) as server:
            return stall_figures(work, server.port)

    def sample_start(self, work, model):
        with self.server(work, model, "--kv-memory", f"{KV_MEMORY_MIB}M") as server:
            start, rss = server.first_token_ms(), server.rss_mib()
        return {"start": start, "rss": rss, "rss_over": rss - model.stat().st_size / 2**20 - KV_MEMORY_MIB}

    def sample_replicas(self, work, model):
        """Tokens per second of two servers with the load of one each, over those of one alone."""
        arguments = load_arguments(work)
        with self.server(work, model) as one:
            alone = load(one.port, *arguments)["tokens_per_second"]
        with self.server(work, model) as first, self.server(work, model) as second, \
                concurrent.futures.ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda server: load(server.port, *arguments), (first, second)))
        together = sum(load["output_tokens"] for load in both) / max(load["seconds"] for load in both)
        return {"share": together / alone, "alone": alone, "together": together}

    def sample_embeddings(self, work, model):
        batches = [self.sentences[i:i + EMBEDDING_BATCH] for i in range(0, len(self.sentences), EMBEDDING_BATCH)]
        with self.server(work, model) as server:
            embed(server.port, batches[0])
            start = time.perf_counter()
            for batch in batches:
                embed(server.port, batch)
            return {"rate": len(self.sentences) / (time.perf_counter() - start)}


def embed(port, texts):
    """The vectors of the texts, as bytes of little-endian float32."""
    body = json.dumps({"model": "m", "input": texts, "encoding_format": "base64"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/embeddings", body,
                                     {"Authorization": "Bearer k", "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return [base64.b64decode(item["embedding"]) for item in json.load(reply)["data"]]
