"""olmo2 and olmo3: norms behind attention and MLP, and over whole rows of q and k."""
from make_model_golden import Case
from transformers import Olmo2Config, Olmo3Config

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2,
    pad_token_id=None,
)

CASES = [
    Case("olmo2", Olmo2Config(**BASE)),
    Case("olmo3", Olmo3Config(
        **BASE | dict(num_hidden_layers=4, num_key_value_heads=1), sliding_window=9, rope_parameters={
            "sliding_attention": dict(rope_type="default", rope_theta=5e5),
            "full_attention": dict(rope_type="yarn", rope_theta=5e5, factor=4.0, original_max_position_embeddings=32)})),
]
