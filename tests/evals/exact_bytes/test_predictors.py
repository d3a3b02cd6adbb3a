"""Compare probabilities behind a node, from a tree and from a cache, with those of the model alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_characters import KINDS, write_model

from evals.exact_bytes.cover import following
from evals.exact_bytes.lattice import Lattice, Node
from evals.exact_bytes.model import load
from evals.exact_bytes.predictors import CachedPredictor, TreePredictor

ARCHITECTURES = {
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 5},
    "Qwen3": {"num_key_value_heads": 4, "head_dim": 8},
    "GPT2": {},
    "GPTNeoX": {},
}
TEXT = "as a 's sa  \u00e9\u00f7 as \u00e9s"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_tree_and_cache_predict_what_the_model_does(kind: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = ARCHITECTURES[kind]
    model = load(write_model(KINDS["GPT-2"](tmp_path), kind=kind, **settings), precision="fp32")
    lattice = Lattice(model.tokens)
    nodes: list[Node] = lattice.ended
    for byte in TEXT.encode():
        lattice.advance(byte)
        nodes += lattice.ended
    tree = TreePredictor(model.packed, model.tokens, model.start, nodes, nodes[-1].path())
    cache = CachedPredictor(model.packed, model.tokens, model.start)
    for node in [*nodes, *nodes[::-7]]:
        alone = _alone(model.packed.model, [*model.start, *node.ids()])
        np.testing.assert_allclose(tree.logits(node), alone, atol=2e-4)
        expected, found = following(model.tokens, node, alone), cache(node)
        np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-5)
        assert found.end == pytest.approx(expected.end, abs=1e-5)
        assert found.kept == pytest.approx(expected.kept, abs=1e-5)


def _alone(model: Any, ids: list[int]) -> np.ndarray:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    model.set_attn_implementation("documents")
    return found.numpy()


def test_what_two_nodes_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(write_model(KINDS["GPT-2"](tmp_path)), precision="fp32")
    read: list[int] = []
    forward = type(model.packed.model.base_model).forward

    def counting(self: Any, **inputs: Any) -> Any:
        read.append(inputs["input_ids"].shape[1])
        return forward(self, **inputs)

    monkeypatch.setattr(type(model.packed.model.base_model), "forward", counting)
    state = model.begin("as a 's sa")
    for byte in b"  as":
        state.distribution()
        state.advance(byte)
    assert read[0] > 5
    assert sum(read[1:]) <= 12
