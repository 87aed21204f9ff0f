"""bert and modern-bert: encoders (hidden states) and rerankers (scores)."""
import numpy as np
import torch
from golden_values import hashes
from make_model_golden import Case
from transformers import (
    BertConfig, BertForSequenceClassification, BertModel, ModernBertConfig, ModernBertForSequenceClassification,
    ModernBertModel,
)

BERT = dict(
    vocab_size=96, hidden_size=48, intermediate_size=72, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=64, type_vocab_size=2, hidden_act="gelu",
)
MODERN = dict(
    vocab_size=96, hidden_size=48, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4,
    max_position_embeddings=128, local_attention=16, global_attn_every_n_layers=3, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, cls_token_id=1, sep_token_id=2,
)
# The norms before the output give it their size.
LOUD = [("encoder.layer.2.output.LayerNorm.weight", (2.0, 0.5)),
        ("*LayerNorm.weight", (1.0, 0.5)), ("*final_norm.weight", (2.0, 0.5)), ("*norm*.weight", (1.0, 0.5)),
        ("classifier.weight", (0.0, 1.0))]


class BertEncoder(BertModel):
    """Without the pooler, which only a classification head reads."""

    def __init__(self, config):
        super().__init__(config, add_pooling_layer=False)


def hidden(model, ids):
    return model(ids).last_hidden_state[0]


def score(model, ids):
    """One row: the scores of the whole text."""
    return model(ids).logits


def reranker(name, config, model_class, **extra):
    return Case(name, config, model_class, run=score, rows=[0], weights=LOUD, minimum_std=0,
                extra=lambda model, case: {"scores": True} | extra)


# Without rotary positions a bias of keys adds the same to all of a query's scores.
INERT = {"inert": ["attention.self.key.bias"]}


# The same tokens as a pair: the second half of them belongs to the second text.
def pair_scores(model, case):
    ids = (hashes(case.name + ".tokens", case.tokens) >> np.uint64(33)).astype(np.int64) % model.config.vocab_size
    segments = (np.arange(case.tokens) >= case.tokens // 2).astype(np.int64)
    with torch.no_grad():
        scores = model(torch.from_numpy(ids)[None], token_type_ids=torch.from_numpy(segments)[None]).logits[0]
    return {"pair_scores_1e5": [int(round(float(v) * 1e5)) for v in scores]}


CASES = [
    Case("bert", BertConfig(**BERT), BertEncoder, run=hidden, weights=LOUD, config_extra={"architectures": ["BertModel"]},
         extra=lambda model, case: INERT),
    Case("bert-rank", BertConfig(**BERT, num_labels=2), BertForSequenceClassification, run=score, rows=[0], weights=LOUD,
         minimum_std=0, extra=lambda model, case: {"scores": True} | INERT | pair_scores(model, case)),
    Case("modern-bert", ModernBertConfig(**MODERN), ModernBertModel, run=hidden, weights=LOUD),
    reranker("modern-bert-rank", ModernBertConfig(**MODERN, num_labels=2, classifier_pooling="mean"),
             ModernBertForSequenceClassification),
]
