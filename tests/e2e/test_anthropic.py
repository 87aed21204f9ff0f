"""The official Anthropic client against /v1/messages."""
import json

import anthropic
import pytest

from harness import user

CAPITAL = user("What is the capital of France? Answer in one sentence.")
GREEDY = {"temperature": 0}  # no argument of this client any more


@pytest.fixture(scope="module")
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0, timeout=120)


def ask(claude, server, messages=CAPITAL, **options):
    return claude.messages.create(model=server.model, messages=messages, **{"max_tokens": 24, "extra_body": GREEDY, **options})


def test_answers_the_question(claude, server):
    message = ask(claude, server)
    assert message.type == "message" and message.role == "assistant" and message.id.startswith("msg_")
    assert [block.type for block in message.content] == ["text"] and "Paris" in message.content[0].text
    assert message.stop_reason in ("end_turn", "max_tokens") and message.stop_sequence is None
    assert 0 < message.usage.output_tokens <= 24


def test_equals_the_same_chat(claude, server, client):
    options = {"temperature": 0, "max_tokens": 24}
    chat = client.chat.completions.create(model=server.model, messages=CAPITAL, **options)
    message = ask(claude, server)
    assert message.content[0].text == chat.choices[0].message.content
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == chat.usage.prompt_tokens
    assert usage.output_tokens == chat.usage.completion_tokens


def test_stream_equals_the_whole_answer(claude, server):
    whole = ask(claude, server)
    with claude.messages.stream(model=server.model, messages=CAPITAL, max_tokens=24, extra_body=GREEDY) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens
    kinds = [kind for kind in types if kind != "text"]  # the client's own event beside each delta
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.index("content_block_start") < kinds.index("content_block_delta") < kinds.index("content_block_stop")


def test_raw_events_have_names(server):
    connection = server.open_stream("/v1/messages", {"messages": CAPITAL, "max_tokens": 3})
    lines = [line.decode().rstrip("\n") for line in connection.getresponse()]
    connection.close()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert names == [event["type"] for event in data]
    assert names[0] == "message_start" and names[-1] == "message_stop" and "[DONE]" not in lines


def test_system_blocks_and_a_prefill(claude, server):
    message = ask(claude, server, system=[{"type": "text", "text": "You are terse.", "cache_control": {"type": "ephemeral"}}],
                  messages=[*CAPITAL, {"role": "assistant", "content": "The capital of France is"}], max_tokens=4)
    assert message.content and not message.content[0].text.startswith("The capital")


def test_a_stop_sequence_is_named(claude, server):
    message = ask(claude, server, messages=user("Count: one, two, three, four, five, six"), stop_sequences=[" a", "e"], max_tokens=60)
    assert message.stop_reason == "stop_sequence" and message.stop_sequence in (" a", "e")


def test_count_tokens_is_what_the_answer_counts(claude, server):
    counted = claude.messages.count_tokens(model=server.model, messages=CAPITAL, system="You are terse.")
    usage = ask(claude, server, system="You are terse.", max_tokens=1).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.parametrize("messages, where", [
    ([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]}],
     "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": "document", "source": {}}]}], "messages[0].content[0].type"),
    ([{"role": "system", "content": "x"}], "messages[0].role"),
    ([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "nobody", "content": "x"}]}], "tool"),
    ([], "messages"),
])
def test_what_cannot_be_honoured_is_refused_by_name(claude, server, messages, where):
    with pytest.raises(anthropic.BadRequestError) as failure:
        ask(claude, server, messages=messages)
    body = failure.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error" and body["request_id"]
    assert where in body["error"]["message"]


def test_errors_have_anthropics_shape(claude, server):
    with pytest.raises(anthropic.NotFoundError) as failure:
        claude.messages.create(model="no-such-model", max_tokens=1, messages=CAPITAL)
    assert failure.value.body["error"]["type"] == "not_found_error"
    stranger = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as failure:
        ask(stranger, server)
    assert failure.value.body["error"]["type"] == "authentication_error"
    missing = server.post("/v1/messages", {"model": server.model, "messages": CAPITAL})
    assert missing.status == 400 and "max_tokens" in missing.json()["error"]["message"]
