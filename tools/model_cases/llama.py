"""llama: Llama 2 and 3, Mistral, SmolLM2."""
from make_model_golden import Case
from transformers import LlamaConfig

BASE = dict(
    vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False,
    bos_token_id=1, eos_token_id=2, pad_token_id=None,
)

CASES = [
    Case("llama", LlamaConfig(**BASE)),
]
