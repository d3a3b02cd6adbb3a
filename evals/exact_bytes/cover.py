"""Probabilities of bytes from probabilities of tokens: sums over the sequences that cover a text.

Shapes: V tokens, R rows of a model's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.errors import DataError
from evals.exact_bytes.lattice import Lattice, Node, Stretch
from tokenizer_tools.canonical.tokens import CanonicalTokens

END = 256
"""Place of the end of the text in a distribution of bytes."""


@dataclass(frozen=True)
class Following:
    """Probabilities of what follows a node.

    Attributes:
        tokens: [V] Probability of each token, 0 for those that may not follow.
        end: Probability that the text ends.
        kept: Probability under the model of all that may follow, by which the others are divided.
    """

    tokens: np.ndarray
    end: float
    kept: float


Predict = Callable[[Node], Following]


def following(tokens: CanonicalTokens, node: Node, logits: np.ndarray) -> Following:
    """Return what follows a node, without what no text's tokens have.

    Args:
        logits: [R] The model's, for every row of its output.

    Raises:
        DataError: The model gives none of it a probability, or no numbers.
    """
    exact = logits.astype(np.float64)
    exact = np.exp(exact - exact.max())
    all_rows = float(exact.sum())
    found = np.where(node.allowed, exact[tokens.ids], 0.0)
    end = float(exact[tokens.ends[tokens.ends < len(exact)]].sum()) if node.may_end else 0.0
    total = float(found.sum()) + end
    if not total > 0:
        raise DataError(
            "the model gives no probability to any token that may follow",
            hint="Its weights may be damaged; or its tokenizer is not the one it was trained with.",
        )
    found /= total
    return Following(found, end / total, total / all_rows)


class Cover:
    """Probability of a text, byte by byte.

    Attributes:
        lattice: Sequences that cover the text.
    """

    def __init__(self, lattice: Lattice, predict: Predict) -> None:
        """Start with the sequences of a lattice, which may cover a text already.

        Args:
            lattice: Sequences that cover the text so far.
            predict: Function that says what follows a node; it is called once for each node.
        """
        self.lattice = lattice
        self._predict = predict
        self._following: dict[Node, Following] = {}
        self._weights = self._first_weights()

    @property
    def dead(self) -> bool:
        """Return True if no token sequence covers the text."""
        return not self._weights

    def distribution(self) -> np.ndarray:
        """Return the probability of each byte, and at `END` of the end of the text: [257], with sum 1.

        Raises:
            DataError: No token sequence covers the text.
        """
        if self.dead:
            raise DataError("the tokenizer makes no tokens of such a text", hint="It is no valid UTF-8.")
        found = np.zeros(END + 1)
        place, tokens = self.lattice.place, self.lattice.tokens
        for each in self.lattice.stretches:
            weight = self._weights.get(each.node, 0.0)
            if not weight:
                continue
            after = self._of(each.node)
            column = tokens.column(place - each.node.place)[each.longer : each.last]
            found[:END] += weight * np.bincount(
                column, weights=after.tokens[each.longer : each.last], minlength=END
            )
            if each.node.place == place:
                found[END] += weight * after.end
        return found / found.sum()

    def advance(self, byte: int) -> float:
        """Append a byte to the text; return the logarithm of its probability, -inf if it cannot follow."""
        return self.step(self.lattice.advance(byte), self.lattice.stretches)

    def step(self, covering: Sequence[Stretch], stretches: Sequence[Stretch]) -> float:
        """Follow a step of the lattice, and return the logarithm of its probability.

        Args:
            covering: Tokens by which nodes covered the text before and cover the new one (`Lattice.advance`).
            stretches: The lattice's stretches after the step.
        """
        probability = 0.0
        for each in covering:
            covered = self._of(each.node).tokens[each.first : each.last]
            probability += self._weights[each.node] * float(covered.sum())
        weights: dict[Node, float] = {}
        for each in stretches:
            weight = self._weight(each.node) / probability if probability else 0.0
            if weight:
                weights[each.node] = weight
        for gone in self._weights.keys() - weights.keys():
            self._following.pop(gone, None)
            gone.forget()
        self._weights = weights
        return math.log(probability) if probability else -math.inf

    def _weight(self, node: Node) -> float:
        """Return the probability of a node, beside that of the text before the step."""
        if node in self._weights:
            return self._weights[node]
        if node.parent not in self._weights:
            return 0.0
        return self._weights[node.parent] * float(self._of(node.parent).tokens[node.token])

    def _of(self, node: Node) -> Following:
        if node not in self._following:
            self._following[node] = self._predict(node)
        return self._following[node]

    def _first_weights(self) -> dict[Node, float]:
        """Return the probabilities of the nodes beside that of the text so far.

        What they have in common is left out, so that nothing has to be predicted for it.
        """
        stretches = self.lattice.stretches
        paths = [each.node.path() for each in stretches]
        common = 0
        while paths and all(len(path) > common and path[common] is paths[0][common] for path in paths):
            common += 1
        weights = {
            each.node: math.prod(float(self._of(_parent(node)).tokens[node.token]) for node in path[common:])
            for each, path in zip(stretches, paths, strict=True)
        }
        total = 0.0
        for each in stretches:
            ends = each.node.place == self.lattice.place
            covered = 1.0 if ends else float(self._of(each.node).tokens[each.longer : each.last].sum())
            total += weights[each.node] * covered
        self._following = {node: after for node, after in self._following.items() if node in weights}
        return {node: weight / total for node, weight in weights.items()} if total else {}


def _parent(node: Node) -> Node:
    assert node.parent is not None, "only the empty sequence has none"
    return node.parent
