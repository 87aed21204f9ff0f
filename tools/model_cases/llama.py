"""llama and what differs from it by options: Llama 2 and 3, Mistral, SmolLM2, SmolLM3; the scalings of RoPE."""
import torch
from make_model_golden import Case
from transformers import LlamaConfig, MistralConfig, SmolLM3Config

BASE = dict(
    vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False,
    bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
SMALL = BASE | dict(vocab_size=64, num_hidden_layers=2)


def scaled(**rope):
    return LlamaConfig(**SMALL | dict(head_dim=16), rope_parameters=dict(rope_theta=10000.0) | rope)


CASES = [
    Case("llama", LlamaConfig(**BASE)),
    # Odd sizes, one key/value head, heads wider than hidden_size / heads, every bias there is, a tied head.
    Case("llama-bias", LlamaConfig(**SMALL | dict(
        hidden_size=45, intermediate_size=77, num_attention_heads=3, num_key_value_heads=1, head_dim=22,
        tie_word_embeddings=True, attention_bias=True, mlp_bias=True))),
    Case("llama-bf16", LlamaConfig(**SMALL), dtype=torch.bfloat16),
    Case("llama-llama3", scaled(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                                high_freq_factor=4.0, original_max_position_embeddings=32)),
    Case("llama-linear", scaled(rope_type="linear", factor=4.0)),
    Case("llama-yarn", scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
    Case("llama-yarn-options", scaled(
        rope_type="yarn", factor=3.0, original_max_position_embeddings=40, truncate=False, beta_fast=8.0, beta_slow=0.5,
        attention_factor=1.3)),
    Case("llama-yarn-mscale", scaled(
        rope_type="yarn", factor=16.0, original_max_position_embeddings=16, mscale=0.707, mscale_all_dim=1.2)),
    Case("mistral", MistralConfig(**SMALL, sliding_window=9)),
    Case("smollm3", SmolLM3Config(**BASE | dict(num_hidden_layers=4, tie_word_embeddings=True))),
    Case("smollm3-options", SmolLM3Config(**SMALL | dict(num_hidden_layers=3), no_rope_layers=[0, 1, 0], mlp_bias=True,
                                          use_sliding_window=True, sliding_window=11)),
]
