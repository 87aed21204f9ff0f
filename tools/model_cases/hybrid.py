"""Hybrids of attention and recurrent layers: Qwen3-Next, Qwen 3.5 and its mixture of experts, Nemotron-H and Nemotron 3."""
import pathlib
import sys

from make_model_golden import Case
from transformers import NemotronHConfig, Qwen3_5MoeTextConfig, Qwen3_5TextConfig, Qwen3NextConfig

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from mixtures import record_routing  # noqa: E402

TOKENS = 80
# Enough rows that every expert of the last layer computes one of them; the ends of blocks among them.
ROWS = sorted({*range(0, TOKENS, 4), 31, 32, 33, 63, 64, TOKENS - 1})
ROPE = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25)
DELTA_NET = dict(
    vocab_size=64, hidden_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
    max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=False, rope_parameters=ROPE,
    linear_conv_kernel_dim=4, linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2,
    linear_num_value_heads=6, bos_token_id=1, eos_token_id=2,
)
EXPERTS = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, shared_expert_intermediate_size=32)
# Norms are stored less one, except that of the delta net; A_log and dt_bias such that a state fades over some ten tokens.
DELTA_NET_WEIGHTS = [
    ("*linear_attn.norm.weight", (1.0, 0.5)),
    ("*norm.weight", (0.0, 0.5)),
    ("*A_log", (-1.0, 1.0)),
    ("*dt_bias", (-1.0, 1.0)),
    ("*conv1d.weight", (0.2, 0.8)),
    ("*mlp.gate.weight", (0.0, 0.5)),
]
NEMOTRON_H = dict(
    vocab_size=64, hidden_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=80,
    max_position_embeddings=256, layer_norm_epsilon=1e-5, tie_word_embeddings=False, mlp_hidden_act="relu2",
    ssm_state_size=16, mamba_num_heads=6, mamba_head_dim=8, n_groups=2, conv_kernel=4, chunk_size=16,
    bos_token_id=1, eos_token_id=2, pad_token_id=None, time_step_min=0.01,
)
NEMOTRON_WEIGHTS = [
    ("*A_log", (0.0, 1.0)),
    ("*dt_bias", (-3.0, 2.0)),  # some time steps are below time_step_min
    ("*mixer.D", (0.5, 0.5)),
    ("*conv1d.weight", (0.2, 0.8)),
    ("*gate.weight", (0.0, 0.3)),
    ("*e_score_correction_bias", (0.0, 0.2)),
]
M, A, F, E = "linear_attention", "full_attention", "mlp", "moe"

CASES = [
    Case("qwen3next", Qwen3NextConfig(intermediate_size=64, norm_topk_prob=True, mlp_only_layers=[1], **DELTA_NET, **EXPERTS),
         weights=DELTA_NET_WEIGHTS, tokens=TOKENS, rows=ROWS, extra=record_routing),
    Case("qwen35", Qwen3_5TextConfig(intermediate_size=64, **DELTA_NET), weights=DELTA_NET_WEIGHTS, tokens=TOKENS, rows=ROWS),
    Case("qwen35moe", Qwen3_5MoeTextConfig(**DELTA_NET, **EXPERTS), weights=DELTA_NET_WEIGHTS, tokens=TOKENS, rows=ROWS,
         extra=record_routing),
    Case("nemotron_h", NemotronHConfig(layers_block_type=[M, F, M, A, F, M], **NEMOTRON_H), weights=NEMOTRON_WEIGHTS,
         tokens=TOKENS, rows=ROWS),
    Case("nemotron_h_moe",
         NemotronHConfig(layers_block_type=[M, E, A, F, E, M], n_routed_experts=8, n_shared_experts=1, moe_intermediate_size=24,
                         moe_shared_expert_intermediate_size=40, moe_latent_size=32, num_experts_per_tok=3, n_group=4,
                         topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5, **NEMOTRON_H),
         weights=NEMOTRON_WEIGHTS, tokens=TOKENS, rows=ROWS, extra=record_routing),
]
