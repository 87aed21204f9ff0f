"""A text that tokenizers find hard, made up on the spot: many scripts, code, emoji, white space, control characters.

The same seed gives the same text everywhere: the pieces come from tests/golden/tokenizer/parts.json, and a 64-bit linear
congruential generator draws them. src/tokenizer/hard_text.h makes the same text for the tests.
"""

import json
import pathlib

PARTS = json.loads((pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tokenizer/parts.json").read_text())
MASK = (1 << 64) - 1


class Draw:
    def __init__(self, seed: int):
        self.state = seed

    def below(self, count: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 33) % count

    def one_of(self, name: str) -> str:
        return PARTS[name][self.below(len(PARTS[name]))]


def word(draw: Draw) -> str:
    text = draw.one_of("english")
    form = draw.below(8)
    return text.upper() if form == 0 else text[:1].upper() + text[1:] if form == 1 else text


def number(draw: Draw) -> str:
    return "".join("0123456789"[draw.below(10)] for _ in range(1 + draw.below(9)))


def piece(draw: Draw) -> str:
    kind = draw.below(100)
    if kind < 46:
        return word(draw)
    if kind < 51:
        return number(draw)
    for below, name in [(69, "foreign"), (74, "marked"), (87, "signs"), (91, "emoji"), (94, "space"), (96, "control")]:
        if kind < below:
            return draw.one_of(name)
    return draw.one_of("code")


def hard_text(seed: int, size: int) -> str:
    """At least `size` bytes of UTF-8."""
    draw = Draw(seed)
    parts, length = [], 0
    while length < size:
        part = piece(draw)
        if draw.below(5) != 0:
            part += draw.one_of("space")
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)
