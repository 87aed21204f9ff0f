"""The model files of the rows, and why one is not there. Files of other weight types are made from the default model once."""
import os
import pathlib

from .llama_cpp import cache_folder
from .processes import BUILD, run

TYPES = ("q8_0", "q4_0", "bf16")


def home_models():
    home = os.environ.get("NEUTRINO_HOME") or pathlib.Path.home() / ".local" / "share" / "neutrino"
    return pathlib.Path(home) / "cache" / "models"


def gemma_file():
    return pathlib.Path(os.environ.get("NEUTRINO_TEST_GEMMA") or home_models() / "gemma-3-270m-q4_k_m.gguf")


def embedding_folder():
    return pathlib.Path(os.environ.get("NEUTRINO_TEST_EMBEDDING_MODEL") or home_models() / "all-MiniLM-L6-v2")


def converted(main, kind):
    """The default model with other weights, by `neutrino model convert`; both engines read the same file."""
    path = cache_folder().parent / "models" / f"{main.stem.split('.')[0]}.{kind}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run([BUILD / "neutrino", "model", "convert", main, path, "--type", kind])
    return path


def find(key, main):
    """(path, None), or (None, why not)."""
    if key == "main":
        return main, None
    if key in TYPES:
        return converted(main, key), None
    path = gemma_file() if key == "gemma" else embedding_folder()
    hint = "./dev models gemma" if key == "gemma" else "./dev models"
    return (path, None) if path.exists() else (None, f"{path.name} is not there: {hint} fetches it")
