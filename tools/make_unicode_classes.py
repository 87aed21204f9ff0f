"""Writes src/tokenizer/unicode_classes.inl: the letters, numbers and white space that a pre-tokenizer's regex sees.

Asks the regex engine inside Hugging Face's `tokenizers` about every code point, because equality with it is what the
tokenizer promises; the Unicode version is whichever that engine was built with.

    pip install tokenizers==0.23.3
    python tools/make_unicode_classes.py > src/tokenizer/unicode_classes.inl
"""

import tokenizers
from tokenizers import Regex, pre_tokenizers

CLASSES = {"letter": r"\p{L}", "number": r"\p{N}", "space": r"\s"}


def matches(pattern: str, code: int) -> bool:
    return not matches.split[pattern].pre_tokenize_str(chr(code))


matches.split = {p: pre_tokenizers.Split(Regex(p), "removed") for p in CLASSES.values()}


def ranges() -> list[tuple[int, int, str]]:
    result: list[tuple[int, int, str]] = []
    for code in range(0x80, 0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        name = next((n for n, p in CLASSES.items() if matches(p, code)), None)
        if name is None:
            continue
        if result and result[-1][1] == code - 1 and result[-1][2] == name:
            result[-1] = (result[-1][0], code, name)
        else:
            result.append((code, code, name))
    return result


def main() -> None:
    found = ranges()
    counts = {n: sum(b - a + 1 for a, b, c in found if c == n) for n in CLASSES}
    print(f"// Made by tools/make_unicode_classes.py with tokenizers {tokenizers.__version__}. Beyond ASCII: "
          + ", ".join(f"{v} {k}s" for k, v in counts.items()) + ".")
    print("// clang-format off")
    line = ""
    for first, last, name in found:
        entry = f"{{0x{first:X}, 0x{last:X}, {name}}},"
        if len(line) + len(entry) + 1 > 110:
            print(line)
            line = ""
        line = f"{line} {entry}".strip()
    print(line)


if __name__ == "__main__":
    main()
