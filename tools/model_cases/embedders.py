"""Decoders that embed or score: Qwen3-Embedding, Qwen3-Reranker and EmbeddingGemma."""
import torch
from make_model_golden import Case, module_tensor
from transformers import (
    Gemma3TextConfig, Gemma3TextModel, Qwen3Config, Qwen3ForSequenceClassification, Qwen3Model,
)

QWEN = dict(
    vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=True,
)
GEMMA = dict(
    vocab_size=64, hidden_size=48, intermediate_size=72, num_hidden_layers=6, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=128, sliding_window=16, query_pre_attn_scalar=16,
    use_bidirectional_attention=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    rope_parameters={"sliding_attention": dict(rope_type="default", rope_theta=10000.0),
                     "full_attention": dict(rope_type="default", rope_theta=1e6)},
)
DENSE = {"2_Dense.linear.weight": (80, 48), "3_Dense.linear.weight": (48, 80)}


def modules(pooling, dense=()):
    """modules.json, and the files of the modules."""
    types = [("", "Transformer"), ("1_Pooling", "Pooling"), *((d, "Dense") for d in dense), ("9_Normalize", "Normalize")]
    files = {"modules.json": [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                              for i, (path, kind) in enumerate(types)],
             "1_Pooling/config.json": {"word_embedding_dimension": 48, f"pooling_mode_{pooling}": True}}
    for path in dense:
        rows, columns = DENSE[f"{path}.linear.weight"]
        files[f"{path}/config.json"] = {"in_features": columns, "out_features": rows, "bias": False,
                                        "activation_function": "torch.nn.modules.linear.Identity"}
    return files


def hidden(model, ids):
    return model(ids, use_cache=False).last_hidden_state[0]


def dense_of_mean(model, ids):
    x = hidden(model, ids).mean(0, keepdim=True)
    for name, shape in DENSE.items():
        x = torch.nn.functional.linear(x, module_tensor(name, shape))
    return x


NORMS = [("norm.weight", (0.5, 0.5)), ("*norm.weight", (0.0, 0.5))]  # Gemma's are zero-centred

CASES = [
    Case("qwen3-embedding", Qwen3Config(**QWEN), Qwen3Model, run=hidden, files=modules("lasttoken"),
         weights=[("norm.weight", (1.5, 0.5))]),
    Case("qwen3-rank", Qwen3Config(**QWEN, num_labels=2), Qwen3ForSequenceClassification, rows=[0], minimum_std=0,
         run=lambda model, ids: model(ids, use_cache=False).logits, weights=[("score.weight", (0.0, 1.0))],
         extra=lambda model, case: {"scores": True}),
    Case("gemma-embedding", Gemma3TextConfig(**GEMMA), Gemma3TextModel, run=hidden, files=modules("mean_tokens"),
         weights=NORMS),
    Case("gemma-embedding-dense", Gemma3TextConfig(**GEMMA), Gemma3TextModel, run=dense_of_mean, rows=[0], minimum_std=0,
         modules=DENSE, files=modules("mean_tokens", ("2_Dense", "3_Dense")), weights=NORMS,
         extra=lambda model, case: {"scores": True}),
]
