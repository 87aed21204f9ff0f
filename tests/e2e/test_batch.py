"""The same request gives the same tokens and the same logprob bits, whoever else is being served."""
import concurrent.futures

import openai
import pytest

WORDS = "the old river carried small boats past the mill and the children counted them from the bridge ".split()


def prompt(index):
    return " ".join(WORDS[(index * 7 + i * (index + 1)) % len(WORDS)] for i in range(4 + 45 * index))


REQUESTS = [{"prompt": prompt(i), "max_tokens": 24, "ignore_eos": True, "logprobs": 2, "return_token_ids": True,
             **({"temperature": 0} if i % 2 else {"temperature": 0.9, "seed": 100 + i, "top_p": 0.95})} for i in range(8)]


def generate(server, request):
    response = server.complete(**request)
    assert response.status == 200, response.body
    choice = response.json()["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def differences(alone, others):
    return [index for index, (one, other) in enumerate(zip(alone, others)) if one != other]


@pytest.fixture(scope="module")
def alone(server):
    return [generate(server, request) for request in REQUESTS]


def test_together_as_alone(server, alone):
    with concurrent.futures.ThreadPoolExecutor(len(REQUESTS)) as clients:
        together = list(clients.map(lambda request: generate(server, request), REQUESTS))
    assert not differences(alone, together)
    assert len({tuple(tokens) for tokens, _ in alone}) == len(REQUESTS), "the requests must differ for this to mean anything"


def test_the_comparison_notices_one_bit(alone):
    tokens, logprobs = alone[3]
    changed = list(alone)
    changed[3] = (tokens, logprobs[:-1] + [logprobs[-1] * (1 + 2**-50)])
    assert differences(alone, changed) == [3]


@pytest.mark.parametrize("flags", [("--batch-tokens", 64, "--threads", 1), ("--prefix-cache", "off", "--max-sequences", 3)])
def test_other_settings_give_the_same(start, model_path, alone, flags):
    other = start(model_path, "--context", 2048, *flags)
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        results = list(clients.map(lambda request: generate(other, request), REQUESTS))
    assert not differences(alone, results)


def test_two_clients_at_once(server):
    """Two official clients with their own pools, streaming side by side, each as if it were alone."""
    def stream(text):
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
        chunks = client.completions.create(model=server.model, prompt=text, max_tokens=40, temperature=0.8, seed=5, stream=True)
        return "".join(chunk.choices[0].text for chunk in chunks)

    texts = ["In the beginning there was", "My favourite recipe needs"]
    one_by_one = [stream(text) for text in texts]
    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        assert list(clients.map(stream, texts)) == one_by_one
