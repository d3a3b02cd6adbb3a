"""Kinds of weight by the names of several architectures."""

import pytest

from merging.analysis.regions import KINDS, kind_of


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("model.layers.3.self_attn.q_proj.weight", "attention q"),
        ("model.layers.3.self_attn.k_proj.bias", "attention k"),
        ("model.layers.3.self_attn.v_proj.weight", "attention v"),
        ("model.layers.3.self_attn.o_proj.weight", "attention o"),
        ("model.layers.3.self_attn.q_norm.weight", "norms"),
        ("model.layers.3.mlp.gate_proj.weight", "feed-forward gate"),
        ("model.layers.3.mlp.up_proj.weight", "feed-forward up"),
        ("model.layers.3.mlp.down_proj.weight", "feed-forward down"),
        ("model.layers.3.mlp.gate.weight", "router"),
        ("model.layers.3.mlp.experts.gate_up_proj", "feed-forward gate and up"),
        ("model.layers.3.post_attention_layernorm.weight", "norms"),
        ("lm_head.weight", "head"),
        ("transformer.wte.weight", "embeddings"),
        ("transformer.h.0.attn.c_attn.weight", "attention qkv"),
        ("transformer.h.0.attn.c_proj.weight", "attention o"),
        ("transformer.h.0.mlp.c_fc.bias", "feed-forward up"),
        ("transformer.h.0.mlp.c_proj.weight", "feed-forward down"),
        ("transformer.h.0.ln_1.weight", "norms"),
        ("gpt_neox.layers.0.attention.dense.weight", "attention o"),
        ("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", "feed-forward down"),
        ("bert.encoder.layer.0.attention.self.query.weight", "attention q"),
        ("bert.encoder.layer.0.attention.output.dense.weight", "attention o"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "feed-forward up"),
        ("bert.encoder.layer.0.output.dense.weight", "feed-forward down"),
        ("bert.embeddings.word_embeddings.weight", "embeddings"),
        ("encoder.block.0.layer.1.DenseReluDense.wo.weight", "feed-forward down"),
        ("model.something_else", "other"),
    ],
)
def test_kind_of(tensor: str, kind: str) -> None:
    assert kind_of(tensor) == kind
    assert kind in KINDS
