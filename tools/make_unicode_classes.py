"""Writes src/tokenizer/unicode_*.inl: what the tokenizers must know of each character.

  unicode_classes.inl   the classes that pre-tokenizers and normalisers tell apart (letters by case, marks, numbers, spaces ...)
  unicode_forms.inl     decompositions, combining classes, compositions and lower case, for the normal forms

Asks Hugging Face's `tokenizers` about every code point, because equality with it is what the tokenizer promises; the Unicode
version is whichever each of its parts was built with (its regex engine, its normal forms and its BERT classes differ).

    pip install tokenizers==0.23.3 regex
    python tools/make_unicode_classes.py
"""

import pathlib
import unicodedata

import regex
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "src/tokenizer"
CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODES))
BETWEEN = "".join("a" + chr(c) for c in CODES) + "a"  # every character alone between two letters

# One bit of a character's class each, in the order of `CharTrait` in unicode.h.
PATTERNS = {
    "upper": r"\p{Lu}", "title": r"\p{Lt}", "lower": r"\p{Ll}", "modifier": r"\p{Lm}", "letter": r"\p{Lo}", "mark": r"\p{M}",
    "number": r"\p{N}", "space": r"\s", "punctuation": r"\p{P}", "symbol": r"\p{S}", "han": r"\p{Han}", "word": r"\w",
}


def by_pattern(pattern: str) -> set[int]:
    split = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(TEXT) for c in piece}


def removed_by(pre_tokenizer) -> set[int]:
    kept = {ord(c) for piece, _ in pre_tokenizer.pre_tokenize_str(TEXT) for c in piece}
    return set(CODES) - kept


def alone_in(pre_tokenizer) -> set[int]:
    return {ord(piece) for piece, _ in pre_tokenizer.pre_tokenize_str(BETWEEN) if len(piece) == 1 and piece != "a"}


def classes() -> dict[str, set[int]]:
    found = {name: by_pattern(pattern) for name, pattern in PATTERNS.items()}
    found["digit"] = alone_in(pre_tokenizers.Digits(individual_digits=True))
    found["bert_punctuation"] = removed_by(pre_tokenizers.Punctuation("removed"))
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    cleaned = {c: clean.normalize_str(chr(c)) for c in CODES}
    found["bert_removed"] = {c for c, text in cleaned.items() if text == ""}
    found["bert_space"] = {c for c, text in cleaned.items() if text == " "}
    accents = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    found["bert_mark"] = {c for c in CODES if accents.normalize_str(chr(c)) == ""}
    strip = normalizers.StripAccents()
    found["accent"] = {c for c in CODES if strip.normalize_str(chr(c)) == ""}
    found["white_space"] = removed_by(pre_tokenizers.WhitespaceSplit())
    # Of grapheme clusters only those of less than six bytes matter, so these three classes do.
    found["extends"] = {c for c in CODES if regex.match(r"[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]", chr(c))}
    found["prepends"] = {c for c in CODES if regex.match(r"\p{GCB=Prepend}", chr(c))}
    found["control"] = {c for c in CODES if regex.match(r"[\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]", chr(c))}
    whitespace = pre_tokenizers.Whitespace()
    # Its \\w is another engine's: joiners are of words too.
    found["joined_word"] = set(CODES) - found["space"] - alone_in(whitespace)
    assert removed_by(whitespace) == found["space"], "Whitespace drops other characters than \\s"
    return found


def write(name: str, header: list[str], entries: list[str]) -> None:
    with open(FOLDER / name, "w") as file:
        for line in header:
            print(f"// {line}", file=file)
        print("// clang-format off", file=file)
        line = ""
        for entry in entries:
            if len(line) + len(entry) + 1 > 150:
                print(line, file=file)
                line = ""
            line = f"{line} {entry}".strip()
        print(line, file=file)


def write_classes() -> None:
    found = classes()
    mask = dict.fromkeys(CODES, 0)
    for bit, (name, codes) in enumerate(found.items()):
        for code in codes:
            mask[code] |= 1 << bit
    ranges: list[list[int]] = []
    for code in CODES:
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == mask[code]:
            ranges[-1][1] = code
        elif mask[code]:
            ranges.append([code, code, mask[code]])
    write("unicode_classes.inl",
          [f"Made by tools/make_unicode_classes.py with tokenizers {tokenizers.__version__}: first, last, bits of CharTrait.",
           "Bits: " + ", ".join(f"{name} {len(codes)}" for name, codes in found.items()) + "."],
          [f"{{0x{a:X},0x{b:X},0x{m:X}}}," for a, b, m in ranges])


def escaped(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08X}" if ord(c) >= 0x80 else "\\" + c if c in '"\\' else c for c in text) + '"'


def is_hangul(code: int) -> bool:
    return 0xAC00 <= code <= 0xD7A3


def combining_classes(nfd) -> dict[int, int]:
    """A mark's class is found by where the normal form sorts it among marks whose classes are known and agreed upon."""
    candidates = {c for c in CODES if regex.match(r"\P{ccc=0}", chr(c))} | {c for c in CODES if unicodedata.combining(chr(c))}
    known = {}
    for code in sorted(candidates):
        # Its normal forms may be of an older Unicode version: a mark that it does not sort is none of its marks.
        sorts = any(nfd.normalize_str(t) != t for t in ("a" + chr(code) + "\u0334", "a\u0345" + chr(code)))
        if sorts or unicodedata.combining(chr(code)) in (1, 240):
            known.setdefault(unicodedata.combining(chr(code)), code)
    known.pop(0, None)
    result = {}
    for code in sorted(candidates):
        if nfd.normalize_str(chr(code)) != chr(code):
            continue
        # Before a mark of a lower class it moves behind it; behind a mark of a higher class it moves before it.
        above = [c for c, mark in known.items() if nfd.normalize_str("a" + chr(code) + chr(mark)) != "a" + chr(code) + chr(mark)]
        below = [c for c, mark in known.items() if nfd.normalize_str("a" + chr(mark) + chr(code)) != "a" + chr(mark) + chr(code)]
        between = set(known) - set(above) - set(below)
        if not above and not below:
            continue
        assert len(between) == 1, (hex(code), between)
        result[code] = between.pop()
    return result


def write_forms() -> None:
    nfd, nfkd, nfc = normalizers.NFD(), normalizers.NFKD(), normalizers.NFC()
    canonical, compatible = {}, {}
    for code in CODES:
        if code < 0x80 or is_hangul(code):
            continue
        char = chr(code)
        if (text := nfd.normalize_str(char)) != char:
            canonical[code] = text
        if (text := nfkd.normalize_str(char)) != canonical.get(code, char):
            compatible[code] = text
    pairs = []
    for code, text in canonical.items():
        first = nfc.normalize_str(text[:-1])
        if len(text) > 1 and len(first) == 1 and nfc.normalize_str(text) == chr(code):
            pairs.append((ord(first), ord(text[-1]), code))
    marks = combining_classes(nfd)
    ranges: list[list[int]] = []
    for code, value in sorted(marks.items()):
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == value:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, value])
    lower = normalizers.Lowercase()
    lowered = {c: t for c in CODES if c >= 0x80 and (t := lower.normalize_str(chr(c))) != chr(c)}
    header = f"Made by tools/make_unicode_classes.py with tokenizers {tokenizers.__version__}"
    write("unicode_canonical.inl", [f"{header}: canonical decompositions, without Hangul."],
          [f"{{0x{c:X},{escaped(t)}}}," for c, t in canonical.items()])
    write("unicode_compatible.inl", [f"{header}: compatibility decompositions where they differ from the canonical ones."],
          [f"{{0x{c:X},{escaped(t)}}}," for c, t in compatible.items()])
    write("unicode_compositions.inl", [f"{header}: first, second, composition; without Hangul."],
          [f"{{0x{a:X},0x{b:X},0x{c:X}}}," for a, b, c in sorted(pairs)])
    write("unicode_combining.inl", [f"{header}: first, last, canonical combining class where it is not 0."],
          [f"{{0x{a:X},0x{b:X},{v}}}," for a, b, v in ranges])
    write("unicode_lower.inl", [f"{header}: lower case beyond ASCII."],
          [f"{{0x{c:X},{escaped(t)}}}," for c, t in lowered.items()])


if __name__ == "__main__":
    write_classes()
    write_forms()
