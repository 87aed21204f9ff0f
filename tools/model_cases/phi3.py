"""phi3: fused projections; longrope, whose long and short factors are picked by the context that the model is loaded for."""
from make_model_golden import Case
from transformers import Phi3Config

BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=3,
    num_key_value_heads=3, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
LONGROPE = dict(
    rope_type="longrope", rope_theta=10000.0,
    short_factor=[1.0 + 0.05 * i for i in range(8)], long_factor=[1.5 + i * i for i in range(8)],
)


def longrope(original, maximum, **options):
    return Phi3Config(**BASE | dict(num_key_value_heads=1) | options, max_position_embeddings=maximum,
                      original_max_position_embeddings=original,
                      rope_parameters=LONGROPE | dict(original_max_position_embeddings=original))


CASES = [
    Case("phi3", Phi3Config(**BASE, max_position_embeddings=96, sliding_window=13, tie_word_embeddings=True)),
    Case("phi3-partial", Phi3Config(**BASE | dict(num_key_value_heads=1), max_position_embeddings=96, rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    Case("phi3-longrope", longrope(24, 96)),
    Case("phi3-longrope-short", longrope(64, 256), extra=lambda model, case: {"context": 64}),
]
