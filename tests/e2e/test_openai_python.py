"""The official Python client: what its users do, and the errors it turns into exceptions."""
import json
import math

import openai
import pytest

from harness import user

CAPITAL = user("What is the capital of France? Answer in one sentence.")


def chat(client, server, messages=CAPITAL, **options):
    return client.chat.completions.create(model=server.model, messages=messages, **{"temperature": 0, "max_tokens": 24, **options})


def complete(client, server, prompt="The three primary colours are", **options):
    return client.completions.create(model=server.model, prompt=prompt, **{"temperature": 0, "max_tokens": 16, **options})


def test_models(client, server):
    assert server.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(server.model).id == server.model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_chat_answers_the_question(client, server):
    answer = chat(client, server)
    choice = answer.choices[0]
    assert "Paris" in choice.message.content
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.system_fingerprint
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_ids_are_unique(client, server):
    assert chat(client, server, max_tokens=1).id != chat(client, server, max_tokens=1).id


def test_stream_equals_the_whole_answer(client, server):
    whole = chat(client, server)
    chunks = list(chat(client, server, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert reasons == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_stream_without_usage_has_none(client, server):
    chunks = list(chat(client, server, stream=True, max_tokens=4))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_max_tokens_ends_with_length(client, server):
    answer = chat(client, server, messages=user("Count from one to one hundred in words."), max_tokens=5)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
def test_stop_string_is_cut_off(client, server, stream):
    prompt = "1, 2, 3, 4, 5,"
    options = {"prompt": prompt, "stop": [" 9"], "max_tokens": 40}
    answer = complete(client, server, stream=stream, **options)
    pieces = list(answer) if stream else [answer]
    text = "".join(piece.choices[0].text for piece in pieces)
    assert "8" in text and "9" not in text
    assert pieces[-1].choices[0].finish_reason == "stop"


def test_chat_logprobs(client, server):
    answer = chat(client, server, logprobs=True, top_logprobs=5, max_tokens=8)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        values = [top.logprob for top in token.top_logprobs]
        assert len(values) == 5 and values == sorted(values, reverse=True)
        assert token.top_logprobs[0].token == token.token and math.isclose(token.logprob, values[0], abs_tol=1e-6)
        assert sum(map(math.exp, values)) <= 1 + 1e-5
    assert "".join(bytes(token.bytes or []).decode(errors="replace") for token in content).startswith(answer.choices[0].message.content[:4])


def test_seed_repeats_and_seeds_differ(client, server):
    story = user("Tell me a story about a dragon.")
    texts = [chat(client, server, messages=story, temperature=1, seed=seed).choices[0].message.content for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_n_takes_consecutive_seeds(client, server):
    story = user("Tell me a story about a dragon.")
    both = chat(client, server, messages=story, temperature=1, seed=7, n=2)
    alone = [chat(client, server, messages=story, temperature=1, seed=seed) for seed in (7, 8)]
    assert [choice.index for choice in both.choices] == [0, 1]
    assert [choice.message.content for choice in both.choices] == [one.choices[0].message.content for one in alone]
    assert both.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert both.usage.completion_tokens == sum(one.usage.completion_tokens for one in alone)


def test_completion_of_text_and_of_its_tokens_agree(client, server):
    prompt = "The three primary colours are"
    tokens = server.post("/tokenize", {"model": server.model, "prompt": prompt}).json()["tokens"]
    from_text, from_tokens = complete(client, server, prompt), complete(client, server, tokens)
    assert from_text.choices[0].text == from_tokens.choices[0].text
    assert from_text.object == "text_completion" and from_text.usage.prompt_tokens == len(tokens)


def test_completion_of_several_prompts(client, server):
    prompts = ["The sky is", "Grass is"]
    together = complete(client, server, prompts, max_tokens=6)
    assert [choice.index for choice in together.choices] == [0, 1]
    assert [choice.text for choice in together.choices] == [complete(client, server, prompt, max_tokens=6).choices[0].text for prompt in prompts]


def test_echo_with_logprobs_scores_the_prompt(client, server):
    prompt = "The capital of France is Paris"
    answer = complete(client, server, prompt, echo=True, logprobs=3, max_tokens=1)
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith(prompt)
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert len(logprobs.tokens) == answer.usage.prompt_tokens + 1
    assert "".join(logprobs.tokens).startswith(prompt)
    assert logprobs.text_offset[0] == 0 and logprobs.text_offset == sorted(logprobs.text_offset)


def test_logit_bias_forces_and_bans(client, server):
    forced = server.post("/tokenize", {"model": server.model, "prompt": " blue"}).json()["tokens"][0]
    assert complete(client, server, logit_bias={str(forced): 100}, max_tokens=3).choices[0].text == " blue" * 3
    first = complete(client, server, max_tokens=1, extra_body={"return_token_ids": True}).choices[0]
    banned = complete(client, server, max_tokens=1, logit_bias={str(first.token_ids[0]): -100}).choices[0]
    assert banned.text != first.text


def test_extensions_of_the_body(client, server):
    answer = chat(client, server, max_tokens=30, extra_body={"ignore_eos": True, "min_tokens": 30, "top_k": 1, "return_token_ids": True})
    assert answer.usage.completion_tokens == 30
    assert len(answer.choices[0].token_ids) == 30


def test_the_second_time_the_prefix_is_cached(client, server):
    long_prompt = "".join(f"Line {i}: the quick brown fox jumps over the lazy dog. " for i in range(20))
    first, second = (complete(client, server, long_prompt, max_tokens=2) for _ in range(2))
    assert first.choices[0].text == second.choices[0].text
    assert second.usage.prompt_tokens_details.cached_tokens > 0.8 * second.usage.prompt_tokens
    assert second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens


def test_text_is_whole_characters(client, server):
    chunks = complete(client, server, "日本語の文章:", max_tokens=24, temperature=1, seed=3, stream=True)
    text = "".join(chunk.choices[0].text for chunk in chunks)
    whole = complete(client, server, "日本語の文章:", max_tokens=24, temperature=1, seed=3).choices[0].text
    assert text == whole


def test_a_wrong_key_is_an_authentication_error(server):
    wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        wrong.models.list()
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("options, param, code", [
    ({"temperature": 3}, "temperature", None),
    ({"top_p": 0}, "top_p", None),
    ({"max_tokens": 0}, "max_tokens", None),
    ({"n": 1000}, "n", None),
    ({"max_tokens": 1_000_000}, None, "context_length_exceeded"),
    ({"response_format": {"type": "yaml"}}, "response_format.type", None),
    ({"logit_bias": {"99999999": 1}}, "logit_bias.99999999", None),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", None),
    ({"messages": []}, "messages", None),
    ({"stop": [""]}, "stop[0]", None),
])
def test_a_bad_field_is_named(client, server, options, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, server, **options)
    assert caught.value.type == "invalid_request_error"
    assert param is None or caught.value.param == param
    assert code is None or caught.value.code == code


def test_an_unknown_model_is_not_found_and_the_served_ones_are_listed(client, server):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-unknown", messages=CAPITAL)
    assert caught.value.code == "model_not_found" and server.model in str(caught.value)


def test_an_unknown_field_is_reported(client, server):
    raw = client.chat.completions.with_raw_response.create(
        model=server.model, messages=CAPITAL, max_tokens=1, extra_body={"flux_capacitance": 1.21})
    assert raw.headers["x-ignored-params"] == "flux_capacitance"
    assert json.loads(raw.content)["choices"]
