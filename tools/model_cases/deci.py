"""deci (Llama-Nemotron): its authors' code comes with the checkpoints, so the reference is put together here from the layers
of transformers' Llama as block_configs say."""
import copy

import torch
from make_model_golden import Case
from torch import nn
from transformers import LlamaConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaAttention, LlamaMLP, LlamaPreTrainedModel, LlamaRMSNorm, LlamaRotaryEmbedding,
)


class DeciConfig(LlamaConfig):
    model_type = "nemotron-nas"


class LinearAttention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear_attn = nn.Linear(size, size, bias=False)


class Block(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        own = copy.deepcopy(config)
        attention, mlp = config.block_configs[index]["attention"], config.block_configs[index]["ffn"]
        self.linear = attention["replace_with_linear"]
        self.attends = not self.linear and not attention["no_op"]
        if self.attends:
            own.num_key_value_heads = config.num_attention_heads // attention["n_heads_in_group"]
            self.self_attn = LlamaAttention(own, index)
        if self.linear:
            self.self_attn = LinearAttention(config.hidden_size)
        if self.linear or self.attends:
            self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.has_mlp = not mlp["no_op"]
        if self.has_mlp:
            size = int(2 * mlp["ffn_mult"] * config.hidden_size / 3)
            own.intermediate_size = -(-size // 256) * 256
            self.mlp = LlamaMLP(own)
            self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, mask, rotary):
        if self.linear:
            x = x + self.self_attn.linear_attn(self.input_layernorm(x))
        if self.attends:
            x = x + self.self_attn(self.input_layernorm(x), position_embeddings=rotary, attention_mask=mask)[0]
        return x + self.mlp(self.post_attention_layernorm(x)) if self.has_mlp else x


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)


class DeciLMForCausalLM(LlamaPreTrainedModel):
    config_class = DeciConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, **unused):
        positions = torch.arange(input_ids.shape[1])[None]
        x = self.model.embed_tokens(input_ids)
        mask = create_causal_mask(config=self.config, inputs_embeds=x, attention_mask=None, past_key_values=None,
                                  position_ids=positions)
        rotary = self.model.rotary_emb(x, positions)
        for layer in self.model.layers:
            x = layer(x, mask, rotary)
        return CausalLMOutputWithPast(logits=self.lm_head(self.model.norm(x)))


def block(group=None, mult=None, linear=False):
    return {
        "attention": {"n_heads_in_group": group, "no_op": group is None and not linear, "replace_with_linear": linear},
        "ffn": {"ffn_mult": mult, "no_op": mult is None, "replace_with_linear": False},
    }


def case(name, blocks, **options):
    config = dict(
        vocab_size=64, hidden_size=48, intermediate_size=80, num_hidden_layers=len(blocks), num_attention_heads=4,
        max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=32),
        block_configs=blocks)
    return Case(name, DeciConfig(**config | options), model_class=DeciLMForCausalLM)


CASES = [
    # One and two key/value heads, a linear layer, no attention, nothing: what llama.cpp's deci computes, too.
    case("deci", [block(4, 1.5), block(linear=True, mult=8.2), block(mult=1.0), block(), block(2, 1.0)]),
    # Layers with attention and no MLP, the last one among them; a linear layer without MLP; a tied head.
    case("deci-no-mlp", [block(1), block(linear=True), block(mult=4.0), block(2)], tie_word_embeddings=True),
]
