"""A GGUF file of the llama architecture as a float32 LlamaForCausalLM of `transformers`, and its tokenizer.

Independent of neutrino on purpose: the file is read and dequantised by the `gguf` package, and the tokenizer is built by
`tokenizers` from the vocabulary and merges in the file.
"""
import gguf
import numpy
import tokenizers
import torch
import transformers

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
MODEL_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def field(reader, name, default=None):
    entry = reader.get_field(name)
    return default if entry is None else entry.contents()


def config(reader):
    heads = field(reader, "llama.attention.head_count")
    hidden = field(reader, "llama.embedding_length")
    names = [tensor.name for tensor in reader.tensors]
    return transformers.LlamaConfig(
        vocab_size=len(field(reader, "tokenizer.ggml.tokens")),
        hidden_size=hidden,
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=field(reader, "llama.attention.head_count_kv", heads),
        head_dim=hidden // heads,
        max_position_embeddings=field(reader, "llama.context_length"),
        rms_norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_theta=field(reader, "llama.rope.freq_base", 10000.0),
        tie_word_embeddings="output.weight" not in names,
    )


def rope_halves(weight, heads):
    """Undoes the row order in which GGUF stores q and k: pairs (0, 1), (2, 3), ... become halves (0, d/2), (1, d/2 + 1), ..."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def hugging_face_name(name):
    if name.startswith("blk."):
        _, layer, tensor, suffix = name.split(".")
        return f"model.layers.{layer}.{LAYER_TENSORS[tensor]}.{suffix}"
    tensor, suffix = name.split(".")
    return f"{MODEL_TENSORS[tensor]}.{suffix}"


def load_model(path):
    reader = gguf.GGUFReader(path)
    settings = config(reader)
    state = {}
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if tensor.name.endswith("attn_q.weight"):
            weight = rope_halves(weight, settings.num_attention_heads)
        if tensor.name.endswith("attn_k.weight"):
            weight = rope_halves(weight, settings.num_key_value_heads)
        state[hugging_face_name(tensor.name)] = torch.from_numpy(numpy.ascontiguousarray(weight))
    settings._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(settings).to(torch.float32).eval()
    if settings.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model


def load_tokenizer(path):
    """SmolLM2's: byte-level BPE, digits one by one."""
    reader = gguf.GGUFReader(path)
    assert field(reader, "tokenizer.ggml.model") == "gpt2" and field(reader, "tokenizer.ggml.pre") == "smollm"
    tokens = field(reader, "tokenizer.ggml.tokens")
    kinds = field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    tokenizer.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False)
                                  for t, kind in zip(tokens, kinds) if kind == control])
    return tokenizer
