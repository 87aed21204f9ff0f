"""nemotron: zero-centred LayerNorm with bias, squared ReLU, part of a head rotates."""
from make_model_golden import Case
from transformers import NemotronConfig

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=100, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
NORMS = [("*norm.weight", (0.0, 0.5))]

CASES = [
    Case("nemotron", NemotronConfig(**BASE), weights=NORMS),
    # head_dim other than hidden_size / heads, where llama.cpp's converter counts the rotary part wrongly.
    Case("nemotron-wide", NemotronConfig(
        **BASE | dict(num_attention_heads=3, num_key_value_heads=1), head_dim=24, attention_bias=True, mlp_bias=True,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.75)), weights=NORMS),
]
