"""Score a text byte by byte, beside its canonical tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel
from evals.exact_bytes.cover import Cover
from evals.exact_bytes.lattice import Lattice, Node, Stretch
from evals.exact_bytes.predictors import TreePredictor
from tokenizer_tools.canonical.tokens import CanonicalTokens


@dataclass(frozen=True)
class ByteScores:
    """Scores of a text.

    Attributes:
        bytes: [bytes] ln P(byte | all before it).
        tokens: Σ ln p(token | all before it) of the text's own tokens.
        left_out: Σ of the logarithms of what the model gives to all that may follow, at each of these tokens:
            so much of `tokens` is lost to sequences that no text has.
    """

    bytes: np.ndarray
    tokens: float
    left_out: float


def score_text(
    model: PackedLanguageModel, tokens: CanonicalTokens, before: Sequence[int], text: str
) -> ByteScores:
    """Score a text under a model.

    Args:
        model: Model.
        tokens: Its tokenizer.
        before: Ids before the text, at least one.
        text: Text; with these ids its tokens fit the model.

    Raises:
        DataError: The tokenizer cannot spell the text, or reads something in it that is no text.
    """
    data = tokens.lead + tokens.bytes_of(text)
    steps = _Steps(tokens, data)
    own = steps.own_tokens(text)
    predict = TreePredictor(model, tokens, before, steps.nodes, own)
    start = Lattice(tokens)
    start.stretches = steps.start
    cover = Cover(start, predict)
    found = np.array([cover.step(*step) for step in steps.steps])
    likelihood = left_out = 0.0
    for node in own:
        assert node.parent is not None
        logits = predict.logits(node.parent).astype(np.float64)
        whole = logits.max() + math.log(np.exp(logits - logits.max()).sum())
        likelihood += float(logits[tokens.ids[node.token]]) - whole
        left_out += math.log(predict(node.parent).kept)
        node.parent.forget()
    return ByteScores(found[len(tokens.lead) :], likelihood, left_out)


class _Steps:
    """The lattice of a whole text.

    Attributes:
        nodes: All nodes but the last ones, from which nothing follows.
        start: Stretches before the first byte.
        steps: For each byte what `Cover.step` takes.
    """

    def __init__(self, tokens: CanonicalTokens, data: bytes) -> None:
        lattice = Lattice(tokens)
        self._tokens = tokens
        self.start = lattice.stretches
        self.nodes: list[Node] = [each.node for each in self.start]
        self.steps: list[tuple[list[Stretch], list[Stretch]]] = []
        for place, byte in enumerate(data):
            covering = lattice.advance(byte)
            if not lattice.stretches:
                shown = data[: place + 1][-40:].decode(errors="replace")
                raise DataError(
                    f"the tokenizer cannot spell the text at {shown!r}",
                    hint="Leave such documents out: their probability is 0.",
                )
            self.steps.append((covering, lattice.stretches))
            if place + 1 < len(data):
                self.nodes += lattice.ended
        self._ended = [node for node in lattice.ended if node.may_end]

    def own_tokens(self, text: str) -> list[Node]:
        """Return the nodes of the text's own tokens.

        Raises:
            DataError: They are not among the canonical sequences.
        """
        ids = self._tokens.bpe.tokenizer.encode(text, add_special_tokens=False).ids
        for node in self._ended:
            if node.ids() == ids:
                return node.path()
        raise DataError(
            "the tokenizer makes other tokens of the text than its merges do: "
            f"{self._tokens.bpe.folder} reads some words in it as added tokens",
            hint="Leave such documents out.",
        )
