"""llama.cpp, and its fork ik_llama.cpp: how they are built, called and understood.

llama.cpp is the copy in the source package `llama-cpp-python`, built with clang (g++ 12 miscompiles its AMX code) outside the
clone, once for each instruction set: "native" for this very CPU, "avx2" with nothing beyond AVX2, FMA, F16C and BMI2.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

from . import works
from .processes import Server, free_port, load, run, shown

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
COMMIT = "0c1e57098"  # of llama.cpp, in that package
ISA_FLAGS = {
    "native": ["-DGGML_NATIVE=ON"],
    "avx2": ["-DGGML_NATIVE=OFF", "-DGGML_AVX=ON", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON",
             "-DGGML_AVX512=OFF", "-DGGML_AVX512_VNNI=OFF", "-DGGML_AVX512_BF16=OFF", "-DGGML_AVX_VNNI=OFF",
             "-DGGML_AMX_TILE=OFF", "-DGGML_AMX_INT8=OFF", "-DGGML_AMX_BF16=OFF"],
}
CMAKE_FLAGS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++",
    "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
]
TOOLS = ("llama-bench", "llama-batched-bench", "llama-server")


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "neutrino" / "peers" / f"llama.cpp-{VERSION}"


def build_peer(isa="native", tools=TOOLS):
    """The folder of the peer's tools for "native" or "avx2", built on first use."""
    folder = cache_folder()
    binaries = folder / isa / "bin"
    if all((binaries / name).exists() for name in tools):
        return binaries
    print(f"building llama.cpp ({isa}) in {folder} (once; many minutes)", file=sys.stderr)
    source = fetch_source(folder)
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["cmake", "-S", source, "-B", folder / isa, "-G", "Ninja", *CMAKE_FLAGS, *ISA_FLAGS[isa]], **quiet)
    subprocess.run(["ninja", "-C", folder / isa, *tools], **quiet)
    return binaries


def compile_client(folder):
    """bench/llama_peer.cpp against the peer's libraries: the program, in the folder."""
    tools = build_peer("native", ["llama-bench"])
    cache = (tools.parent / "CMakeCache.txt").read_text(encoding="utf-8")
    source = pathlib.Path(re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache, re.MULTILINE).group(1))
    program = folder / "llama_peer"
    subprocess.run(["clang++", "-std=c++17", "-O2", pathlib.Path(__file__).resolve().parent.parent / "llama_peer.cpp",
                    f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}", f"-L{tools}", "-lllama", "-lggml",
                    "-lggml-base", f"-Wl,-rpath,{tools}", "-o", program], check=True)
    return program


def fetch_source(folder):
    """llama.cpp's source tree under the folder, downloaded and unpacked where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.tar.gz")):
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", folder,
                        f"{PACKAGE}=={VERSION}"], check=True)
    archive = next(folder.glob("*.tar.gz"))
    source = folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    if not (source / "CMakeLists.txt").exists():
        subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    return source


def bench_rate(text):
    """Tokens per second from llama-bench's JSON: that of the test that generates, or else of the prompt."""
    return json.loads(text)[-1]["avg_ts"]


def batched_rate(text):
    """Tokens per second of decode from llama-batched-bench: a JSON line, or a row of the table that older forms print."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)["speed_tg"]
        cells = [cell.strip() for cell in line.strip("| \n").split("|")]
        if len(cells) == 10 and cells[0].isdigit():
            return float(cells[7])
    raise RuntimeError("llama-batched-bench printed no result")


class LlamaCpp:
    """The peer. A setting is a dict: "fa" on or off, "t" threads, and "b", "ub", "cram", "warmup" where they matter."""
    name = "llama.cpp"
    KINDS = ("decode", "prefill", "batch", "server", "stall", "start")

    def __init__(self, tools, threads):
        self.tools, self.threads = pathlib.Path(tools), threads
        self.environment = {"LD_LIBRARY_PATH": str(self.tools)}
        self.commands = {}  # the last one of each work

    def lacks(self, work):
        """Why it cannot do a work, or None."""
        if work.kind not in self.KINDS:
            return "has no such work"
        tool = {"decode": "llama-bench", "prefill": "llama-bench", "batch": "llama-batched-bench"}.get(work.kind, "llama-server")
        return None if (self.tools / tool).exists() else f"{tool} is missing"

    def stages(self, work):
        """What calibration tries: each stage upon the best of the ones before."""
        attention = [{"fa": "off"}, {"fa": "on"}]
        if work.kind == "decode":
            return [attention, [{}, {"t": 1}] if self.threads > 1 else [{}]]
        if work.kind == "prefill":
            return [attention, [{}, {"ub": 128 if work.size <= 512 else 2048}]]  # the default is 512
        return {"batch": [attention], "server": [attention, [{}, {"cram": 0}]], "stall": [attention, [{}, {"b": 256}]],
                "start": [[{}, {"warmup": "off"}]]}[work.kind]

    def sample(self, work, model, setting, light=False):
        """{metric: value}. `light`: a shorter form of the same, for calibration."""
        return getattr(self, f"sample_{work.kind}")(work, model, setting, light)

    def ask(self, work, command):
        self.commands[work.key] = shown(command)
        return run(command, self.environment)

    def flags(self, setting):
        """What llama-bench and llama-batched-bench have in common."""
        flags = ["-t", setting.get("t", self.threads)]
        if "ub" in setting:
            flags += ["-ub", setting["ub"], "-b", max(2048, setting["ub"])]
        return flags

    def sample_decode(self, work, model, setting, light):
        command = [self.tools / "llama-bench", "-m", model, *self.flags(setting), *self.decode_flags(work.size), "-r", 1,
                   "-o", "json", "-fa", int(setting["fa"] == "on")]
        return {"rate": bench_rate(self.ask(work, command))}

    def decode_flags(self, context):
        return ["-p", 0, "-n", works.DECODE_STEPS, "-d", context]

    def sample_prefill(self, work, model, setting, light):
        command = [self.tools / "llama-bench", "-m", model, *self.flags(setting), "-p", work.size, "-n", 0, "-r", 1,
                   "-o", "json", "-fa", int(setting["fa"] == "on")]
        return {"rate": bench_rate(self.ask(work, command))}

    def sample_batch(self, work, model, setting, light):
        steps = works.BATCH_DECODE // 4 if light else works.BATCH_DECODE
        command = [self.tools / "llama-batched-bench", "-m", model, *self.flags(setting),
                   "-c", work.size * (works.BATCH_PROMPT + works.BATCH_DECODE), "-npp", works.BATCH_PROMPT, "-ntg", steps,
                   "-npl", work.size, *self.batch_flags(setting)]
        return {"rate": batched_rate(self.ask(work, command))}

    def batch_flags(self, setting):
        return ["-fa", setting["fa"], "--output-format", "jsonl"]

    def server(self, work, model, setting, sequences, context):
        port = free_port()
        command = [self.tools / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", port, "-t", self.threads,
                   "-tb", self.threads, "-np", sequences, "-c", context]
        if "fa" in setting:
            command += ["-fa", setting["fa"]]
        if "cram" in setting:
            command += ["--cache-ram", setting["cram"]]
        if "b" in setting:
            command += ["-b", setting["b"], "-ub", setting["b"]]
        if setting.get("warmup") == "off":
            command += ["--no-warmup"]
        self.commands[work.key] = shown(command)
        return Server(command, self.environment, port)

    def sample_server(self, work, model, setting, light):
        slot = work.shared + work.size + works.OUTPUT + 64
        with self.server(work, model, setting, works.CLIENTS, works.CLIENTS * slot) as server:
            return server_figures(work, server.port, light)

    def sample_stall(self, work, model, setting, light):
        with self.server(work, model, setting, 2, 2 * 8192) as server:
            return stall_figures(work, server.port)

    def sample_start(self, work, model, setting, light):
        with self.server(work, model, setting, works.CLIENTS, works.CLIENTS * 512) as server:
            return {"start": server.first_token_ms(), "rss": server.rss_mib()}


class IkLlama(LlamaCpp):
    """ik_llama.cpp, from a folder of its built tools. Its llama-bench calls a context -gp, and it repacks when told to."""
    name = "ik_llama.cpp"

    def stages(self, work):
        repack = [{"rtr": 0}, {"rtr": 1}]
        if work.kind == "batch":
            return [repack]
        return [*super().stages(work), repack] if work.kind in ("decode", "prefill") else super().stages(work)

    def flags(self, setting):
        return super().flags(setting) + (["-rtr", 1] if setting.get("rtr") else [])

    def decode_flags(self, context):
        return ["-p", 0, "-n", 0, "-gp", f"{context},{works.DECODE_STEPS}"]

    def batch_flags(self, setting):
        return []

    def server(self, work, model, setting, sequences, context):
        return super().server(work, model, {key: value for key, value in setting.items() if key in ("fa", "b")}, sequences, context)


def server_figures(work, port, light=False):
    """The load of a "server" work upon any server on that port."""
    result = load(port, *load_arguments(work, light))
    return {"rate": result["tokens_per_second"], "first": result["first_token_ms_p50"], "first_p95": result["first_token_ms_p95"],
            "gap_p50": result["gap_ms_p50"], "client_cpu_share": result["client_cpu_share"]}


def load_arguments(work, light=False):
    return ["--clients", works.CLIENTS, "--requests", works.CLIENTS if light else works.REQUESTS, "--prompt", work.size,
            "--shared", work.shared, "--output", works.OUTPUT]


def stall_figures(work, port):
    result = load(port, "--stall", work.size)
    return {"gap": result["gap_ms_max"], "gap_p50_alone": result["gap_ms_p50_alone"], "long_first": result["first_token_ms"],
            "client_cpu_share": result["client_cpu_share"]}
