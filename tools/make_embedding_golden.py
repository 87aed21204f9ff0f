#!/usr/bin/env python3
"""Makes tests/golden/minilm.json and minilm.bin: sentences, and what sentence-transformers makes of them.

    python tools/make_embedding_golden.py FOLDER    # of all-MiniLM-L6-v2, as `./dev models` leaves it

Needs sentence-transformers (tools/golden/requirements.txt). The file of vectors holds 384 little-endian int16 a sentence,
in units of 1e-5.
"""
import json
import pathlib
import random
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent

WHO = """The engineer|A careful reader|My neighbour|The old lighthouse keeper|Every second visitor|The committee|Our smallest dog
|Somebody from the night shift|The translator|A retired pilot|The compiler|The new gardener|Nobody in the village|The violin teacher
|An anonymous donor|The server in the basement""".replace("\n", "").split("|")
DID = """measured|forgot|repaired|described|painted over|carefully counted|borrowed|explained|lost|replaced|never understood|sold
|photographed|translated|dreamt of|complained about""".replace("\n", "").split("|")
WHAT = """the broken thermometer|a box of unlabelled cables|the third chapter|an apple tree|the train timetable|two litres of paint
|the proof of the lemma|a letter from 1923|the recipe for plum cake|an unusually large cloud|the memory allocator|a map of the harbour
|the winter schedule|seventeen paper boats|the choir's last rehearsal|a bug in the parser""".replace("\n", "").split("|")
MORE = """before the rain began|although the light was poor|in less than an hour|with a pencil and a ruler|because nobody else would
|and told no one about it|while the kettle was boiling|for the sake of the experiment|on the way to the station
|at 7:45 in the morning, as always|without reading the manual (all 312 pages of it)|in spite of the wind and the cold
|so that the children could sleep|using nothing but string, tape and patience|until the neighbours came back from Lisbon
|which surprised even the mayor""".replace("\n", "").split("|")
OTHER = [
    "Wie spät ist es in Zürich?", "¿Dónde está la biblioteca más cercana?", "東京の天気はどうですか。", "Наука требует терпения.",
    "L'élève a réussi son examen d'été.", "pip install --upgrade numpy && echo done", "E = mc², or so they say…", "naïve café façade",
    "🙂 emojis 🚀 count, too!", "UPPER CASE, lower case, MiXeD cAsE.", "a", "1 234,56 €", "x" * 80, "안녕하세요, 만나서 반갑습니다.",
    "O'Brien's co-worker isn't here; they've left.", "tabs\tand\nnewlines   and    spaces",
]


def sentences(count, seed):
    """Of about 8 to 64 word pieces."""
    rng = random.Random(seed)
    for _ in range(count):
        text = f"{rng.choice(WHO)} {rng.choice(DID)} {rng.choice(WHAT)}"
        for phrase in rng.sample(MORE, rng.randrange(7)):
            text += f" {phrase}"
        yield text + "."


def main():
    from sentence_transformers import SentenceTransformer

    texts = OTHER + list(sentences(200 - len(OTHER), 1))
    vectors = SentenceTransformer(sys.argv[1], device="cpu").encode(texts, batch_size=1, normalize_embeddings=True)
    scaled = np.rint(vectors.astype(np.float64) * 1e5)
    assert np.abs(scaled).max() < 32767
    golden = ROOT / "tests/golden"
    (golden / "minilm.json").write_text(json.dumps(texts, indent=0, ensure_ascii=False) + "\n")
    (golden / "minilm.bin").write_bytes(scaled.astype("<i2").tobytes())
    print(f"{len(texts)} sentences, largest element {np.abs(vectors).max():.3f}")


if __name__ == "__main__":
    main()
