"""Makes tests/golden/tokenizer/families/*.json: for each family of tokenizers a small one trained on our own text by Hugging
Face's `tokenizers`, with that family's normaliser, pre-tokenizer and post-processor, and the ids that it gives.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python tools/make_tokenizer_families.py [family ...]
    python tools/make_tokenizer_families.py --real NAME=tokenizer.json ...   (hashes for real.json; also NAME=model.gguf)

Each file: "tokenizer" is its tokenizer.json, where a BPE model's "vocab" and "merges" are written shorter (pack_model());
"texts" are [text, ids, ids with the template, text decoded from the ids]; "hashes" are [seed, bytes, number of ids, SHA-256 of
the ids as little-endian int32] of tokenizer_text.hard_text(). Control: "negative" is the hash of another family's cutting.
"""

import hashlib
import json
import pathlib
import struct
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizer_text import hard_text

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tokenizer/families"
SIZE = 4096
TRAINING = hard_text(seed=1, size=700_000)
LINES = TRAINING.split("\n")
HASHED = [(7, 1 << 16), (8, 1 << 20)]

ANY_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = ANY_CASE + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = ANY_CASE + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PREFIX = r"[^\r\n\p{L}\p{N}]?"
O200K = (f"{PREFIX}{UPPER}*{LOWER}+{ANY_CASE}?|{PREFIX}{UPPER}+{LOWER}*{ANY_CASE}?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES)
TEKKEN = f"{PREFIX}{UPPER}*{LOWER}+|{PREFIX}{UPPER}+{LOWER}*" + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES
UPPER_NOT_HAN, LOWER_NOT_HAN = UPPER[:-1] + r"&&[^\p{Han}]]", LOWER[:-1] + r"&&[^\p{Han}]]"
KIMI = (r"[\p{Han}]+|" + f"{PREFIX}{UPPER_NOT_HAN}*{LOWER_NOT_HAN}+{ANY_CASE}?|{PREFIX}{UPPER_NOT_HAN}+{LOWER_NOT_HAN}*{ANY_CASE}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES)
DEEPSEEK_V3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
               + SPACES)
DEEPSEEK_LETTERS = (
    r"\s?" "[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376"
    "\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-"
    "\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A"
    "\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4"
    "\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC"
    "\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F"
    "\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B"
    "\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A"
    "\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2"
    "\U000118A0-\U000118DF\U0001E900-\U0001E943]+")
DEEPSEEK_HAN = "[一-龥ࠀ-一가-퟿]+"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def split(pattern: str, behavior: str = "isolated", invert: bool = False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(*splits, use_regex=False, add_prefix_space=False):
    last = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)
    return pre_tokenizers.Sequence([*splits, last]) if splits else last


def train_bytes(pre_tokenizer, normalizer=None, ignore_merges=False, extra=()) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=SIZE, show_progress=False, special_tokens=SPECIALS,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([TRAINING], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(extra))
    return tokenizer


def template(tokenizer: Tokenizer, single: str, pair: str | None, *tokens: str):
    ids = [(t, tokenizer.token_to_id(t)) for t in tokens]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def llama3() -> Tokenizer:
    tokenizer = train_bytes(byte_level(split(LLAMA3)), ignore_merges=True)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False), template(tokenizer, "<|im_start|> $A", "<|im_start|> $A <|im_start|>:1 $B:1", "<|im_start|>")])
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = train_bytes(byte_level(use_regex=True, add_prefix_space=True))
    tokenizer.post_processor = processors.RobertaProcessing(("<|im_end|>", 2), ("<|im_start|>", 1))
    return tokenizer


# Added tokens of every kind: taking spaces along, standing alone, looked for after normalisation.
ADDED = [AddedToken("<mask>", lstrip=True, special=True), AddedToken("<right>", rstrip=True, special=True),
         AddedToken("word", single_word=True, normalized=False), AddedToken("Ünïted", normalized=True),
         AddedToken("  ", normalized=False), AddedToken("<tool>", normalized=True)]


def modern_bert() -> Tokenizer:
    tokenizer = train_bytes(byte_level(use_regex=True), normalizers.NFC(), extra=ADDED)
    tokenizer.post_processor = template(tokenizer, "<|im_start|> $A <|im_end|>", "<|im_start|> $A <|im_end|> $B <|im_end|>",
                                        "<|im_start|>", "<|im_end|>")
    return tokenizer


BYTES = [f"<0x{b:02X}>" for b in range(256)]


def train_pieces(byte_fallback=True) -> Tokenizer:
    """SentencePiece's BPE: trained word by word; what it is used with comes after."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<unk>", "<s>", "</s>"] + (BYTES if byte_fallback else [])
    trainer = trainers.BpeTrainer(vocab_size=SIZE, show_progress=False, special_tokens=specials, limit_alphabet=400)
    tokenizer.train_from_iterator(LINES, trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in BYTES]
    return Tokenizer.from_str(json.dumps(data))


PIECES = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def llama2() -> Tokenizer:
    tokenizer = train_pieces()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence([*PIECES, decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = template(tokenizer, "<s> $A", "<s> $A <s>:1 $B:1", "<s>")
    return without_pre_tokenizer(tokenizer)


def without_pre_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(data))


def mistral() -> Tokenizer:
    tokenizer = train_pieces()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([*PIECES, decoders.Strip(" ", 1, 0)])
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = train_pieces()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(PIECES)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ["\n\n", "\n\n\n", "▁▁", "▁▁▁", "<table>"]])
    tokenizer.post_processor = template(tokenizer, "<s> $A", None, "<s>")
    return tokenizer


def no_fallback() -> Tokenizer:
    tokenizer = train_pieces(byte_fallback=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(individual_digits=False)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def train_unigram(normalizer, pre_tokenizer, byte_fallback=False) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    specials = ["<s>", "<pad>", "</s>", "<unk>"] + (BYTES if byte_fallback else [])
    trainer = trainers.UnigramTrainer(vocab_size=SIZE, show_progress=False, unk_token="<unk>", special_tokens=specials)
    tokenizer.train_from_iterator(LINES, trainer)
    data = json.loads(tokenizer.to_str())
    data["model"]["byte_fallback"] = byte_fallback
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in BYTES]
    # Rarely used characters go, so that some are unknown.
    vocab = data["model"]["vocab"]
    data["model"]["vocab"] = [v for i, v in enumerate(vocab) if i < 300 or len(v[0]) > 1 or hash_of(v[0]) % 8]
    return Tokenizer.from_str(json.dumps(data))


def hash_of(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def charsmap() -> bytes:
    """SentencePiece compiles these rules; real models hold 240 KB of them, of which these are the kinds."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto
    rules = {"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u2003": " ", "\u200b": "", "\ufeff": "", "\x7f": "", "\x01": "",
             "\ufb01": "fi", "\ufb03": "ffi", "\u00bd": "1/2", "\u2460": "1", "\u2026": "...", "\u33ff": "gal", "\uff21": "A", "\uff41": "a",
             "e\u0301": "\u00e9", "a\u0323": "\u1ea1", "\u212b": "\u00c5", "\u0130": "I", "\u1e9e": "SS", "\u2581": "_",
             "\uff76": "\u30ab", "\u00aa": "a", "\u1100\u1161": "\uac00", "\r\n": " "}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "text").write_text("\n".join(f"word{i} other{i % 7}" for i in range(300)))
        (folder / "rules").write_text("".join(
            f"{' '.join(f'{ord(c):X}' for c in k)}\t{' '.join(f'{ord(c):X}' for c in v)}\n" for k, v in rules.items()))
        sentencepiece.SentencePieceTrainer.train(input=str(folder / "text"), model_prefix=str(folder / "m"), vocab_size=60,
                                                 hard_vocab_limit=False, normalization_rule_tsv=str(folder / "rules"), minloglevel=2)
        model = proto.ModelProto()
        model.ParseFromString((folder / "m.model").read_bytes())
        return model.normalizer_spec.precompiled_charsmap


def xlm_roberta() -> Tokenizer:
    normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer = train_unigram(normalizer, pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = template(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")
    return tokenizer


def t5() -> Tokenizer:
    tokenizer = train_unigram(normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]), pre_tokenizers.Metaspace(), byte_fallback=True)
    tokenizer.decoder = decoders.Sequence([*PIECES, decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = template(tokenizer, "$A </s>", "$A </s> $B </s>", "</s>")
    return tokenizer


def bert(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=SIZE, show_progress=False, limit_alphabet=500,
                                        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.train_from_iterator([TRAINING], trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
    return tokenizer


FAMILIES = {
    "gpt-2": lambda: train_bytes(byte_level(use_regex=True)),
    "smollm": lambda: train_bytes(byte_level(pre_tokenizers.Digits(individual_digits=True), use_regex=True)),
    "llama-bpe": llama3,
    "glm4": lambda: train_bytes(byte_level(split(LLAMA3, "removed", True))),
    "qwen2": lambda: train_bytes(byte_level(split(QWEN2)), normalizers.NFC()),
    "qwen35": lambda: train_bytes(byte_level(split(QWEN35)), normalizers.NFC()),
    "gpt-4o": lambda: train_bytes(byte_level(split(O200K))),
    "tekken": lambda: train_bytes(byte_level(split(TEKKEN)), ignore_merges=True),
    "kimi-k2": lambda: train_bytes(byte_level(split(KIMI))),
    "deepseek-v3": lambda: train_bytes(byte_level(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK_V3))),
    "deepseek-llm": lambda: train_bytes(byte_level(
        split("[\r\n]"), split(DEEPSEEK_LETTERS), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split(DEEPSEEK_HAN),
        pre_tokenizers.Digits(individual_digits=True))),
    "deepseek-coder": lambda: train_bytes(byte_level(
        split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(DEEPSEEK_HAN), pre_tokenizers.Digits(individual_digits=True))),
    "bloom": lambda: train_bytes(byte_level(split(r" ?[^(\s|.,!?…。，、।۔،)]+"))),
    "roberta": roberta,
    "modern-bert": modern_bert,
    "llama-2": llama2,
    "mistral": mistral,
    "gemma": gemma,
    "no-fallback": no_fallback,
    "xlm-roberta": xlm_roberta,
    "t5": t5,
    "bert-uncased": lambda: bert(lowercase=True),
    "bert-cased": lambda: bert(lowercase=False),
}

TEXTS = ["", " ", "  ", "\n", "Hello, world!", " Hello  world ", "don't DON'T 'ſ we'LL x'Ve", "\r\n\r\n  \n x", "the  <mask>  end <right>  go",
         "a word, words sword word. ünïted Ünïted U\u0308ni\u0308ted", "<|im_start|>user\nHi<|im_end|> <s>a</s>[CLS][MASK]b <tool>", "  \n\n\n x ▁▁ y▁z",
         "a" * 150, "中" * 40 + "x", "1234567890 ٣٤٥ ½Ⅷ", "\u0001\u0002\u007f\u0000a\u0000", "🧑‍🚀👩‍👧🇩🇪", "e\u0301a\u0302\u0323", "U+FFFD \ufffd!", "it is n't so . do not ' x ' we 're"]


def pack_model(data: dict) -> None:
    """A trained BPE vocabulary is its first tokens and one token for each merge: merges as pairs of ids say it all."""
    model = data["model"]
    if model["type"] != "BPE":
        return
    vocab = model["vocab"]
    ordered = sorted(vocab, key=vocab.get)
    made = {l + r for l, r in model["merges"]}
    model["first_tokens"] = [t for t in ordered if t not in made]
    pairs = [(vocab[l], vocab[r]) for l, r in model["merges"]]
    unpacked = list(model["first_tokens"])
    for l, r in pairs:
        if (text := ordered[l] + ordered[r]) not in unpacked[len(model["first_tokens"]):]:
            unpacked.append(text)
    assert unpacked == ordered, "not in the order of training"
    del model["vocab"]
    model["merges"] = [i for pair in pairs for i in pair]


def ids_hash(ids: list[int]) -> str:
    return hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()


def make(name: str) -> None:
    tokenizer = FAMILIES[name]()
    data = json.loads(tokenizer.to_str())
    tokenizer = Tokenizer.from_str(json.dumps(data))
    for key in ("truncation", "padding"):
        data.pop(key, None)
    texts = []
    for text in TEXTS + [hard_text(seed, 60) for seed in range(100, 130)]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        whole = tokenizer.encode(text, add_special_tokens=True).ids
        texts.append([text, ids, whole, tokenizer.decode(ids, skip_special_tokens=False)])
    hashes = []
    for seed, size in HASHED:
        ids = tokenizer.encode(hard_text(seed, size), add_special_tokens=False).ids
        hashes.append([seed, size, len(ids), ids_hash(ids)])
    pack_model(data)
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.json", "w") as file:
        dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        file.write('{"tokenizer":' + dump(data) + ',\n"hashes":' + dump(hashes) + ',\n"texts":[\n' + ",\n".join(map(dump, texts)) + "\n]}\n")
    print(name, (FOLDER / f"{name}.json").stat().st_size, hashes[-1][2])


def real(name: str, path: str) -> None:
    """A real model's own tokenizer.json, or the vocabulary of a GGUF file with SmolLM2's pre-tokenizer."""
    if path.endswith(".gguf"):
        import make_tokenizer_golden as smollm
        tokenizer = smollm.make(*smollm.read_gguf(path), "smollm")
    else:
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    hashes = []
    for seed, size in HASHED:
        ids = tokenizer.encode(hard_text(seed, size), add_special_tokens=False).ids
        hashes.append([seed, size, len(ids), ids_hash(ids)])
    file = FOLDER.parent / "real.json"
    data = json.loads(file.read_text()) if file.exists() else {}
    data[name] = hashes
    file.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(data.items())) + "\n}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--real"]:
        for argument in sys.argv[2:]:
            real(*argument.split("=", 1))
        sys.exit()
    for family in sys.argv[1:] or FAMILIES:
        make(family)
