"""qwen2 (biases on q, k and v) and qwen3 (norms of q and k)."""
import torch
from make_model_golden import Case
from transformers import Qwen2Config, Qwen3Config

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=False,
    bos_token_id=1, eos_token_id=2, pad_token_id=None, rope_parameters=dict(rope_type="default", rope_theta=1e6),
)

CASES = [
    Case("qwen2", Qwen2Config(**BASE)),
    Case("qwen2-window", Qwen2Config(**BASE | dict(tie_word_embeddings=True), use_sliding_window=True, sliding_window=10,
                                     max_window_layers=1)),
    Case("qwen2-yarn", Qwen2Config(**BASE | dict(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
        rope_parameters=dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=32)))),
    Case("qwen3", Qwen3Config(**BASE | dict(tie_word_embeddings=True), head_dim=32)),
    Case("qwen3-bf16", Qwen3Config(**BASE | dict(num_attention_heads=3, num_key_value_heads=1, num_hidden_layers=2),
                                   head_dim=14, attention_bias=True), dtype=torch.bfloat16),
]
