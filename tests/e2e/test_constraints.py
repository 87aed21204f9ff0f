"""Answers that must have a form: a random model under schemas, and a real one through the official client."""
import json
import os
import re
import subprocess

import jsonschema
import openai
import pytest

import harness

SCHEMAS = harness.ROOT / "tests" / "golden" / "constraints" / "bounded_schemas.json"
RANDOM_ANSWERS = harness.RELEASE.parent / "bench" / "random_answers"
QUESTION = [{"role": "user", "content": "Tell me about a person."}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                   "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 3}},
    "required": ["name", "age", "tags"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}


def random_answers(*flags):
    output = subprocess.run([RANDOM_ANSWERS, SCHEMAS, *map(str, flags)], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def is_valid(answer, schemas):
    checker = jsonschema.FormatChecker(["uuid", "ipv4"])
    try:
        jsonschema.validate(json.loads(answer["text"]), schemas[answer["schema"]],
                            cls=jsonschema.Draft202012Validator, format_checker=checker)
        return answer["finish"] == "stop"
    except (ValueError, jsonschema.ValidationError):
        return False


def test_every_answer_of_a_random_model_is_valid():
    count = 1000 if os.environ.get("NEUTRINO_TEST_LONG") else 240
    schemas = json.loads(SCHEMAS.read_text())
    answers = random_answers("--count", count)
    assert len(answers) == count
    assert [answer for answer in answers if not is_valid(answer, schemas)] == []


def test_without_grammars_hardly_an_answer_is_valid():
    schemas = json.loads(SCHEMAS.read_text())
    assert sum(is_valid(answer, schemas) for answer in random_answers("--count", 16, "--free")) <= 2


def ask(client, server, **options):
    return client.chat.completions.create(
        model=server.model, messages=QUESTION, **({"max_tokens": 200, "temperature": 0.8, "seed": 7} | options))


@pytest.mark.parametrize("options", [
    {}, {"n": 3}, {"logprobs": True, "top_logprobs": 2}, {"temperature": 0}, {"presence_penalty": 1.5},
    {"extra_body": {"min_tokens": 150}}, {"extra_body": {"ignore_eos": True}}])
def test_a_schema_holds_whatever_else_is_asked_for(client, server, options):
    answer = ask(client, server, response_format=FORMAT, **options)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        person = json.loads(choice.message.content)
        jsonschema.validate(person, PERSON)
        assert list(person) == ["name", "age", "tags"]
        if choice.logprobs:
            assert "".join(token.token for token in choice.logprobs.content).startswith(choice.message.content)


def test_a_stream_is_the_whole_answer_and_counts_forced_tokens(client, server):
    whole = ask(client, server, response_format=FORMAT)
    parts = list(ask(client, server, response_format=FORMAT, stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole.choices[0].message.content
    assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens
    # With log probabilities, where nothing is forced at once, the tokens are the same.
    slow = ask(client, server, response_format=FORMAT, logprobs=True)
    assert slow.choices[0].message.content == whole.choices[0].message.content
    assert slow.usage.completion_tokens == whole.usage.completion_tokens == len(slow.choices[0].logprobs.content)


@pytest.mark.parametrize("fields, pattern", [
    ({"guided_regex": r"[A-Z][a-z]{2,8} is \d{1,3}\."}, r"[A-Z][a-z]{2,8} is \d{1,3}\."),
    ({"structured_outputs": {"choice": ["yes", "no", "perhaps"]}}, r"yes|no|perhaps"),
    ({"nvext": {"guided_choice": ["left", "right"]}}, r"left|right"),
    ({"grammar": 'root ::= "(" root ")" | [a-z]{1,4}'}, r"\(*[a-z]{1,4}\)*"),
    ({"structured_outputs": {"grammar": 'start: "a" /[0-9]+/ "b"'}}, r"a[0-9]+b"),
    ({"ebnf": 'root ::= word ("-" word){2}\nword ::= [a-z]{2,5}'}, r"[a-z]{2,5}(-[a-z]{2,5}){2}"),
    ({"json_schema": {"type": "integer", "minimum": 3, "maximum": 5}}, r"[345]"),
    ({"structured_outputs": {"structural_tag": {
        "type": "structural_tag", "triggers": ["<n>"],
        "structures": [{"begin": "<n>", "schema": {"type": "integer", "maximum": 9, "minimum": 0}, "end": "</n>"}]}}},
     r"(?s)((?!<n>).)*(<n>[0-9]</n>((?!<n>).)*)*"),
])
def test_each_kind_of_constraint_holds_on_both_routes(client, server, fields, pattern):
    answers = [ask(client, server, max_tokens=64, extra_body=fields).choices[0],
               client.completions.create(model=server.model, prompt="Answer:", max_tokens=64, seed=1, extra_body=fields).choices[0]]
    for choice in answers:
        text = choice.text if hasattr(choice, "text") else choice.message.content
        if choice.finish_reason == "stop":
            assert re.fullmatch(pattern, text), text


def test_json_object_is_an_object(client, server):
    answer = ask(client, server, response_format={"type": "json_object"}, max_tokens=400, temperature=0)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    assert answer.choices[0].message.content.startswith("{")


@pytest.mark.parametrize("fields, code, param", [
    ({"guided_json": {"properties": {"a": {"type": "array", "uniqueItems": True}}}}, "unsupported_schema_keyword",
     "guided_json.properties.a.uniqueItems"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}}},
     "invalid_json_schema", "response_format.json_schema.schema.type"),
    ({"guided_regex": "("}, "invalid_grammar", "guided_regex"),
    ({"guided_regex": "a", "guided_choice": ["a"]}, None, "guided_choice"),
])
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_constraint_is_refused_before_the_answer(client, server, fields, code, param, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, server, extra_body=fields, stream=stream)
    assert caught.value.param == param
    assert code is None or caught.value.code == code
