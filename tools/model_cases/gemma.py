"""gemma2 (caps on scores and logits) and gemma3 (norms of q and k, two bases of rotation)."""
from make_model_golden import Case
from transformers import Gemma2Config, Gemma3TextConfig

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2,
    pad_token_id=0,
)
# Stored norms are zero-centred.
NORMS = [("*norm.weight", (0.0, 0.5))]


def local_and_global(**full):
    return {"sliding_attention": dict(rope_type="default", rope_theta=10000.0),
            "full_attention": dict(rope_type="default", rope_theta=1e6) | full}


CASES = [
    Case("gemma2", Gemma2Config(**BASE, sliding_window=9, query_pre_attn_scalar=24, attn_logit_softcapping=3.0,
                                final_logit_softcapping=10.0), weights=NORMS),
    Case("gemma2-one-head", Gemma2Config(**BASE | dict(hidden_size=44, head_dim=20, num_key_value_heads=1,
                                                       num_hidden_layers=2),
                                         sliding_window=40, query_pre_attn_scalar=20), weights=NORMS),
    Case("gemma3", Gemma3TextConfig(**BASE | dict(num_hidden_layers=6), sliding_window=8, query_pre_attn_scalar=16,
                                    rope_parameters=local_and_global()), weights=NORMS),
    Case("gemma3-linear", Gemma3TextConfig(
        **BASE | dict(num_key_value_heads=1, head_dim=24), sliding_window=12, query_pre_attn_scalar=20,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], final_logit_softcapping=8.0,
        attn_logit_softcapping=None, rope_parameters=local_and_global(rope_type="linear", factor=8.0)), weights=NORMS),
]
