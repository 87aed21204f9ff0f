"""Tools and reasoning on a real model: what the grammar promises, and that a stream is the answer that comes whole.

NEUTRINO_TEST_LONG asks for the full numbers: 300 forced calls, 500 pairs of answers, 1,000 thinking budgets.
"""
import json
import os
import random

import jsonschema
import openai
import pytest

from harness import user

LONG = bool(os.environ.get("NEUTRINO_TEST_LONG"))
pytestmark = pytest.mark.timeout(1800 if LONG else 300)
TEXT = {"type": "string", "maxLength": 12}
SCHEMAS = [
    {"city": TEXT, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
    {"unit": {"enum": ["C", "F"]}, "place": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}, "name": TEXT},
                                             "required": ["x", "name"], "additionalProperties": False}},
    {"flag": {"type": "boolean"}, "list": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3}},
    {"id": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"}, "note": {"type": ["string", "null"], "maxLength": 10}},
]


def tool(name, properties):
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": schema, "strict": True}}


TOOLS = [tool(f"tool_{i}", properties) for i, properties in enumerate(SCHEMAS)]
BY_NAME = {item["function"]["name"]: item["function"]["parameters"] for item in TOOLS}


def check_calls(message):
    for call in message.tool_calls:
        assert call.id.startswith("call_") and call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), BY_NAME[call.function.name])


@pytest.fixture(scope="module")
def thinking_client(thinker):
    return openai.OpenAI(base_url=f"{thinker.url}/v1", api_key=thinker.key, max_retries=0, timeout=120)


def test_forced_calls_are_valid(client, server):
    for i in range(300 if LONG else 6):
        named = i % 2 == 0
        name = TOOLS[i // 2 % len(TOOLS)]["function"]["name"]
        choice = {"type": "function", "function": {"name": name}} if named else "required"
        answer = client.chat.completions.create(
            model=server.model, messages=user(f"Use a tool, number {i}."), tools=TOOLS, tool_choice=choice, parallel_tool_calls=False,
            temperature=1.0, seed=i, max_tokens=250).choices[0]
        assert answer.finish_reason == "tool_calls" and answer.message.content is None
        assert len(answer.message.tool_calls) == 1
        assert not named or answer.message.tool_calls[0].function.name == name
        check_calls(answer.message)


def joined(stream):
    """A stream's choices, put together as clients do."""
    choices = {}
    for chunk in stream:
        for part in chunk.choices:
            state = choices.setdefault(part.index, {"content": "", "reasoning": "", "calls": [], "finish": None})
            state["content"] += part.delta.content or ""
            state["reasoning"] += getattr(part.delta, "reasoning_content", None) or ""
            for call in part.delta.tool_calls or []:
                if call.index == len(state["calls"]):
                    state["calls"].append([call.function.name, ""])
                state["calls"][call.index][1] += call.function.arguments or ""
            state["finish"] = part.finish_reason or state["finish"]
    return [choices[index] for index in sorted(choices)]


def whole(answer):
    return [{"content": choice.message.content or "", "reasoning": getattr(choice.message, "reasoning_content", None) or "",
             "calls": [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or []],
             "finish": choice.finish_reason} for choice in answer.choices]


def random_request(draw):
    texts = ["Count from one to five.", "Schreibe Größe, Äpfel und 日本語 😀.", "Call a tool for Köln.", "Give me JSON."]
    request = {"messages": user(draw.choice(texts)), "temperature": draw.choice([0, 1.0]), "seed": draw.randrange(1000),
               "max_tokens": draw.choice([8, 24, 48])}
    if draw.random() < 0.6:
        request |= {"tools": TOOLS, "tool_choice": draw.choice(["auto", "required", "none", {"type": "function", "function": {"name": "tool_0"}}]),
                    "parallel_tool_calls": draw.random() < 0.5}
    elif draw.random() < 0.5:
        request["response_format"] = {"type": "json_schema", "json_schema": {"name": "n", "schema": TOOLS[0]["function"]["parameters"]}}
    if draw.random() < 0.4:
        request["stop"] = draw.sample(["e", "\n", "the", "5", "ö", '"'], 2)
    if draw.random() < 0.3:
        request["n"] = 2
    if draw.random() < 0.4:
        request["messages"] = request["messages"] + [{"role": "assistant", "content": "<think>\nWell"}]
        request["extra_body"] = {"continue_final_message": True, "thinking_token_budget": draw.choice([0, 3, 12])}
    return request


def test_a_stream_is_the_whole_answer(thinking_client, thinker):
    for seed in range(500 if LONG else 12):
        request = random_request(random.Random(seed)) | {"model": thinker.model}
        expected = whole(thinking_client.chat.completions.create(**request))
        assert joined(thinking_client.chat.completions.create(**request, stream=True)) == expected, request


def test_thinking_never_exceeds_its_budget(thinking_client, thinker):
    thought = 0
    for seed in range(1000 if LONG else 8):
        budget = seed % 14
        forced = seed % 2 == 0
        answer = thinking_client.chat.completions.create(
            model=thinker.model, messages=user("Why is the sky blue?") + [{"role": "assistant", "content": "<think>\nLet me"}],
            temperature=1.0, seed=seed, max_tokens=40 if not forced else 200, tools=TOOLS, parallel_tool_calls=False,
            tool_choice="required" if forced else "none",
            extra_body={"continue_final_message": True, "thinking_token_budget": budget})
        choice = answer.choices[0]
        tokens = answer.usage.completion_tokens_details.reasoning_tokens
        assert tokens <= budget
        thought += tokens
        if forced:
            assert choice.finish_reason == "tool_calls"
            check_calls(choice.message)
        else:
            assert "<tool_call>" not in choice.message.content
            # It thinks once: a tag that the model writes later is text of its own.
            assert "</think>" not in choice.message.reasoning_content and not choice.message.content.lstrip().startswith("</think>")
    assert thought > 0


def test_history_with_calls(client, server):
    messages = user("What is the weather?") + [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "tool_0", "arguments": '{"city": "Rome", "days": 2}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    answer = client.chat.completions.create(model=server.model, messages=messages, tools=TOOLS, max_tokens=8, temperature=0)
    assert answer.usage.prompt_tokens > 100  # the tools and the call are part of the prompt
    messages[1]["tool_calls"][0]["function"]["arguments"] = '{"city": '
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=server.model, messages=messages, tools=TOOLS, max_tokens=8)
    assert error.value.param == "messages[1].tool_calls[0].function.arguments" and error.value.code == "invalid_tool_arguments"
