#!/usr/bin/env python3
"""Makes the golden data of a real model: what `transformers` says in float32 on the dequantised weights.

    python3 -m venv VENV && VENV/bin/pip install -r tools/golden/requirements.txt
    VENV/bin/python tools/golden/make.py MODEL.gguf tests/golden/smollm2-135m-instruct
    VENV/bin/python tools/golden/make.py gemma-3-270m-q4_k_m.gguf gemma-3-270m-q4_k_m.gguf.golden    # beside the model

writes OUT.logits (every position of tests/golden/text.txt) and OUT.greedy.json (20 prompts, 64 greedy tokens each). The
formats are described in tests/golden/README.md.
"""
import json
import pathlib
import struct
import sys

import gguf
import numpy
import torch

import gguf_llama
import gguf_transformers

WINDOW = 1024       # positions that see each other
TOP = 256           # logits kept for each position
GREEDY_TOKENS = 64
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


def chat_smollm2(question):
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def chat_gemma3(question):
    return f"<bos><start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n"


# By architecture: what reads the file, and how its chat looks.
FAMILIES = {"llama": (gguf_llama, chat_smollm2), "gemma3": (gguf_transformers, chat_gemma3)}


QUESTIONS = [
    "What is the capital of Norway, and what is it known for?",
    "Explain in simple words why ice floats on water.",
    "Write a short story about a robot that is afraid of stairs.",
    "List five uses for an empty jam jar.",
    "Translate into French: the library closes at six o'clock.",
    "What is the difference between a list and a tuple in Python?",
    "Give me a recipe for tomato soup.",
    "Who was Johannes Kepler?",
    "Write a polite letter asking a neighbour to turn the music down.",
    "How many legs do three spiders and two birds have together?",
]
BEGINNINGS = [
    "Once upon a time, at the edge of a large forest,",
    "The three most important inventions of the nineteenth century were",
    "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n",
    "#include <stdio.h>\n\nint main(void) {\n",
    "Q: Why do leaves change their colour in autumn?\nA:",
    "The mitochondrion is",
    "La ville de Paris est",
    "1, 2, 4, 8, 16, 32,",
    "Dear customer,\n\nthank you for your order. Unfortunately",
    "| planet | moons |\n|---|---|\n| Mars | 2 |\n| Jupiter |",
]


def position_record(logits, id_type):
    """logsumexp, tail mass, ids and logits of the top, largest first."""
    wide = logits.astype(numpy.float64)
    peak = wide.max()
    logsumexp = peak + numpy.log(numpy.exp(wide - peak).sum())
    order = numpy.argsort(-wide, kind="stable")
    tail = numpy.exp(wide[order[TOP:]] - logsumexp).sum()
    return (struct.pack("<ff", logsumexp, tail) + order[:TOP].astype(id_type).tobytes() +
            logits[order[:TOP]].astype("<f4").tobytes())


def write_logits(model, tokens, path):
    wide = model.config.vocab_size > 1 << 16
    windows = [tokens[start:start + WINDOW] for start in range(0, len(tokens), WINDOW)]
    with open(path, "wb") as out:
        out.write((b"NTGOLD2\n" if wide else b"NTGOLD1\n") + struct.pack("<II", len(windows), TOP))
        for window in windows:
            logits = model(torch.tensor([window])).logits[0].numpy()
            out.write(struct.pack("<I", len(window)) + numpy.array(window, "<i4").tobytes())
            for row in logits:
                out.write(position_record(row, "<u4" if wide else "<u2"))


def greedy(model, prompt_tokens):
    """Tokens, the runner-up of each, and by how much it lost; end-of-text tokens are ordinary here."""
    steps, cache, feed = [], None, prompt_tokens
    for _ in range(GREEDY_TOKENS):
        output = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
        best = torch.topk(output.logits[0, -1], 2)
        steps.append((best.indices[0].item(), best.indices[1].item(), (best.values[0] - best.values[1]).item()))
        cache, feed = output.past_key_values, [steps[-1][0]]
    tokens, runners_up, gaps = zip(*steps)
    return {"tokens": tokens, "runners_up": runners_up, "gaps": [round(gap, 6) for gap in gaps]}


def write_greedy(model, tokenizer, chat, path):
    entries = []
    for prompt in [chat(question) for question in QUESTIONS] + BEGINNINGS:
        tokens = tokenizer.encode(prompt).ids
        entry = {"prompt": prompt, "prompt_tokens": tokens, **greedy(model, tokens)}
        entry["text"] = tokenizer.decode(entry["tokens"], skip_special_tokens=False)
        entries.append(entry)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    pathlib.Path(path).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main():
    model_path, out = sys.argv[1:]
    family, chat = FAMILIES[gguf.GGUFReader(model_path).get_field("general.architecture").contents()]
    tokenizer = family.load_tokenizer(model_path)
    tokens = tokenizer.encode((GOLDEN / "text.txt").read_text(encoding="utf-8")).ids
    print(f"{len(tokens)} tokens")
    model = family.load_model(model_path)
    with torch.inference_mode():
        write_logits(model, tokens, f"{out}.logits")
        write_greedy(model, tokenizer, chat, f"{out}.greedy.json")


if __name__ == "__main__":
    main()
