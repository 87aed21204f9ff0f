"""The rows: what is measured, and what the figure must reach on the column of kernels that a run belongs to.

A work is one thing to do, the same for every engine; its metrics are rows of the table. Columns: "amx" where the CPU has AMX
and no table was asked for, "avx2" with `--isa avx2` on both sides, "avx512" for a CPU between the two: the table of demands
has no such column, so only those that hold for every table ("all") are asked there.
"""
import dataclasses

from .judge import Demand


@dataclasses.dataclass(frozen=True)
class Metric:
    key: str              # in a sample
    title: str
    unit: str
    demands: dict = dataclasses.field(default_factory=dict)  # by column, or "all"
    lower: bool = False   # less is better
    limited: bool = False  # by the bandwidth of memory: its share of that limit is a figure

    def demand(self, column):
        return self.demands.get(column) or self.demands.get("all")


@dataclasses.dataclass(frozen=True)
class Work:
    key: str
    kind: str             # what an engine is asked to do: "decode", "prefill", "batch", "server", ...
    metrics: tuple
    model: str = "main"   # key of a model file
    size: int = 0         # context, prompt tokens, sequences, tokens of the prompt beside a stream
    shared: int = 0       # tokens that all prompts of a server's load have at their head


DECODE_STEPS = 64         # from the context on: the figure is that of the context plus half of them
BATCH_PROMPT, BATCH_DECODE = 128, 64
CLIENTS, REQUESTS, OUTPUT = 8, 32, 64
LIGHTER = ("batch", "server")  # kinds that calibration measures in a shorter form
RATE = "tokens/s"


def demands(amx=None, avx2=None):
    return {column: Demand(**fields) for column, fields in (("amx", amx), ("avx2", avx2)) if fields}


def decode(context, amx, avx2, model="main", title=""):
    prefix = "" if model == "main" else f"{model}-"
    return Work(f"{prefix}decode-{context}", "decode", model=model, size=context, metrics=(
        Metric("rate", f"{title}decode at context {context}", RATE, demands(amx, avx2), limited=True),))


def prefill(size, amx, avx2, model="main", title=""):
    prefix = "" if model == "main" else f"{model}-"
    return Work(f"{prefix}prefill-{size}", "prefill", model=model, size=size, metrics=(
        Metric("rate", f"{title}prefill {size}", RATE, demands(amx, avx2)),))


def batch(size, amx, avx2):
    return Work(f"batch-{size}", "batch", size=size, metrics=(
        Metric("rate", f"batched decode {size} ({BATCH_PROMPT} + {BATCH_DECODE})", RATE, demands(amx, avx2)),))


def server(key, title, shared, size, rate, first):
    return Work(key, "server", size=size, shared=shared, metrics=(
        Metric("rate", title, RATE, demands({"ratio_min": rate[0]}, {"ratio_min": rate[1]})),
        Metric("first", f"{title}: TTFT p50", "ms", demands({"ratio_max": first[0]}, {"ratio_max": first[1]}), lower=True)))


def weights(kind, amx, avx2):
    return (decode(128, {"ratio_min": 1.5}, {"ratio_min": 1.3}, kind, f"{kind.upper()}: "),
            prefill(512, {"ratio_min": amx}, {"ratio_min": avx2}, kind, f"{kind.upper()}: "))


WORKS = (
    decode(128, {"ratio_min": 1.5, "share_min": 0.68}, {"ratio_min": 2.2, "share_min": 0.75, "either": True}),
    decode(512, {"ratio_min": 1.8}, {"ratio_min": 2.5}),
    decode(2048, {"ratio_min": 2.5}, {"ratio_min": 2.5}),
    prefill(512, {"ratio_min": 3.5}, {"ratio_min": 2.5}),
    prefill(2048, {"ratio_min": 5}, {"ratio_min": 2.7}),
    batch(8, {"ratio_min": 4}, {"ratio_min": 2.5}),
    batch(32, {"ratio_min": 5}, {"ratio_min": 2.8}),
    server("server", f"server, {CLIENTS} clients, 128 + {OUTPUT}", 0, 128, (3.5, 2), (0.25, 0.5)),
    server("shared", f"server, {CLIENTS} clients, 256 shared + 64 + {OUTPUT}", 256, 64, (6, 3.5), (0.12, 0.2)),
    Work("stall", "stall", size=2048, metrics=(
        Metric("gap", "longest gap of a stream, 2048 prefilled beside", "ms", demands({"value_max": 60}, {"value_max": 150}),
               lower=True),)),
    Work("embeddings", "embeddings", model="minilm", metrics=(
        Metric("rate", "MiniLM, 1,000 sentences", "sentences/s", demands({"ratio_min": 3}, {"ratio_min": 1.3})),)),
    decode(128, {"ratio_min": 1.6, "share_min": 0.7, "either": True}, {"ratio_min": 1.5}, "gemma", "Gemma-3-270M: "),
    prefill(512, {"ratio_min": 5}, {"ratio_min": 2}, "gemma", "Gemma-3-270M: "),
    *weights("q8_0", 2.5, 1.5), *weights("q4_0", 3.5, 2), *weights("bf16", 6, 2),
    Work("start", "start", metrics=(
        Metric("start", "start to first token", "ms", {"all": Demand(value_max=300)}, lower=True),
        Metric("rss", "RSS after load", "MiB", lower=True),
        Metric("rss_over", "RSS after load over file + KV budget", "MiB", {"all": Demand(value_max=64)}, lower=True))),
    Work("replicas", "replicas", size=128, metrics=(
        Metric("share", "two replicas together, of one", "×", {"all": Demand(value_min=0.9)}),)),
)


def select(names):
    """The works whose key starts with one of the names; all of them without names. Unknown names raise ValueError."""
    for name in names:
        if not any(work.key.startswith(name) for work in WORKS):
            raise ValueError(f"--rows: no row starts with '{name}'; there are {', '.join(work.key for work in WORKS)}")
    return [work for work in WORKS if not names or any(work.key.startswith(name) for name in names)]
