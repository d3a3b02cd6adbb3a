"""Weights in groups."""

from typing import Any

import pytest
from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig

from cpt.training.optimizers.groups import group_weights

GPT2 = GPT2Config(n_embd=16, n_head=2, n_layer=1, n_positions=32, vocab_size=40)
OPT = OPTConfig(
    hidden_size=16,
    word_embed_proj_dim=16,
    ffn_dim=24,
    num_attention_heads=2,
    num_hidden_layers=1,
    vocab_size=40,
)


@pytest.mark.parametrize(
    ("config", "table"), [(GPT2, "wpe.weight"), (OPT, "embed_positions.weight")], ids=["gpt2", "opt"]
)
def test_a_table_of_positions_is_an_embedding(config: Any, table: str) -> None:
    model = AutoModelForCausalLM.from_config(config)
    groups = {group.name: group for group in group_weights(model, dict(model.named_parameters()))}
    assert [name for name in groups["embeddings"].weights if name.endswith(table)]
    assert groups["embeddings"].kind == "embedding"
    assert not [name for name in groups["matrices"].weights if name.endswith(table)]
