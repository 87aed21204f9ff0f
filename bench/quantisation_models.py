"""The float32 models that quantisation_peers.py quantises, all made from SmolLM2, which we have as Q4_1.

plain    its weights with noise of one Q4_1 step, uniform: weights as they were before they were quantised may have been, and off
         the lattice, on which Q4_1 would be exact.
wide     the same function in rows of 768 instead of 576, which are whole blocks of 256: no type falls back to another. The
         residual stream is rotated into 768 dimensions (x' = Q x, Q with orthonormal columns; a norm without weights commutes
         with Q but for the mean's 768/576, and the norms' weights go into the matrices behind them), and one of the three groups
         of heads stands twice, at half its weight.
experts  each feed-forward network four times, with noise of its own, behind a random router that takes two: a mixture of
         experts, of which MXFP4 is the type.
"""
import json
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

SEED = 7
WIDTH, WIDE = 576, 768
GROUP_ROWS, HEAD_ROWS = 192, 64  # queries and keys of a group of heads
EXPERTS, EXPERTS_USED = 4, 2
PROJECTIONS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}  # Mixtral's names


def with_noise(generator, weights, levels=15):
    """Weights plus uniform noise as wide as the step of `levels` steps from the lowest to the highest of each 32."""
    blocks = weights.reshape(-1, 32)
    step = (blocks.max(1, keepdims=True) - blocks.min(1, keepdims=True)) / levels
    noise = generator.random(blocks.shape, dtype=np.float32) - np.float32(0.5)
    return (blocks + step * noise).reshape(weights.shape)


def layers(config):
    return [f"model.layers.{index}." for index in range(config["num_hidden_layers"])]


def make_plain(config, tensors):
    generator = np.random.default_rng(SEED)
    made = {}
    for name, weights in sorted(tensors.items()):
        if weights.ndim == 1:
            made[name] = weights
        else:
            made[name] = with_noise(generator, weights, 255 if name == "model.embed_tokens.weight" else 15)  # Q8_0, Q4_1
    return config, made


def make_wide(config, plain):
    generator = np.random.default_rng(SEED + 1)
    rotation = np.linalg.qr(generator.standard_normal((WIDE, WIDTH)))[0].astype(np.float32)
    gain = WIDTH / WIDE
    norm = np.full(WIDE, np.sqrt(gain), np.float32)

    def reads(name, norm_name):  # a matrix behind a norm
        return plain[name] * plain[norm_name] @ rotation.T

    def writes(weights):
        return rotation @ weights

    def twice(rows, count):  # the first group of heads once more, behind the last
        return np.concatenate([rows, rows[:count]])

    embedding = plain["model.embed_tokens.weight"]
    made = {"model.embed_tokens.weight": embedding @ rotation.T, "model.norm.weight": norm,
            "lm_head.weight": embedding * plain["model.norm.weight"] @ rotation.T}
    for layer in layers(config):
        made[layer + "input_layernorm.weight"] = made[layer + "post_attention_layernorm.weight"] = norm
        for part, count in {"q_proj": GROUP_ROWS, "k_proj": HEAD_ROWS, "v_proj": HEAD_ROWS}.items():
            name = f"{layer}self_attn.{part}.weight"
            made[name] = twice(reads(name, layer + "input_layernorm.weight"), count)
        output = plain[layer + "self_attn.o_proj.weight"].T.copy()
        output[:GROUP_ROWS] /= 2
        made[layer + "self_attn.o_proj.weight"] = writes(twice(output, GROUP_ROWS).T)
        for part in ("gate_proj", "up_proj"):
            name = f"{layer}mlp.{part}.weight"
            made[name] = reads(name, layer + "post_attention_layernorm.weight")
        made[layer + "mlp.down_proj.weight"] = writes(plain[layer + "mlp.down_proj.weight"])
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4}
    return config | heads | {"hidden_size": WIDE, "rms_norm_eps": config["rms_norm_eps"] * gain, "tie_word_embeddings": False}, made


def make_experts(config, plain):
    generator = np.random.default_rng(SEED + 2)
    made = {name: weights for name, weights in plain.items() if ".mlp." not in name}
    for layer in layers(config):
        router = generator.standard_normal((EXPERTS, WIDTH), dtype=np.float32)
        made[layer + "block_sparse_moe.gate.weight"] = router / np.float32(np.sqrt(WIDTH))
        for expert in range(EXPERTS):
            for part, name in PROJECTIONS.items():
                weights = with_noise(generator, plain[f"{layer}mlp.{part}.weight"])
                made[f"{layer}block_sparse_moe.experts.{expert}.{name}.weight"] = weights
    return config | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": EXPERTS,
                     "num_experts_per_tok": EXPERTS_USED}, made


def save(folder, template, config, tensors):
    """A checkpoint folder with the tokenizer of `template`."""
    folder.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(template / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: np.ascontiguousarray(weights) for name, weights in tensors.items()}, folder / "model.safetensors")


def make_source(name, dequantised, folder):
    """The checkpoint `name` in `folder`, from the folder of SmolLM2's weights as they are in float32."""
    config = json.loads((dequantised / "config.json").read_text(encoding="utf-8"))
    plain = make_plain(config, load_file(dequantised / "model.safetensors"))
    save(folder, dequantised, *{"plain": lambda *model: model, "wide": make_wide, "experts": make_experts}[name](*plain))
