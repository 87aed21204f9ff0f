"""Makes the golden data of the chat template tests with transformers' apply_chat_template.

    pip install transformers==5.23.0 jinja2==3.1.6 gguf==0.17.1      (no torch)
    python tools/make_template_golden.py SmolLM2-135M-Instruct.Q4_1.gguf

reads tests/golden/templates/*.jinja, and the template of the model file (which is not copied: only what it renders), and
writes tests/golden/templates/cases.json: conversations, options, and the text or the error that transformers gives.
"""

import datetime
import json
import pathlib
import sys

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/templates"
NOW = 1767268800  # 2026-01-01 12:00:00 UTC


class FrozenDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


def tool(name: str, description: str, properties: dict, required: list[str]) -> dict:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Weather of a city — naïve <b>forecast</b> & more", {
        "city": {"type": "string", "description": "Name, e.g. \"Zürich\" or '東京'"},
        "unit": {"type": "string", "enum": ["°C", "°F"]},
        "days": {"type": "array", "items": {"type": "integer"}},
    }, ["city"]),
    tool("send", "", {"to": {"type": "object", "properties": {"name": {"type": "string"}}}, "urgent": {"type": "boolean"},
                      "items": {"type": "number", "default": 1.0}}, ["to", "urgent"]),
]
CALL = {"id": "abc123XYZ", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2]}}}
CALL_AS_TEXT = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": '{"to": {"name": "O\'Neil"}}'}}


def user(text: str, **more) -> dict:
    return {"role": "user", "content": text} | more


def assistant(text: str | None, **more) -> dict:
    return {"role": "assistant", "content": text} | more


def system(text: str) -> dict:
    return {"role": "system", "content": text}


CONVERSATIONS = {
    "one": [user("Hi there!")],
    "system": [system("  Be brief. "), user("What is <b>2 & 3</b>?"), assistant(" It's \"five\". "), user("Sure? 你好 😀")],
    "named": [user("Hello, I am Ada", name="ada"), assistant("Hello!"), user("<r>hidden</r>", name="bob")],
    "tools": [
        system("Use tools."), user("Weather in Zürich?"), assistant(None, tool_calls=[CALL]),
        {"role": "tool", "content": "{\"t\": -3.5}", "tool_call_id": "abc123XYZ"}, assistant("Cold: −3.5 °C."), user("Thanks"),
    ],
    "many_calls": [
        user("Both"), assistant("Calling.", tool_calls=[CALL, CALL_AS_TEXT]),
        {"role": "tool", "content": "one", "tool_call_id": "abc123XYZ"}, {"role": "tool", "content": "two", "tool_call_id": "call_1"},
    ],
    "thinking": [
        user("2+2?"), assistant("4", reasoning_content="\nTwo and two.\n"), user("And 3+3?"),
        assistant("<think>\nThree and three.\n</think>\n\n6"), {"role": "tool", "content": "x", "tool_call_id": "t"},
        assistant("Done", reasoning_content="All of it."),
    ],
    "broken_order": [user("a"), user("b"), assistant("c")],
    "unknown_role": [{"role": "critic", "content": "boo"}, user("hm")],
    "half_said": [user("Tell me a story"), assistant("Once upon a time ")],
    "multiline": [system("Line one\nline two\n\n"), user("  leading\ttab\r\nand CRLF  \n"), assistant("{{ not a template }} {% if %}")],
}
EVERY = list(CONVERSATIONS)
PLAN = {  # template -> conversations
    "smollm2": EVERY,
    "chatml_tools.jinja": EVERY,
    "headers.jinja": EVERY,
    "alternation.jinja": ["one", "system", "named", "broken_order", "unknown_role", "multiline"],
    "last_question.jinja": ["one", "system", "named", "many_calls", "thinking", "multiline"],
    "macros.jinja": ["one", "system", "tools"],
    "json.jinja": ["one", "system", "tools", "multiline"],
    "loops.jinja": ["one", "system", "named", "thinking"],
    "filters.jinja": ["one", "system", "named"],
    "tests.jinja": ["one", "named"],
    "whitespace.jinja": ["one", "system"],
    "crlf.jinja": ["one"],
    "strings.jinja": ["one", "system", "multiline"],
    "thinking.jinja": EVERY,
    "dates.jinja": ["one"],
    "instructions.jinja": EVERY,
    "values.jinja": ["one", "system"],
    "scopes.jinja": ["one", "named"],
}


def options() -> list[dict]:
    return [
        {"add_generation_prompt": True},
        {"add_generation_prompt": False, "tools": TOOLS},
        {"add_generation_prompt": True, "arguments": {
            "enable_thinking": False, "date_string": "26 Jul 2024", "custom_value": {"a": [1, None]}, "custom_list": ["x", 2, True],
            "custom_map": {"deep": {"er": "found"}}}},
    ]


def render(tokenizer: PreTrainedTokenizerFast, source: str, case: dict) -> dict:
    try:
        text = tokenizer.apply_chat_template(
            case["messages"], tools=case.get("tools"), chat_template=source, tokenize=False,
            add_generation_prompt=case["add_generation_prompt"],
            continue_final_message=case.get("continue_final_message", False), **case.get("arguments", {}))
        return {"expected": text}
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"raised": str(error)} if raised else {"fails": f"{type(error).__name__}: {error}"}
    except Exception as error:  # whatever Python raises in a template
        return {"fails": f"{type(error).__name__}: {error}"[:200]}


def snippets(tokenizer: PreTrainedTokenizerFast) -> list[dict]:
    """One small template a line (a line that ends in a backslash goes on), each rendered for the conversation "one"."""
    texts = (FOLDER / "snippets.txt").read_text().replace("\\\n", "\0").splitlines()
    case = {"messages": CONVERSATIONS["one"], "add_generation_prompt": False}
    return [{"source": t} | render(tokenizer, t, case) for t in (text.replace("\0", "\\\n") for text in texts)]


def model_template(path: str) -> str:
    import gguf

    return gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()


def main() -> None:
    chat_template_utils.datetime = FrozenDatetime
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<|im_start|>", eos_token="<|im_end|>")
    cases = []
    for name, conversations in PLAN.items():
        source = model_template(sys.argv[1]) if name == "smollm2" else (FOLDER / name).read_bytes().decode()
        for conversation in conversations:
            variants = options() if conversation in ("one", "tools") else options()[:1]
            if conversation == "half_said":
                variants = options()[:1] + [{"add_generation_prompt": False, "continue_final_message": True}]
            for option in variants:
                case = {"template": name, "conversation": conversation, "messages": CONVERSATIONS[conversation]} | option
                result = render(tokenizer, source, case)
                del case["messages"]
                cases.append(case | result)
    with open(FOLDER / "cases.json", "w") as file:
        file.write(json.dumps({"now": NOW, "bos": "<|im_start|>", "eos": "<|im_end|>"})[:-1] + ',\n"conversations": {\n')
        file.write(",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in CONVERSATIONS.items()))
        small = snippets(tokenizer)
        file.write('\n},\n"snippets": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in small))
        file.write('\n],\n"cases": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]}\n")
    kinds = [next(k for k in ("expected", "raised", "fails") if k in c) for c in cases]
    print(len(cases), {k: kinds.count(k) for k in set(kinds)})
    for case in cases:
        if "fails" in case:
            print(case["template"], case["conversation"], case["fails"][:150])


if __name__ == "__main__":
    main()
