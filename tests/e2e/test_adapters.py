"""LoRA adapters beside the weights: by model name, loaded and unloaded while requests run, from a watched folder."""
import array
import concurrent.futures
import json
import random
import struct
import time

import openai
import pytest

import harness

MODULES = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64), "self_attn.o_proj": (64, 64)}  # of the tiny llama


def write_adapter(folder, seed, rank=4):
    """A PEFT folder, as save_pretrained() leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    header, data = {}, b""
    for layer in range(2):
        for module, (rows, columns) in MODULES.items():
            for part, shape in (("lora_A", (rank, columns)), ("lora_B", (rows, rank))):
                values = array.array("f", (draw.uniform(-0.5, 0.5) for _ in range(shape[0] * shape[1]))).tobytes()
                header[f"base_model.model.model.layers.{layer}.{module}.{part}.weight"] = {
                    "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
                data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank}))
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return [write_adapter(folder / f"a{seed}", seed) for seed in range(8)]


@pytest.fixture
def server(start, adapters):
    return start(harness.TINY, "--threads", "2", "--lora", f"first={adapters[0]}")


def client_of(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)


def generate(client, model, max_tokens=24):
    answer = client.completions.create(model=model, prompt="hello the world " * 6, max_tokens=max_tokens, temperature=0,
                                       logprobs=1, extra_body={"ignore_eos": True})
    assert answer.model == model
    return answer.choices[0].text, answer.choices[0].logprobs.token_logprobs


def load(client, name, path, **more):
    client.post("/load_lora_adapter", cast_to=object, body={"lora_name": name, "lora_path": str(path), **more})


def unload(client, name):
    client.post("/unload_lora_adapter", cast_to=object, body={"lora_name": name})


def test_eight_at_once_as_each_alone(server, adapters):
    client = client_of(server)
    names = ["first"] + [f"a{i}" for i in range(1, 8)]
    for name, path in list(zip(names, adapters))[1:]:
        load(client, name, path)
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {server.model, *names}
    assert all(models[name].parent == server.model for name in names)
    everyone = names + [server.model]
    alone = [generate(client, name) for name in everyone]
    assert len({tuple(logprobs) for _, logprobs in alone}) == len(everyone), "every adapter must say something else"
    with concurrent.futures.ThreadPoolExecutor(len(everyone)) as clients:
        assert list(clients.map(lambda name: generate(client, name), everyone)) == alone


def test_unloaded_and_replaced_while_a_stream_runs(server, adapters):
    client = client_of(server)
    load(client, "tuned", adapters[1])
    whole, other = generate(client, "tuned", 150)[0], generate(client, "first", 150)[0]
    stream = client.completions.create(model="tuned", prompt="hello the world " * 6, max_tokens=150, temperature=0, stream=True,
                                       extra_body={"ignore_eos": True})
    text = next(iter(stream)).choices[0].text
    unload(client, "tuned")
    with pytest.raises(openai.NotFoundError):
        generate(client, "tuned")
    load(client, "tuned", adapters[0])
    assert text + "".join(chunk.choices[0].text for chunk in stream) == whole
    assert generate(client, "tuned", 150)[0] == other, "other contents under the name, and none of the old blocks"


def test_what_cannot_be_loaded_is_named(server, adapters, tmp_path):
    client = client_of(server)
    with pytest.raises(openai.ConflictError, match="first"):
        load(client, "first", adapters[1])
    load(client, "first", adapters[1], load_inplace=True)
    with pytest.raises(openai.BadRequestError, match="lora_path"):
        load(client, "x", tmp_path / "nowhere")
    dora = write_adapter(tmp_path / "dora", 1)
    config = json.loads((dora / "adapter_config.json").read_text())
    (dora / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(openai.BadRequestError, match="use_dora"):
        load(client, "x", dora)
    with pytest.raises(openai.BadRequestError, match="rank"):
        load(client, "x", write_adapter(tmp_path / "large", 1, rank=65))
    with pytest.raises(openai.NotFoundError):
        unload(client, "x")
    assert generate(client, "first")


def test_a_watched_folder(start, tmp_path):
    write_adapter(tmp_path / "one", 1)
    server = start(harness.TINY, "--threads", "2", "--lora-dir", tmp_path, "--lora-refresh", 1)
    client = client_of(server)

    def names():
        return {model.id for model in client.models.list()} - {server.model}

    def becomes(wanted):
        end = time.monotonic() + 20
        while names() != wanted and time.monotonic() < end:
            time.sleep(0.05)
        return names() == wanted

    assert names() == {"one"}
    first = generate(client, "one")
    write_adapter(tmp_path / "two", 2)
    assert becomes({"one", "two"})
    (tmp_path / "one" / "adapter_config.json").unlink()
    assert becomes({"two"})
    write_adapter(tmp_path / "one", 3)
    assert becomes({"one", "two"})
    assert generate(client, "one") != first
