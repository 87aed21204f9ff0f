"""granite: llama with four factors."""
from make_model_golden import Case
from transformers import GraniteConfig

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    pad_token_id=None,
)
FACTORS = dict(embedding_multiplier=3.0, logits_scaling=0.8, residual_multiplier=0.7, attention_multiplier=0.4)

CASES = [
    Case("granite", GraniteConfig(**BASE, **FACTORS, tie_word_embeddings=True)),
    Case("granite-bias", GraniteConfig(**BASE | dict(num_key_value_heads=1), **FACTORS, attention_bias=True, mlp_bias=True)),
]
