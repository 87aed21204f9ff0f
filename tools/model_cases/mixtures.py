"""Mixtures of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, gpt-oss, DeepSeek V2 and V3, ERNIE 4.5 MoE, GLM-4.5.

The first case of an architecture also records which experts its routers choose for 1,024 tokens of a second text.
"""
import numpy as np
import torch
from make_model_golden import Case, hashes
from transformers import (
    DeepseekV2Config,
    DeepseekV3Config,
    Ernie4_5_MoeConfig,
    Glm4MoeConfig,
    GptOssConfig,
    MixtralConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

ROUTING_SEQUENCES, ROUTING_TOKENS = 8, 128
# Chosen experts as characters; at most 64 experts.
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"


def routers(model):
    return [m for m in model.modules() if type(m).__name__.lower().endswith("topkrouter")]


def record_routing(model, case):
    """The chosen experts of every router and token, in ascending order: a character each, one text a router."""
    chosen = [[] for _ in routers(model)]
    hooks = [
        router.register_forward_hook(lambda _m, _i, out, into=into: into.append(out[2].reshape(-1, out[2].shape[-1])))
        for router, into in zip(routers(model), chosen)
    ]
    count = ROUTING_SEQUENCES * ROUTING_TOKENS
    ids = (hashes(case.name + ".routing", count) >> np.uint64(33)).astype(np.int64) % case.config.vocab_size
    with torch.no_grad():
        for sequence in ids.reshape(ROUTING_SEQUENCES, ROUTING_TOKENS):
            model(torch.from_numpy(sequence)[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    texts = []
    for parts in chosen:
        experts = torch.cat(parts).sort(dim=-1).values
        assert experts.shape[0] == count
        texts.append("".join(DIGITS[e] for e in experts.flatten().tolist()))
    return {"routing": {"sequences": ROUTING_SEQUENCES, "tokens": ids.tolist(), "experts": texts}}


BASE = dict(
    vocab_size=64, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
QWEN = BASE | dict(
    num_key_value_heads=2, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=3, rms_norm_eps=1e-6,
)
LATENT = BASE | dict(
    num_hidden_layers=3, num_key_value_heads=4, moe_intermediate_size=32, n_shared_experts=2, kv_lora_rank=32, qk_nope_head_dim=16,
    qk_rope_head_dim=8, v_head_dim=12, first_k_dense_replace=1, num_experts_per_tok=4, rms_norm_eps=1e-6,
)
YARN = dict(
    rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=16, beta_fast=32.0, beta_slow=1.0,
)

# Of the size of the probabilities that they are added to, so that neither decides alone.
SIGMOID_BIAS = ("*e_score_correction_bias", (0.0, 0.05))
SOFTMAX_BIAS = ("*e_score_correction_bias", (0.0, 0.1))

# Enough rows that every expert of the last layer computes one of them.
ROWS = sorted({*range(0, 48, 3), 31, 32, 47})

CASES = [
    Case(
        "mixtral",
        MixtralConfig(
            **BASE | dict(intermediate_size=80), num_key_value_heads=2, rms_norm_eps=1e-5, num_local_experts=5,
            num_experts_per_tok=2,
        ),
        extra=record_routing,
    ),
    Case("qwen3moe", Qwen3MoeConfig(**QWEN, head_dim=16, norm_topk_prob=True), rows=ROWS, extra=record_routing),
    Case(
        "qwen3moe-plain-weights",
        Qwen3MoeConfig(**QWEN | dict(num_hidden_layers=3), head_dim=16, norm_topk_prob=False, mlp_only_layers=[1]),
        rows=ROWS,
    ),
    Case(
        "qwen2moe",
        Qwen2MoeConfig(**QWEN, shared_expert_intermediate_size=40, norm_topk_prob=False),
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "gpt-oss",
        GptOssConfig(
            **BASE | dict(intermediate_size=32, num_hidden_layers=3), num_key_value_heads=2, head_dim=16,
            num_local_experts=8, num_experts_per_tok=3, sliding_window=16, rms_norm_eps=1e-5,
            rope_parameters=YARN | dict(rope_theta=150000.0, truncate=False),
        ),
        dtype=torch.bfloat16,
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "deepseek2-v2-lite",
        DeepseekV2Config(**LATENT, n_routed_experts=8, q_lora_rank=None, n_group=1, topk_group=1),
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "deepseek2-v2",
        DeepseekV2Config(
            **LATENT, n_routed_experts=12, q_lora_rank=24, n_group=3, topk_group=2, topk_method="group_limited_greedy",
            routed_scaling_factor=4.0, rope_parameters=YARN | dict(mscale=0.707, mscale_all_dim=0.707),
        ),
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "deepseek2-v3",
        DeepseekV3Config(
            **LATENT, n_routed_experts=12, q_lora_rank=24, n_group=3, topk_group=2, routed_scaling_factor=2.5,
            num_mtp_layers=0, rope_parameters=YARN | dict(mscale=1.0, mscale_all_dim=1.0),
        ),
        weights=[SIGMOID_BIAS],
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "deepseek2-v3-halves",
        DeepseekV3Config(
            **LATENT, n_routed_experts=8, q_lora_rank=24, n_group=1, topk_group=1, routed_scaling_factor=1.0,
            num_mtp_layers=0, rope_interleave=False, norm_topk_prob=False,
            rope_parameters=YARN | dict(mscale=1.2, mscale_all_dim=0.8),
        ),
        weights=[SIGMOID_BIAS],
        rows=ROWS,
    ),
    Case(
        "ernie4_5-moe",
        Ernie4_5_MoeConfig(
            **BASE | dict(num_hidden_layers=3), num_key_value_heads=2, moe_intermediate_size=32, moe_k=3,
            moe_num_experts=8, moe_num_shared_experts=2, moe_layer_start_index=1, rms_norm_eps=1e-5,
        ),
        weights=[SOFTMAX_BIAS],
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "glm4moe",
        Glm4MoeConfig(
            **BASE | dict(num_hidden_layers=3), num_key_value_heads=2, head_dim=16, moe_intermediate_size=32,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=4, first_k_dense_replace=1,
            routed_scaling_factor=1.5, use_qk_norm=True, attention_bias=True, num_mtp_layers=0, rms_norm_eps=1e-5,
        ),
        weights=[SIGMOID_BIAS],
        rows=ROWS,
        extra=record_routing,
    ),
    Case(
        "glm4moe-air",
        Glm4MoeConfig(
            **BASE, num_key_value_heads=2, head_dim=16, moe_intermediate_size=32, n_routed_experts=8, n_shared_experts=1,
            num_experts_per_tok=4, first_k_dense_replace=0, attention_bias=True, num_mtp_layers=0, rms_norm_eps=1e-5,
        ),
        weights=[SIGMOID_BIAS],
        rows=ROWS,
    ),
]
