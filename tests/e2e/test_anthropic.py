"""The official Anthropic client against /v1/messages."""
import json

import anthropic
import jsonschema
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


SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
          "required": ["city", "days"], "additionalProperties": False}
WEATHER = {"name": "weather", "description": "The weather of a city", "input_schema": SCHEMA, "strict": True}
CLOCK = {"name": "clock", "description": "What time it is", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}}
ONE = {"disable_parallel_tool_use": True}
WARM = user("How warm will it be in Rome tomorrow?")


def forced(**choice):
    return {"messages": WARM, "tools": [WEATHER, CLOCK], "tool_choice": choice | ONE, "max_tokens": 80}


def test_a_forced_call_and_its_stream(claude, server):
    request = forced(type="tool", name="weather")
    whole = ask(claude, server, **request)
    assert [block.type for block in whole.content] == ["tool_use"] and whole.stop_reason == "tool_use"
    call = whole.content[0]
    assert call.name == "weather" and call.id
    jsonschema.validate(call.input, SCHEMA)
    with claude.messages.stream(model=server.model, extra_body=GREEDY, **request) as stream:
        written = "".join(event.delta.partial_json for event in stream
                          if event.type == "content_block_delta" and event.delta.type == "input_json_delta")
        final = stream.get_final_message()
    assert json.loads(written) == call.input == final.content[0].input
    assert final.stop_reason == "tool_use" and final.usage.output_tokens == whole.usage.output_tokens


def test_any_tool_and_none(claude, server):
    assert ask(claude, server, **forced(type="any")).content[0].name in ("weather", "clock")
    silent = ask(claude, server, messages=WARM, tools=[WEATHER], tool_choice={"type": "none"})
    assert [block.type for block in silent.content] == ["text"] and silent.stop_reason != "tool_use"


def test_a_result_is_answered(claude, server):
    call = ask(claude, server, **forced(type="tool", name="weather")).content[0]
    history = [*WARM, {"role": "assistant", "content": [call.model_dump()]},
               {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"},
                                            {"type": "text", "text": "Say it in one sentence."}]}]
    options = {"messages": history, "tools": [WEATHER, CLOCK]}
    answer = ask(claude, server, tool_choice={"type": "none"}, **options)
    assert [block.type for block in answer.content] == ["text"]
    counted = claude.messages.count_tokens(model=server.model, **options).input_tokens
    assert counted == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    assert counted > claude.messages.count_tokens(model=server.model, messages=history).input_tokens > 20


@pytest.fixture(scope="module")
def thinking_claude(thinker):
    return anthropic.Anthropic(base_url=thinker.url, api_key=thinker.key, max_retries=0, timeout=120)


def test_thinking_and_its_stream(thinking_claude, thinker):
    begun = [*user("Why is the sky blue?"), {"role": "assistant", "content": "<think>\nLet me"}]
    request = {"model": thinker.model, "messages": begun, "max_tokens": 40, "thinking": {"type": "enabled", "budget_tokens": 9},
               "extra_body": GREEDY}
    whole = thinking_claude.messages.create(**request)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    thought, text = whole.content
    chat = thinker.post("/v1/chat/completions", {"model": thinker.model, "messages": begun, "max_tokens": 40, "temperature": 0,
                                                 "continue_final_message": True, "thinking_token_budget": 9}).json()
    message = chat["choices"][0]["message"]
    assert (thought.thinking, text.text) == (message["reasoning_content"], message["content"])
    assert 0 < chat["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 9
    with thinking_claude.messages.stream(**request) as stream:
        deltas = [event.delta for event in stream if event.type == "content_block_delta"]
        final = stream.get_final_message()
    assert "".join(delta.thinking for delta in deltas if delta.type == "thinking_delta") == thought.thinking
    assert [(block.type, getattr(block, "text", None)) for block in final.content] == [("thinking", None), ("text", text.text)]
    without = thinking_claude.messages.create(**request | {"thinking": {"type": "disabled"}})
    assert not any(block.type == "thinking" and block.thinking for block in without.content)


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
