#!/usr/bin/env python3
"""Makes tiny random checkpoints of the llama architecture, one per weight type, and what `transformers` says about them.

    VENV/bin/python tools/golden/make_tiny.py tests/golden/tiny

writes llama-TYPE.gguf (with a small byte-level BPE vocabulary and a ChatML template) and llama-TYPE.logits, whose reference
runs on the weights as they are after quantisation. Formats: tests/golden/README.md.
"""
import pathlib
import sys

import gguf
import numpy
import tokenizers
import torch

import gguf_llama
import make

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 64, 96, 2, 4, 2, 320, 256
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
POSITIONS = 24
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TYPES = {  # name: (type, whether the output matrix is the embedding)
    "f32": (gguf.GGMLQuantizationType.F32, False),
    "f16": (gguf.GGMLQuantizationType.F16, False),
    "bf16": (gguf.GGMLQuantizationType.BF16, True),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, False),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, False),
    "q4_1": (gguf.GGMLQuantizationType.Q4_1, True),
}


def train_vocabulary():
    """Tokens and merges of a byte-level BPE learned from the golden text."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train([str(make.GOLDEN / "text.txt")], trainer)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    joined = [token for token in tokens[len(SPECIAL) + 256:]]
    return tokens, merges_of(tokens, joined)


def merges_of(tokens, joined):
    """In order of id each merged token is the pair of earlier tokens that BPE made it from: here, any pair that exists."""
    known, merges = set(tokens[:len(SPECIAL) + 256]), []
    for token in joined:
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in known and token[i:] in known]
        merges.append(" ".join(pairs[0]))
        known.add(token)
    return merges


def random_weights(generator, tied):
    def matrix(rows, columns, gain=1.5):
        return (generator.standard_normal((rows, columns)) * gain / numpy.sqrt(columns)).astype(numpy.float32)

    def norm():
        return (1 + 0.2 * generator.standard_normal(HIDDEN)).astype(numpy.float32)

    kv = HIDDEN // HEADS * KV_HEADS
    weights = {"token_embd.weight": matrix(VOCABULARY, HIDDEN, gain=4)}
    for layer in range(LAYERS):
        shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (kv, HIDDEN), "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, HIDDEN),
                  "ffn_gate": (INTERMEDIATE, HIDDEN), "ffn_up": (INTERMEDIATE, HIDDEN), "ffn_down": (HIDDEN, INTERMEDIATE)}
        weights[f"blk.{layer}.attn_norm.weight"] = norm()
        weights[f"blk.{layer}.ffn_norm.weight"] = norm()
        weights |= {f"blk.{layer}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
    weights["output_norm.weight"] = norm()
    return weights if tied else weights | {"output.weight": matrix(VOCABULARY, HIDDEN, gain=3)}


def write_gguf(path, weights, dtype, tokens, merges):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_license("apache-2.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        kind = dtype if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = train_vocabulary()
    make.TOP = VOCABULARY
    prompt = numpy.random.default_rng(7).integers(0, VOCABULARY, POSITIONS).tolist()
    for name, (dtype, tied) in TYPES.items():
        path = folder / f"llama-{name}.gguf"
        write_gguf(path, random_weights(numpy.random.default_rng(1), tied), dtype, tokens, merges)
        with torch.inference_mode():
            make.write_logits(gguf_llama.load_model(path), prompt, folder / f"llama-{name}.logits")


if __name__ == "__main__":
    main()
