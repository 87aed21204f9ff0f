"""neutrino model pull against a hub of our own: whatever the hub and the machine do, no wrong or half model, and it goes on."""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time

import pytest

from harness import RELEASE, TINY

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hub"))
from fake_hub import FakeHub, git_sha1  # noqa: E402

LONG = os.environ.get("NEUTRINO_TEST_LONG", "") not in ("", "0")
MODEL = TINY.read_bytes()
BIG = (TINY.parent / "llama-f32.gguf").read_bytes()  # the largest of the tiny ones
NAME = "org/tiny"
QUICK = ["--retries", "8", "--part-size", "64K"]


class Cli:
    def __init__(self, folder, hub):
        self.folder, self.hub, self.home = folder, hub, folder / "home"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
        self.environment |= {"NEUTRINO_HOME": str(self.home), "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.url}

    def start(self, *arguments, **environment):
        return subprocess.Popen([RELEASE, "model", *map(str, arguments)], env=self.environment | environment, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, *arguments, timeout_s=60, **environment):
        process = self.start(*arguments, **environment)
        try:
            process.output, process.errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process

    def pull(self, *arguments, **environment):
        return self.run("pull", *arguments, **environment)

    def models(self):
        return json.loads(self.run("list", "--json").output)["models"]

    def files_in(self, part):
        folder = self.home / "models" / part
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def expect_whole(self, name, data):
        """The model is there, its bytes are those of the hub, and nothing is left over."""
        manifest = {model["name"]: model for model in self.models()}[name]
        assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
        assert (self.home / "models" / "blobs" / f"sha256-{manifest['sha256']}").read_bytes() == data
        assert self.run("verify", name).returncode == 0
        assert self.files_in("partial") == [] and self.files_in("tmp") == []

    def expect_none(self):
        assert self.models() == [] and self.files_in("blobs") == []


@pytest.fixture
def hub():
    with FakeHub() as one:
        yield one


@pytest.fixture
def cli(tmp_path, hub):
    return Cli(tmp_path, hub)


@pytest.fixture
def gguf(hub):
    """A repository with one GGUF file, model.gguf."""
    hub.add(NAME, {"model.gguf": BIG, "README.md": b"---\nlicense: mit\n---\n"}, card={"license": "mit"})
    return BIG


def failed(result, *words):
    assert result.returncode == 1, result.errors
    assert result.errors.strip() and "unexpected" not in result.errors
    for word in words:
        assert word in result.errors, result.errors


# ---- what is chosen, and what is known of it

def test_a_model_is_pulled_once_and_then_there(cli, hub, gguf):
    result = cli.pull(NAME, "--json")
    assert result.returncode == 0, result.errors
    manifest = json.loads(result.output)
    assert manifest["name"] == "model" and manifest["source"].startswith(f"{hub.url}/{NAME}@")
    cli.expect_whole("model", gguf)
    before = hub.bytes_sent
    assert cli.pull(NAME).returncode == 0
    assert hub.bytes_sent == before  # nothing was fetched again
    assert cli.run("list").output.count("model") == 1


def test_the_revision_is_pinned_to_a_commit(cli, hub):
    old = hub.add(NAME, {"model.gguf": MODEL})
    new = hub.add(NAME, {"model.gguf": BIG})
    assert json.loads(cli.pull(NAME, "--json").output)["source"].endswith(new)
    assert json.loads(cli.pull(f"{NAME}@{old}", "--name", "old", "--json").output)["source"].endswith(old)
    assert all(commit in request.path for commit in (new,) for request in hub.asked("/resolve/")[:1])
    failed(cli.pull(NAME, "--revision", old), "other files is in the store", "--name")
    failed(cli.pull(NAME, "--revision", "v9", "--name", "x"), "no revision", "v9")


def test_the_quantisation_chooses_a_file(cli, hub):
    hub.add(NAME, {"m-Q4_1.gguf": MODEL, "m-F32.gguf": BIG, "mmproj.gguf": b"no model", "a/x-Q8_0.gguf": MODEL, "b/y-Q8_0.gguf": MODEL})
    assert cli.pull(f"{NAME}:q4_1").returncode == 0
    cli.expect_whole("m-Q4_1", MODEL)
    failed(cli.pull(f"{NAME}:Q2_K"), "m-Q4_1", "m-F32")
    ambiguous = cli.pull(f"{NAME}:Q8_0")
    assert ambiguous.returncode == 2 and "a/x-Q8_0" in ambiguous.errors and "--include" in ambiguous.errors
    assert cli.pull(NAME).returncode == 2
    assert cli.pull(NAME, "--include", "*F32*", "--name", "full").returncode == 0
    assert not hub.asked("mmproj")


def tiny_checkpoint():
    """A Llama of 2 layers: config.json, a byte-level tokenizer, weights in two shards."""
    hidden, middle, vocabulary, generator = 16, 24, 257, random.Random(1)
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        shapes |= {prefix + "input_layernorm.weight": (hidden,), prefix + "post_attention_layernorm.weight": (hidden,)}
        shapes |= {f"{prefix}self_attn.{part}_proj.weight": (rows, hidden) for part, rows in (("q", 16), ("k", 8), ("v", 8), ("o", 16))}
        shapes |= {f"{prefix}mlp.{part}_proj.weight": shape for part, shape in
                   (("gate", (middle, hidden)), ("up", (middle, hidden)), ("down", (hidden, middle)))}
    names = sorted(shapes)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    files, where = {}, {}
    for shard, held in shards.items():
        header, data = {}, b""
        for name in held:
            count = shapes[name][0] * (shapes[name][1] if len(shapes[name]) > 1 else 1)
            values = struct.pack(f"<{count}f", *(generator.gauss(0, 0.1) for _ in range(count)))
            header[name] = {"dtype": "F32", "shape": list(shapes[name]), "data_offsets": [len(data), len(data) + len(values)]}
            data += values
            where[name] = shard
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        files[shard] = struct.pack("<Q", len(text)) + text + data
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": where}).encode()
    files["config.json"] = json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": middle,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "bos_token_id": 256, "eos_token_id": 256}).encode()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]
    special = {"id": 256, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    files["tokenizer.json"] = json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None, "pre_tokenizer": split,
        "post_processor": None, "decoder": split,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {letter: i for i, letter in enumerate(letters)}, "merges": []}}).encode()
    files["tokenizer_config.json"] = json.dumps({"bos_token": "<|end|>", "eos_token": "<|end|>"}).encode()
    files["README.md"] = b"---\nlicense: other\nlicense_name: our-research-noncommercial\nlicense_link: LICENSE\n---\n# Tiny\n"
    files["LICENSE"] = b"Only for looking at.\n"
    return files


def test_a_checkpoint_of_several_files(cli, hub, tmp_path):
    files = tiny_checkpoint()
    hub.add("org/folder", files | {"pytorch_model.bin": b"a pickle", "onnx/model.onnx": b"x", ".gitattributes": b"y"})
    result = cli.pull("org/folder", "--json")
    assert result.returncode == 0, result.errors
    manifest = json.loads(result.output)
    assert [file["name"] for file in manifest["files"]] == sorted(files)
    assert manifest["architecture"] == "llama" and manifest["license_terms"] == "non-commercial"
    assert "forbids commercial use" in result.errors
    assert "our-research-noncommercial (non-commercial)" in cli.run("list").output
    assert "forbids commercial use" in cli.run("show", "folder").output
    view = cli.home / "models" / "views" / manifest["sha256"]
    assert {path.name: path.read_bytes() for path in view.iterdir()} == files
    assert not hub.asked("pytorch_model.bin")
    assert cli.run("verify", "folder").returncode == 0
    shutil.rmtree(view)  # it is made again when it is needed
    assert cli.run("show", "folder", "--template").returncode == 0 and {path.name for path in view.iterdir()} == set(files)
    folder = tmp_path / "copy"  # the same from a folder here shares the blobs
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    blobs = cli.files_in("blobs")
    imported = cli.run("import", folder, "--name", "copy", "--json")
    assert imported.returncode == 0, imported.errors
    assert json.loads(imported.output)["sha256"] == manifest["sha256"] and cli.files_in("blobs") == blobs
    for name in ("folder", "copy"):
        assert cli.run("rm", name).returncode == 0
    assert cli.files_in("blobs") == [] and cli.files_in("views") == []


def test_a_dry_run_says_what_would_come(cli, hub, gguf):
    plan = json.loads(cli.pull(NAME, "--dry-run", "--json").output)
    assert plan["bytes"] == len(gguf) and plan["files"][0]["name"] == "model.gguf" and plan["license"] == "mit"
    assert not hub.asked("/resolve/") and cli.models() == []


@pytest.mark.parametrize("license_id, word", [("gemma", "sets conditions"), ("cc-by-nc-4.0", "forbids commercial use"), (None, "does not say")])
def test_a_licence_is_shown_and_kept(cli, hub, license_id, word):
    data = MODEL.replace(b"general.license", b"general.licenze")  # the file itself says nothing
    hub.add(NAME, {"m.gguf": data}, card={"license": license_id} if license_id else {})
    result = cli.pull(NAME)
    assert result.returncode == 0 and word in result.errors
    assert word in cli.run("show", "m").output


def test_a_plain_url(cli, hub):
    hub.add_plain("/files/some.gguf", MODEL)
    assert cli.pull(f"{hub.url}/files/some.gguf?key=secret", "--part-size", "10K").returncode == 0
    cli.expect_whole("some", MODEL)
    assert "secret" not in cli.run("show", "some").output
    failed(cli.pull(f"{hub.url}/files/some.gguf", "--name", "x", "--sha256", "0" * 64), "wrong bytes")
    failed(cli.pull(f"{hub.url}/files/none.gguf"), "404")
    assert cli.pull("http://example.test/x.gguf").returncode == 2  # plain http, and not this machine
    hub.add_plain("/files/bad.gguf", b"GGUF but not really" * 100)
    assert cli.pull(f"{hub.url}/files/bad.gguf").returncode != 0
    assert [model["name"] for model in cli.models()] == ["some"]


def test_paths_are_imported(cli, tmp_path):
    shutil.copy(TINY, tmp_path / "here.gguf")
    assert cli.pull(f"file:{tmp_path}/here.gguf").returncode == 0
    assert cli.pull(f"file://{tmp_path}/here.gguf", "--name", "again").returncode == 0
    assert len(cli.models()) == 2


# ---- OCI

def test_an_oci_artefact(cli, hub):
    digest = hub.add_artifact("library/tiny", "q4", [
        ("application/vnd.ollama.image.model", MODEL, None),
        ("application/vnd.ollama.image.license", b"Gemma Terms of Use\nand so on", None),
        ("application/vnd.ollama.image.params", b"{}", None)])
    registry = hub.url.replace("http://", "oci://")
    result = cli.pull(f"{registry}/library/tiny:q4", "--json")
    assert result.returncode == 0, result.errors
    manifest = json.loads(result.output)
    assert manifest["name"] == "tiny-q4" and manifest["source"].endswith(digest)
    cli.expect_whole("tiny-q4", MODEL)
    assert cli.pull(f"{registry}/library/tiny@{digest}", "--name", "other").returncode == 0
    failed(cli.pull(f"{registry}/library/tiny:none"), "has no")
    hub.add_artifact("evil", "latest", [("x/y", MODEL, {"org.opencontainers.image.title": "../../x.gguf"})])
    failed(cli.pull(f"{registry}/evil"), "no name of a file")


def test_registry_credentials_do_not_leave_the_registry(cli, hub):
    hub.registry_token = "granted"
    hub.add_artifact("tiny", "latest", [("application/vnd.docker.ai.gguf.v3", MODEL, None)])
    registry = hub.url.replace("http://", "oci://")
    assert cli.pull(f"{registry}/tiny", NEUTRINO_OCI_CREDENTIALS="user:password").returncode == 0
    at_hub = [request.headers.get("Authorization", "") for request in hub.asked("/token")]
    assert at_hub == ["Basic dXNlcjpwYXNzd29yZA=="]
    assert all("Authorization" not in request.headers for request in hub.requests if request.server == "store")
    with FakeHub() as thief:  # the realm that a registry names may be anybody
        hub.registry_realm = f"{thief.url}/token"
        thief.registry_token = "granted"
        result = cli.pull(f"{registry}/tiny", "--name", "second", NEUTRINO_OCI_CREDENTIALS="user:password")
        assert result.returncode == 0 and "another host" in result.errors
        assert thief.asked("/token") and all("Authorization" not in request.headers for request in thief.requests)


# ---- tokens

def test_the_token_goes_to_the_hub_only(cli, hub, gguf):
    assert cli.pull(NAME, *QUICK, HF_TOKEN="hf_secret").returncode == 0
    asked = {"hub": [], "store": []}
    for request in hub.requests:
        asked[request.server].append(request.headers.get("Authorization"))
    assert set(asked["hub"]) == {"Bearer hf_secret"}
    assert asked["store"] and set(asked["store"]) == {None}
    assert "hf_secret" not in "".join(path.read_text(errors="replace") for path in (cli.home / "models" / "manifests").iterdir())


def test_a_gated_model_says_what_to_do(cli, hub):
    hub.add("org/gated", {"m.gguf": MODEL}, gated="manual", gated_token="good", card={"license": "gemma"})
    failed(cli.pull("org/gated"), "gated", "HF_TOKEN", "org/gated")
    failed(cli.pull("org/gated", HF_TOKEN="bad"), "gated", "no access")
    cli.expect_none()
    token = cli.folder / "token"
    token.write_text("good\n")
    result = cli.pull("org/gated", "--token-file", token)
    assert result.returncode == 0 and "accept their terms" in result.errors
    assert json.loads(cli.run("show", "m", "--json").output)["gated"] is True


def test_private_missing_and_pickled_models(cli, hub):
    hub.add("org/private", {"m.gguf": MODEL}, private_token="mine")
    hub.add("org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    failed(cli.pull("org/none"), "there is no model org/none", "HF_TOKEN")
    failed(cli.pull("org/private"), "private")
    assert cli.pull("org/private", HF_TOKEN="mine").returncode == 0
    failed(cli.pull("org/pickled"), "pickles")
    for bad in ("a/b/c", "org/", "org/name:", "oci://host", "https://host/x.bin", "-x"):
        assert cli.pull("--", bad).returncode == 2, bad


# ---- cuts

def test_cut_at_random_offsets_within_one_pull(cli, hub, gguf):
    generator = random.Random(1)
    for _ in range(50 if LONG else 5):
        hub.behave("model.gguf", cut_at=generator.randrange(len(gguf)), times=1)
        hub.bytes_sent = 0
        result = cli.pull(NAME)
        assert result.returncode == 0 and "going on at byte" in result.errors
        assert hub.bytes_sent <= len(gguf) + 1  # not a byte twice
        cli.expect_whole("model", gguf)
        cli.run("rm", "model")


def test_cut_at_random_offsets_between_pulls(cli, hub, gguf):
    """Each pull ends at a cut; together they fetch every byte once."""
    generator = random.Random(2)
    cuts = sorted(generator.sample(range(1, len(gguf)), 50 if LONG else 5))
    for cut in cuts:
        hub.behave("model.gguf", cut_at=cut)
        result = cli.pull(NAME, "--retries", "0", "--connections", "1")
        failed(result, "what has come is kept")
        cli.expect_none()
    hub.behaviours.clear()
    assert cli.pull(NAME).returncode == 0
    cli.expect_whole("model", gguf)
    assert hub.bytes_sent == len(gguf)


def test_parts_side_by_side_are_all_asked_for_once(cli, hub, gguf):
    assert cli.pull(NAME, "--part-size", "32K", "--connections", "4").returncode == 0
    ranges = [request.headers["Range"] for request in hub.requests if request.server == "store"]
    assert len(ranges) == len(set(ranges)) == -(-len(gguf) // 32768)
    cli.expect_whole("model", gguf)


# ---- lies

@pytest.mark.parametrize("behaviour, words", [
    ({"flip_at": 70_000}, ["wrong bytes", "SHA-256"]),
    ({"headers": {"Content-Range": "bytes 0-9/10"}}, ["expected"]),
    ({"headers": {"Content-Range": f"bytes 7-9/{len(BIG)}"}}, ["other bytes"]),
    ({"headers": {"Content-Range": None}}, ["other bytes"]),
    ({"headers": {"Content-Encoding": "gzip"}}, ["encoded"]),
    ({"short": True, "no_ranges": True}, ["expected"]),
    ({"loop": True}, ["redirect loop"]),
    ({"status": 404, "error_code": "EntryNotFound"}, ["model.gguf"]),
    ({"status": 403}, ["model.gguf"]),
])
def test_a_lying_hub_is_found_out(cli, hub, gguf, behaviour, words):
    hub.behave("model.gguf", **behaviour)
    failed(cli.pull(NAME, "--retries", "1"), *words)
    cli.expect_none()
    hub.behaviours.clear()
    assert cli.pull(NAME).returncode == 0
    cli.expect_whole("model", gguf)


def test_wrong_bytes_of_an_earlier_pull_are_fetched_again(cli, hub, gguf):
    hub.behave("model.gguf", flip_at=10, cut_at=len(gguf) // 2)
    failed(cli.pull(NAME, "--retries", "0"))
    hub.behaviours.clear()
    result = cli.pull(NAME)
    assert result.returncode == 0 and "from the beginning" in result.errors
    cli.expect_whole("model", gguf)


def test_a_server_without_ranges(cli, hub, gguf):
    hub.behave("model.gguf", no_ranges=True)
    assert cli.pull(NAME, "--part-size", "16K").returncode == 0
    cli.expect_whole("model", gguf)
    cli.run("rm", "model")
    hub.behave("model.gguf", no_ranges=True, cut_at=5000, times=1)
    assert cli.pull(NAME).returncode == 0
    cli.expect_whole("model", gguf)


def test_a_file_at_a_url_that_changes_half_way_is_fetched_anew(cli, hub):
    hub.add_plain("/x.gguf", MODEL + b"another file, that was there before")
    hub.behave("/x.gguf", cut_at=5000)
    failed(cli.pull(f"{hub.url}/x.gguf", "--retries", "0"))
    hub.behaviours.clear()
    hub.add_plain("/x.gguf", MODEL)
    result = cli.pull(f"{hub.url}/x.gguf")
    assert result.returncode == 0, result.errors
    cli.expect_whole("x", MODEL)


def test_a_listing_that_climbs_out_is_refused(cli, hub, tmp_path):
    for name in ("../../evil.gguf", "/etc/evil.gguf", "a\\..\\evil.gguf", "x/../../evil.gguf"):
        hub.add(NAME, {"m.gguf": MODEL}, extra_entries=[{"type": "file", "path": name, "oid": git_sha1(b""), "size": 0}])
        failed(cli.pull(NAME), "no name of a file")
    assert not list(tmp_path.rglob("*evil*"))
    cli.expect_none()


def test_what_is_no_model_does_not_get_in(cli, hub):
    hub.add(NAME, {"m.gguf": b"GGUF" + bytes(1000)})
    assert cli.pull(NAME).returncode != 0
    cli.expect_none()


def test_busy_and_broken_hubs_are_waited_for(cli, hub, gguf):
    hub.behave("listing", status=429, retry_after=0, times=2)
    hub.behave("model.gguf", status=503, times=2)
    result = cli.pull(NAME)
    assert result.returncode == 0 and "429" in result.errors and "503" in result.errors
    cli.expect_whole("model", gguf)
    hub.behave("listing", status=429, retry_after=9999)
    failed(cli.pull(NAME, "--name", "x"), "429")


def test_a_revision_that_is_deleted_half_way(cli, hub, gguf):
    hub.behave("model.gguf", cut_at=len(gguf) // 2)
    failed(cli.pull(NAME, "--retries", "0"))
    commit = hub.repositories[NAME].revisions["main"]
    hub.remove_commit(NAME, commit)
    failed(cli.pull(NAME), "no revision")
    cli.expect_none()
    hub.behaviours.clear()
    hub.add(NAME, {"model.gguf": gguf})  # the same bytes in another commit: the download goes on
    before = hub.bytes_sent
    assert cli.pull(NAME).returncode == 0
    assert hub.bytes_sent - before <= len(gguf) // 2 + 1
    cli.expect_whole("model", gguf)


# ---- the machine

def test_kill_9_at_random_times(cli, hub, gguf):
    generator = random.Random(3)
    hub.bytes_per_second = len(gguf) // 2  # a pull takes two seconds and more
    kills = 0
    for _ in range(50 if LONG else 5):
        process = cli.start("pull", NAME, *QUICK)
        time.sleep(generator.uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if cli.models():  # it was faster than the signal
            cli.expect_whole("model", gguf)
            cli.run("rm", "model")
        else:
            assert cli.files_in("blobs") == []
    hub.bytes_per_second = None
    assert kills >= 3
    assert cli.pull(NAME).returncode == 0
    cli.expect_whole("model", gguf)


def test_killed_pulls_get_on(cli, hub, gguf):
    """The negative control of the above: what came before the kill is not fetched again."""
    hub.bytes_per_second = len(gguf) // 2
    process = cli.start("pull", NAME, "--connections", "1", "--part-size", "64K")
    while hub.bytes_sent < len(gguf) // 2:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    hub.bytes_per_second, before = None, hub.bytes_sent
    assert cli.pull(NAME).returncode == 0
    assert hub.bytes_sent - before < len(gguf) * 3 // 4
    cli.expect_whole("model", gguf)


def test_two_pulls_at_once_end_in_one_model(cli, hub, gguf):
    hub.bytes_per_second = len(gguf)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: cli.pull(NAME, *QUICK), range(3)))
    assert [result.returncode for result in results] == [0, 0, 0], [result.errors for result in results]
    assert any("waiting" in result.errors for result in results)
    assert hub.bytes_sent <= len(gguf) * 11 // 10
    cli.expect_whole("model", gguf)


def test_a_full_disk_is_an_error_and_what_came_is_kept(cli, hub, gguf, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (f"mount -t tmpfs -o size={2 * len(gguf)} none {disk} && head -c {len(gguf) * 3 // 2} /dev/zero > {disk}/filler || exit 9; "
              f"{RELEASE} model pull {NAME} --part-size 16K; echo $?; rm {disk}/filler; "
              f"{RELEASE} model pull {NAME}; echo $?; {RELEASE} model verify model; ls {disk}/models/partial")
    can_mount = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    if not can_mount:
        pytest.skip("no right to mount a small disk here")
    result = subprocess.run(["unshare", "-m", "sh", "-c", script], env=cli.environment | {"NEUTRINO_HOME": str(disk)}, capture_output=True,
                            text=True, timeout=60, check=False)
    assert "are free" in result.stderr and result.stdout.startswith("1\n"), result.stderr
    assert result.stdout.splitlines()[-1].startswith("model is whole"), result.stdout


def test_a_write_that_fails_is_an_error_and_what_came_is_kept(cli, hub, gguf):
    """The disk is found full while writing: here by a limit on the size of files."""
    command = f"ulimit -f {len(gguf) // 2 // 1024}; exec {RELEASE} model pull {NAME} --part-size 16K --connections 1"
    result = subprocess.run(["bash", "-c", "trap '' XFSZ; " + command], env=cli.environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1 and "cannot write" in result.stderr, result.stderr
    cli.expect_none()
    before = hub.bytes_sent
    assert cli.pull(NAME).returncode == 0
    assert hub.bytes_sent - before < len(gguf) * 3 // 4
    cli.expect_whole("model", gguf)


def test_unfinished_downloads_are_named_and_removed_on_request(cli, hub, gguf):
    hub.behave("model.gguf", cut_at=len(gguf) // 2)
    failed(cli.pull(NAME, "--retries", "0"))
    assert "unfinished downloads" in cli.run("list").errors
    assert cli.run("rm", "--partial").returncode == 0
    assert cli.files_in("partial") == []


# ---- the cache of huggingface_hub

def put_into_cache(cli, data, content=None):
    blobs = cli.folder / "hf" / "hub" / "models--org--tiny" / "blobs"
    blobs.mkdir(parents=True)
    blob = blobs / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data if content is None else content)
    return blob


def test_the_cache_of_hugging_face_is_reused(cli, hub, gguf):
    put_into_cache(cli, gguf)
    result = cli.pull(NAME)
    assert result.returncode == 0 and "taken from" in result.errors
    assert hub.bytes_sent == 0 and not hub.asked("/resolve/")
    cli.expect_whole("model", gguf)


def test_a_cache_with_other_bytes_is_not_believed(cli, hub, gguf):
    damaged = bytearray(gguf)
    damaged[len(gguf) // 2] ^= 1
    blob = put_into_cache(cli, gguf, bytes(damaged))
    assert cli.pull(NAME).returncode == 0
    assert blob.read_bytes() == bytes(damaged)  # and it is not ours to change
    cli.expect_whole("model", gguf)


def test_a_snapshot_of_the_cache_is_imported(cli, hub, tmp_path):
    repository = tmp_path / "hf" / "hub" / "models--org--x"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name, data in tiny_checkpoint().items():
        (repository / "blobs" / git_sha1(data)).write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{git_sha1(data)}")
    result = cli.run("import", snapshot, "--name", "x")
    assert result.returncode == 0, result.errors
    (snapshot / "README.md").unlink()
    (snapshot / "README.md").symlink_to("/etc/hostname")
    outside = cli.run("import", snapshot, "--name", "y")
    assert outside.returncode == 2 and "outside" in outside.errors


# ---- TLS and proxies

class ConnectProxy(socketserver.ThreadingTCPServer):
    """Takes CONNECT for any host and leads to the one address."""
    daemon_threads, allow_reuse_address = True, True

    def __init__(self, target):
        self.target, self.asked = target, []
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class ProxyHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.asked.append(self.rfile.readline().decode().strip())
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(self.server.target) as upstream:
            pairs = {self.connection: upstream, upstream: self.connection}
            while True:
                for ready in select.select(list(pairs), [], [], 10)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    pairs[ready].sendall(data)


def test_https_through_a_proxy(tmp_path, gguf_bytes=BIG):
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", chain,
                    "-days", "2", "-subj", "/CN=hub.test", "-addext", "subjectAltName=DNS:hub.test"], check=True, capture_output=True)
    with FakeHub(certificate=(chain, key)) as hub, ConnectProxy(("127.0.0.1", hub.servers[0].server_port)) as proxy:
        hub.url = "https://hub.test"
        hub.add(NAME, {"model.gguf": gguf_bytes})
        cli = Cli(tmp_path, hub)
        through = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_address[1]}", "SSL_CERT_FILE": str(chain), "CURL_CA_BUNDLE": ""}
        result = cli.pull(NAME, **through)
        assert result.returncode == 0, result.errors
        assert set(proxy.asked) == {"CONNECT hub.test:443 HTTP/1.1"}
        cli.expect_whole("model", gguf_bytes)
        untrusted = cli.pull(NAME, "--name", "x", **(through | {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}))
        failed(untrusted, "certificate", "not trusted")
        direct = cli.pull(NAME, "--name", "x", "--retries", "0", **(through | {"NO_PROXY": "hub.test"}))
        failed(direct, "hub.test")
        proxy.shutdown()


def test_plain_http_is_for_this_machine_only(cli):
    for endpoint in ("http://example.test", "ftp://127.0.0.1", "http://127.0.0.1.example.test"):
        result = cli.pull(NAME, HF_ENDPOINT=endpoint)
        assert result.returncode == 2 and result.errors.strip(), endpoint
