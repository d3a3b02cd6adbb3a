"""Predict what follows nodes: many at once as a tree, or one after another with a cache.

Shapes: R rows of the model's output, N nodes, E width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from cpt.errors import DataError
from cpt.models import attention
from cpt.models.batch import PrefixTree, TreeBatch
from cpt.models.packed_model import PackedLanguageModel
from evals.exact_bytes.cover import Following, following
from evals.exact_bytes.lattice import Node
from tokenizer_tools.canonical.tokens import CanonicalTokens

_ROWS = 64
"""Nodes whose logits are computed together."""


class CachedPredictor:
    """Prediction of one node after another: what two of them have in common goes through the model once."""

    def __init__(self, model: PackedLanguageModel, tokens: CanonicalTokens, before: Sequence[int]) -> None:
        """Prepare an empty cache.

        Args:
            model: Model.
            tokens: Its tokenizer.
            before: Ids before the text, at least one.
        """
        from transformers import DynamicCache

        self._model, self._tokens, self._before = model, tokens, list(before)
        self._cache: Any = DynamicCache()
        self._cached: list[int] = []

    def __call__(self, node: Node) -> Following:
        """Return what follows a node.

        Raises:
            DataError: The sequence is longer than the model can read.
        """
        ids = self._before + node.ids()
        _check_length(self._model, len(ids))
        same = next(
            (i for i, (a, b) in enumerate(zip(ids, self._cached, strict=False)) if a != b), len(self._cached)
        )
        same = min(same, len(ids) - 1)  # of one token at least the output is needed
        if same < len(self._cached):
            self._cache.crop(same - len(self._cached))
        self._cached = ids
        logits = self._logits(ids[same:], same)
        return following(self._tokens, node, logits)

    @torch.no_grad()
    def _logits(self, ids: Sequence[int], place: int) -> np.ndarray:
        model = self._model.model
        with _own_attention(model):
            output = model.base_model(
                input_ids=torch.tensor([ids], device=model.device),
                position_ids=torch.arange(place, place + len(ids), device=model.device)[None],
                past_key_values=self._cache,
                use_cache=True,
            )
        return _numbers(self._model.logits(output.last_hidden_state[0, -1:]))[0]


def _check_length(model: PackedLanguageModel, length: int) -> None:
    most = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and length > most:
        raise DataError(
            f"the text has {length:,} tokens, of which the model reads {most:,}",
            hint="Give it a shorter text.",
        )


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
    """Let a model attend as transformers does, which the packed attention cannot with a cache."""
    former = model.config._attn_implementation
    if former == attention.NAME:
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if former == attention.NAME:
            model.set_attn_implementation(former)


class TreePredictor:
    """Prediction of nodes that are all known before: they go through the model as one tree."""

    def __init__(
        self,
        model: PackedLanguageModel,
        tokens: CanonicalTokens,
        before: Sequence[int],
        nodes: Sequence[Node],
        trunk: Sequence[Node],
    ) -> None:
        """Read all nodes.

        Args:
            model: Model.
            tokens: Its tokenizer.
            before: Ids before the text, at least one.
            nodes: Nodes, each behind its parent; the first is the empty sequence.
            trunk: The longest path among them, without the empty sequence.

        Raises:
            DataError: A sequence is longer than the model can read.
        """
        self._model = model
        self._row = {node: row for row, node in enumerate(nodes)}
        tree, place = _tree(tokens, before, [nodes[0], *dict.fromkeys([*trunk, *nodes[1:]])])
        _check_length(model, max(tree.depth) + 1)
        places = np.array([place[node] for node in nodes])
        batch = TreeBatch.of([tree], places, np.zeros_like(places)).to(next(model.parameters()).device)
        self._hidden_NE = model.node_states(batch)
        self._first, self._logits = 0, np.zeros((0, 0))

    def logits(self, node: Node) -> np.ndarray:
        """Return a node's logits: [R]. Nodes near each other are asked for best one after another."""
        row = self._row[node]
        if not self._first <= row < self._first + len(self._logits):
            self._first = row // _ROWS * _ROWS
            self._logits = _numbers(self._model.logits(self._hidden_NE[self._first : self._first + _ROWS]))
        return self._logits[row - self._first]


def _tree(
    tokens: CanonicalTokens, before: Sequence[int], nodes: Sequence[Node]
) -> tuple[PrefixTree, dict[Node, int]]:
    """Return the tree of nodes, each behind its parent, and the place of each in it."""
    tree = PrefixTree()
    root, *others = nodes
    path: dict[Node, np.ndarray] = {root: tree.add(0, list(before), 0, np.zeros(0, dtype=np.int64))}
    for number, node in enumerate(others, start=1):
        assert node.parent is not None
        shared = path[node.parent]
        sequence = [0] * len(shared) + [int(tokens.ids[node.token])]
        path[node] = tree.add(number, sequence, len(shared), shared)
    return tree, {node: int(path[node][-1]) for node in nodes}


def _numbers(logits: torch.Tensor) -> np.ndarray:
    found: np.ndarray = logits.float().cpu().numpy()
    return found
