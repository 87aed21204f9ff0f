"""Requests that schemathesis makes up from /openapi.json, valid and invalid: no 5xx, and every answer as the document says.

All of its checks, but for one check on some routes: `positive_data_acceptance` asks that whatever fits the schema is accepted. That is asked
of every route whose fields can say it one by one. Not of those below, where fields together decide, which the document does not tell.
"""
import json
import os
import pathlib
import subprocess
import sys

from golden_checkpoint import write_checkpoint
from harness import ROOT, TINY

LONG = os.environ.get("NEUTRINO_TEST_LONG") == "1"
LIMITS = ["--phases", "examples,coverage,fuzzing", "--max-examples", "100"] if LONG else ["--phases", "coverage"]

TALK = "prompt and max_tokens must fit the context; constraints exclude each other; schemas, grammars and tools are compiled"
TEXT_OR_MESSAGES = "exactly one of prompt and messages; template arguments are those that the template reads"
A_NAME = "names have letters, digits, dots, dashes and underscores; the document says of a path's parameter only that it is a string"
ONE_OR_AS_MANY = "text_1 holds one text, or as many as text_2"
NOT_ALWAYS_ACCEPTED = {
    "/v1/chat/completions": TALK,
    "/v1/chat/completions/render": TALK,
    "/v1/completions": TALK,
    "/v1/completions/render": TALK,
    "/v1/messages": TALK,
    "/v1/messages/count_tokens": TALK,
    "/v1/responses": TALK,
    "/tokenize": TEXT_OR_MESSAGES,
    "/v1/prefixes/{id}/save": TEXT_OR_MESSAGES,
    "/v1/load_lora_adapter": "the path must lead to an adapter",
    "/v1/prefixes/{id}": A_NAME,
    "/v1/prefixes/{id}/restore": A_NAME,
    "/v1/score": ONE_OR_AS_MANY,
    "/score": ONE_OR_AS_MANY,
}
SLEEP = ("/sleep", "/wake_up", "/is_sleeping")
SCORES = ("/v1/score", "/score", "/v1/rerank", "/rerank", "/v2/rerank")
VECTORS = ("/v1/embeddings",)


def config(paths, exclusions):
    """Schemathesis's, with the reason beside each exclusion."""
    return "".join(f'# {reason}\n[[operations]]\ninclude-path = "{path}"\nchecks.positive_data_acceptance.enabled = false\n'
                   for path, reason in exclusions.items() if path in paths)


def bound_ids(schema, largest):
    """Says in a schema of token ids how many there are."""
    if schema.get("type") == "integer":
        schema["maximum"] = largest
    for part in [schema.get("items"), *schema.get("anyOf", [])]:
        if isinstance(part, dict):
            bound_ids(part, largest)


def document_for(server, paths=None, without=(), **only_values):
    """The server's document, or a part of it, with what only this server knows: its model's name and vocabulary, and the only value of
    some fields."""
    vocabulary = server.get("/v1/metadata").json()["vocab_size"]
    document = server.get("/openapi.json").json()
    document["paths"] = {path: operations for path, operations in document["paths"].items()
                         if (paths is None or path in paths) and path not in without}
    for operations in document["paths"].values():
        for operation in operations.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                fields = media["schema"]["properties"]
                for name in {"tokens", "input"} & fields.keys():
                    bound_ids(fields[name], vocabulary - 1)
                for name, value in (only_values | {"model": server.model}).items():
                    if name in fields:
                        fields[name]["enum"] = [value]
    return document


def run_schemathesis(server, document, folder, *flags, exclusions=NOT_ALWAYS_ACCEPTED):
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(config(document["paths"], exclusions))
    command = [pathlib.Path(sys.executable).parent / "schemathesis", "run", "openapi.json", "--url", server.url, "--mode", "all", "--seed", "1",
               "-H", f"Authorization: Bearer {server.key}", "--request-timeout", "60", "--no-color", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def answered(server, status):
    """How many requests ended so."""
    return sum(value for (name, labels), value in server.metrics().items() if name == "http_requests_total" and ("status", status) in labels)


def expect_as_documented(server, document, folder, accepted, refused):
    result = run_schemathesis(server, document, folder, *LIMITS)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert answered(server, "5xx") == 0 and answered(server, "2xx") > accepted and answered(server, "4xx") > refused


def test_a_model_of_text(start, tmp_path):
    server = start(TINY, "--context", 256)
    expect_as_documented(server, document_for(server, without=[*SLEEP, *SCORES, *VECTORS]), tmp_path, accepted=100, refused=500)
    # Apart from the others, whose right answer during sleep is a 503.
    expect_as_documented(server, document_for(server, SLEEP), tmp_path, accepted=100, refused=500)
    server.post("/wake_up", "")
    # What makes no text and no vectors says so with a 4xx: never accepted here.
    (folder := tmp_path / "others").mkdir()
    result = run_schemathesis(server, document_for(server, [*SCORES, *VECTORS]), folder, *LIMITS, "--exclude-checks", "positive_data_acceptance")
    assert result.returncode == 0 and answered(server, "5xx") == 0, result.stdout[-6000:]


def tiny_encoder(folder, name):
    """A golden model with the tokenizer of the golden reranker."""
    golden = {which: json.loads((ROOT / "tests/golden" / f"{which}.json").read_text()) for which in ("reranker", name)}
    folder.mkdir()
    return write_checkpoint({"tokenizer": golden["reranker"]["tokenizer"]} | golden[name], folder)


def test_a_reranker(start, tmp_path):
    server = start(tiny_encoder(tmp_path / "tiny", "reranker"))
    expect_as_documented(server, document_for(server, SCORES), tmp_path, accepted=50, refused=50)


def test_an_embedding_model(start, tmp_path):
    server = start(tiny_encoder(tmp_path / "tiny", "models/bert"))
    vector = server.post("/v1/embeddings", {"model": server.model, "input": "a"}).json()["data"][0]["embedding"]
    document = document_for(server, VECTORS, dimensions=len(vector))
    expect_as_documented(server, document, tmp_path, accepted=10, refused=10)


def test_an_answer_that_is_not_as_documented_is_found(start, tmp_path):
    server = start(TINY, "--context", 64)
    document = document_for(server, ["/v1/version"])
    answer = document["paths"]["/v1/version"]["get"]["responses"]["200"]
    answer["content"]["application/json"]["schema"] = {"type": "object", "required": ["no_such_key"]}
    result = run_schemathesis(server, document, tmp_path, "--phases", "coverage")
    assert result.returncode == 1 and "no_such_key" in result.stdout


def test_a_valid_request_that_is_refused_is_found(start, tmp_path):
    """Also: the exclusions are needed."""
    server = start(TINY, "--context", 64)
    result = run_schemathesis(server, document_for(server, ["/tokenize"]), tmp_path, "--phases", "coverage", exclusions={})
    assert result.returncode == 1 and "Schema-valid request rejected" in result.stdout, result.stdout
