"""ernie4_5, dense: adjacent pairs rotate, in the checkpoint too."""
from make_model_golden import Case
from transformers import Ernie4_5Config

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=20, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    pad_token_id=0,
)

CASES = [
    Case("ernie4_5", Ernie4_5Config(**BASE, tie_word_embeddings=True)),
    Case("ernie4_5-bias", Ernie4_5Config(**BASE | dict(num_key_value_heads=1), tie_word_embeddings=False, use_bias=True)),
]
