"""A GGUF file of an architecture that `transformers` itself reads from GGUF, in float32, and its tokenizer (Gemma 3)."""
import pathlib

import torch
import transformers


def load_model(path):
    folder, name = pathlib.Path(path).resolve().parent, pathlib.Path(path).name
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()


def load_tokenizer(path):
    folder, name = pathlib.Path(path).resolve().parent, pathlib.Path(path).name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name).backend_tokenizer
    tokenizer.post_processor = None  # no BOS: a window begins where the text was cut
    return tokenizer
