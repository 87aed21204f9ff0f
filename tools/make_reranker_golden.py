#!/usr/bin/env python3
"""Makes tests/golden/reranker.json: a tiny random cross-encoder with a tokenizer, and the scores that `transformers` gives pairs of texts.

    python tools/make_reranker_golden.py

Needs torch, transformers and tokenizers (tools/golden/requirements.txt). The file holds no weights: they are a function of the tensors'
names, as those of the golden models are (golden_values.py); tests/e2e/harness.py makes the checkpoint from it.
"""
import json
import pathlib
import shutil
import sys
import tempfile

import tokenizers
import torch
from make_model_golden import Case, load, make_checkpoint
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/model_cases"))
from bert import BERT, LOUD  # noqa: E402

WORDS = "what is a the of in on and cat dog sun moon paris france capital rain snow river sea who wrote light runs far near".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *".,?!", *LETTERS, *("##" + letter for letter in LETTERS), *WORDS]
PAIRS = [
    ("What is the capital of France?", ["Paris is the capital of France.", "The river runs far.", "A cat and a dog.", "Rain, snow!"]),
    ("who wrote the sea", ["Light is near the sea", "xylophone", "the moon and the sun", "who? the cat wrote", "."]),
    ("moon", ["sun"]),
]


def make_tokenizer():
    tokenizer = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(VOCABULARY[:4])
    return tokenizer


def score(model, tokenizer, query, document):
    pair = tokenizer.encode(query, document)
    with torch.no_grad():
        logits = model(torch.tensor([pair.ids]), token_type_ids=torch.tensor([pair.type_ids])).logits
    return pair.ids, float(logits[0, 0])


def main():
    config = BertConfig(**(BERT | {"vocab_size": len(VOCABULARY), "num_labels": 1}))
    case = Case("reranker", config, BertForSequenceClassification, weights=LOUD)
    tokenizer = make_tokenizer()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        saved, tensors = make_checkpoint(case, folder)
        model = load(case, folder)
    finally:
        shutil.rmtree(folder)
    cases = []
    for query, documents in PAIRS:
        scored = [score(model, tokenizer, query, document) for document in documents]
        cases.append({"query": query, "documents": documents, "tokens": [ids for ids, _ in scored],
                      "scores": [round(value, 5) for _, value in scored]})
    golden = {"config": saved, "tokenizer": json.loads(tokenizer.to_str()), "tensors": tensors, "cases": cases}
    with open(ROOT / "tests/golden/reranker.json", "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in golden.items()) + "\n}\n")


if __name__ == "__main__":
    main()
