"""Requests that schemathesis makes up from /openapi.json, valid and invalid: no 5xx, and every answer as the document says.

`positive_data_acceptance` is left out: that a prompt fits the context, or that two fields exclude each other, is no matter of a schema.
"""
import json
import os
import pathlib
import subprocess
import sys

from harness import TINY

LONG = os.environ.get("NEUTRINO_TEST_LONG") == "1"
LIMITS = ["--phases", "examples,coverage,fuzzing", "--max-examples", "100"] if LONG else ["--phases", "coverage"]


def document_for(server):
    """The server's document, with what only this server knows: the names of its models."""
    document = server.get("/openapi.json").json()
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            for media in content.values():
                fields = media["schema"]["properties"]
                if "model" in fields:
                    fields["model"]["enum"] = [server.model]
    return document


def run_schemathesis(server, document, folder, *flags):
    path = folder / "openapi.json"
    path.write_text(json.dumps(document))
    command = [pathlib.Path(sys.executable).parent / "schemathesis", "run", path, "--url", server.url, "--mode", "all", "--seed", "1",
               "-H", f"Authorization: Bearer {server.key}", "--checks", "all", "--exclude-checks", "positive_data_acceptance",
               "--request-timeout", "60", "--no-color", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_whatever_schemathesis_asks_is_answered_as_documented(start, tmp_path):
    server = start(TINY, "--context", 64)
    document = document_for(server)
    del document["paths"]["/sleep"]  # after it 503 is the right answer
    result = run_schemathesis(server, document, tmp_path, *LIMITS)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    metrics = server.metrics()
    answered = {status: sum(value for (name, labels), value in metrics.items()
                            if name == "http_requests_total" and ("status", status) in labels) for status in ("2xx", "4xx", "5xx")}
    assert answered["5xx"] == 0 and answered["2xx"] > 50 and answered["4xx"] > 200, answered


def test_an_answer_that_is_not_as_documented_is_found(start, tmp_path):
    server = start(TINY, "--context", 64)
    document = document_for(server)
    version = document["paths"]["/v1/version"]
    version["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "object", "required": ["no_such_key"]}
    document["paths"] = {"/v1/version": version}
    result = run_schemathesis(server, document, tmp_path, "--phases", "coverage")
    assert result.returncode == 1 and "no_such_key" in result.stdout
