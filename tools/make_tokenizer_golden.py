"""Makes the golden data of the tokenizer tests with Hugging Face's `tokenizers`.

    pip install tokenizers==0.23.3 gguf==0.17.1
    python tools/make_tokenizer_golden.py SmolLM2-135M-Instruct.Q4_1.gguf

writes into tests/golden/tokenizer/:
  tiny.json       a byte-level BPE vocabulary of 1000 tokens trained on text.txt, and cases: a text and the ids it has with each
                  pre-tokenizer, with special tokens parsed or taken as text. For unit tests, which have no model file.
  smollm2.json    the same cases, and the whole of text.txt, with the vocabulary of the model file.
"""

import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tokenizer"
PRE_TOKENIZERS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    ),
}
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im|>", "<|im_", "<tool_call>"]

# Pieces that random texts are put together from: what the splitters decide on, and what lies next to it.
PARTS = [
    " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2003", "\u0085", "\u2028", "\v", "\f",
    "a", "b", "ab", "the", "The", "é", "ß", "ñ", "д", "中", "の", "한", "ق", "ก", "ª", "ǅ", "ʰ", "𝒳",
    "0", "7", "12", "345", "٣", "४", "½", "²", "Ⅷ", "①", "𝟏", "一", "㊿",
    "'", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'l", "'r", "'v", "''", "’s",
    ".", ",", "!", "?", "-", "_", "(", ")", "<", ">", "|", "<|", "\\", "\"", "#", "@", "€", "…", "—", "\u0301", "\u200d",
    "\u200b", "\ufeff", "\ufffd", "😀", "👩‍👧", "❤️", "🇩🇪", "\U0010fffd", "\u0378",
]


def random_texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(PARTS, k=draw.randint(1, 14))) for _ in range(count)]


def special_texts() -> list[str]:
    return [
        "<|im_start|>user\nHello<|im_end|>\n", "<|im_start|><|im_start|>", "<|im_startx|im_end|>", "a<|im|>b", "<|im_",
        "<|im_start", "<|endoftext|>1<|endoftext|> 1", "<tool_call>{}</tool_call>", " <|im_end|> ", "x<|im_en<|im_end|>d|>",
    ]


def train_tiny() -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRE_TOKENIZERS["gpt-2"]()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, show_progress=False, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([(FOLDER / "text.txt").read_text()], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


def read_gguf(path: str) -> tuple[dict[str, int], list[tuple[str, str]], list[str]]:
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"].contents()]
    return {t: i for i, t in enumerate(tokens)}, merges, [t for t, k in zip(tokens, kinds) if k == 3]


def make(vocab: dict[str, int], merges: list[tuple[str, str]], specials: list[str], pre: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=specials[0]))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return tokenizer


def ids(tokenizer: Tokenizer, text: str, parse: bool) -> list[int]:
    tokenizer.encode_special_tokens = not parse
    return tokenizer.encode(text, add_special_tokens=False).ids


def write(name: str, value: dict) -> None:
    lists = {k: v for k, v in value.items() if k == "cases"}
    with open(FOLDER / name, "w") as file:
        file.write("{\n")
        for key, item in value.items():
            if key not in lists:
                file.write(f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)},\n")
        file.write('"cases": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in value["cases"]) + "\n]}\n")


def main() -> None:
    vocab, merges = train_tiny()
    cases = []
    tokenizers = {pre: make(vocab, merges, SPECIALS, pre) for pre in PRE_TOKENIZERS}
    lines = (FOLDER / "text.txt").read_text().splitlines(keepends=True)
    for text in lines + random_texts(400, seed=1) + special_texts():
        case = {"text": text} | {pre: ids(t, text, parse=True) for pre, t in tokenizers.items()}
        if any(s in text for s in SPECIALS):
            case |= {f"{pre} as text": ids(t, text, parse=False) for pre, t in tokenizers.items()}
        cases.append(case)
    ordered = sorted(vocab, key=vocab.get)
    write("tiny.json", {"specials": SPECIALS, "tokens": ordered, "merges": [" ".join(m) for m in merges], "cases": cases})

    vocab, merges, specials = read_gguf(sys.argv[1])
    tokenizer = make(vocab, merges, specials, "smollm")
    texts = [(FOLDER / "text.txt").read_text()] + random_texts(400, seed=2) + special_texts()
    cases = []
    for text in texts:
        case = {"text": text, "smollm": ids(tokenizer, text, parse=True)}
        if any(s in text for s in specials):
            case["smollm as text"] = ids(tokenizer, text, parse=False)
        cases.append(case)
    write("smollm2.json", {"cases": cases})


if __name__ == "__main__":
    main()
