"""A cross-encoder served end to end: /v1/rerank and /v1/score give the scores of transformers (tools/make_reranker_golden.py)."""
import json
import math

import pytest

from golden_checkpoint import write_checkpoint
from harness import ROOT, Server

GOLDEN = json.loads((ROOT / "tests/golden/reranker.json").read_text())
CASES = GOLDEN["cases"]


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(GOLDEN, tmp_path_factory.mktemp("reranker"))


@pytest.fixture(scope="module")
def reranker(checkpoint, home):
    server = Server(checkpoint, "--exact", home=home)
    yield server
    assert server.stop() == 0


def rerank(server, case, **options):
    answer = server.post("/v1/rerank", {"model": server.model, "query": case["query"], "documents": case["documents"], **options})
    assert answer.status == 200, answer.body
    return answer.json()


def score(server, first, second, **options):
    answer = server.post("/v1/score", {"model": server.model, "text_1": first, "text_2": second, **options})
    assert answer.status == 200, answer.body
    return [entry["score"] for entry in answer.json()["data"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["query"])
def test_ranks_as_transformers_does(reranker, case):
    answer = rerank(reranker, case, return_documents=True)
    best_first = sorted(range(len(case["documents"])), key=lambda i: -case["scores"][i])
    assert [result["index"] for result in answer["results"]] == best_first
    for result in answer["results"]:
        assert result["relevance_score"] == pytest.approx(sigmoid(case["scores"][result["index"]]), abs=1e-4)
        assert result["document"]["text"] == case["documents"][result["index"]]
    assert answer["usage"]["prompt_tokens"] == sum(map(len, case["tokens"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["query"])
def test_scores_equal_transformers(reranker, case):
    assert score(reranker, case["query"], case["documents"], use_activation=False) == pytest.approx(case["scores"], abs=1e-3)
    assert score(reranker, case["query"], case["documents"]) == pytest.approx([sigmoid(s) for s in case["scores"]], abs=1e-4)


def test_which_text_stands_first_counts(reranker):
    """The negative control: the tolerance tells pairs apart."""
    case = CASES[0]
    turned = score(reranker, case["documents"][0], case["query"], use_activation=False)
    assert abs(turned[0] - case["scores"][0]) > 1e-2


def test_top_n_and_pairs(reranker):
    whole = rerank(reranker, CASES[1])["results"]
    assert rerank(reranker, CASES[1], top_n=2)["results"] == whole[:2]
    pairs = score(reranker, [case["query"] for case in CASES], [case["documents"][0] for case in CASES], use_activation=False)
    assert pairs == pytest.approx([case["scores"][0] for case in CASES], abs=1e-3)


def test_the_quantised_arithmetic_is_near(start, checkpoint):
    server = start(checkpoint)
    for case in CASES:
        assert score(server, case["query"], case["documents"], use_activation=False) == pytest.approx(case["scores"], abs=0.05)


def test_a_reranker_makes_nothing_else(reranker):
    for path, body in [("/v1/completions", {"prompt": "a"}), ("/v1/embeddings", {"input": "a"}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})]:
        answer = reranker.post(path, {"model": reranker.model, **body})
        assert answer.status == 400 and "rerank" in answer.error()["message"], answer.body
