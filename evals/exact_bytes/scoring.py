"""Score a text byte by byte, beside its canonical tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel
from evals.exact_bytes.cover import Cover, Following, following
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
    steps = Steps(tokens, text)
    tree = TreePredictor(model, tokens, before, steps.nodes, steps.own)
    next_own = {node.parent: int(tokens.ids[node.token]) for node in steps.own}
    own: list[tuple[float, float]] = []

    def predict(node: Node) -> Following:
        logits = tree.logits(node)
        found = following(tokens, node, logits)
        if node in next_own:
            own.append((float(log_softmax(logits.astype(np.float64))[next_own[node]]), math.log(found.kept)))
        return found

    cover = Cover(steps.start, predict)
    logarithms = np.array([cover.step(*step) for step in steps.steps])
    likelihood, left_out = np.sum(own, axis=0).tolist()
    return ByteScores(logarithms[len(tokens.lead) :], likelihood, left_out)


class Unspelt(DataError):
    """A text that the tokenizer does not make of canonical tokens.

    Attributes:
        reason: Reason, without the text.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason}{text and f' at {text!r}'}", hint="Leave such documents out.")


class Steps:
    """The lattice of a whole text.

    Attributes:
        nodes: All nodes but the last ones, from which nothing follows.
        own: Nodes of the text's own tokens.
        start: Lattice before the first byte.
        steps: For each byte what `Cover.step` takes.
    """

    def __init__(self, tokens: CanonicalTokens, text: str) -> None:
        """Find all sequences that cover a beginning of the text.

        Raises:
            Unspelt: There are none, or the text's own tokens are not among them.
        """
        self.start = Lattice(tokens)
        lattice = Lattice(tokens, self.start.stretches)
        self.nodes: list[Node] = [each.node for each in lattice.stretches]
        self.steps: list[tuple[list[Stretch], list[Stretch]]] = []
        data = tokens.lead + tokens.bytes_of(text)
        for place, byte in enumerate(data, start=1):
            covering = lattice.advance(byte)
            if not lattice.stretches:
                raise Unspelt(
                    "the tokenizer cannot spell the text", data[:place][-40:].decode(errors="replace")
                )
            self.steps.append((covering, lattice.stretches))
            if place < len(data):
                self.nodes += lattice.ended
        ids = tokens.bpe.tokenizer.encode(text, add_special_tokens=False).ids
        own = [node for node in lattice.ended if node.may_end and node.ids() == ids]
        if not own and ids:
            raise Unspelt("the tokenizer reads some words of the text as added tokens")
        self.own = own[0].path() if own else []
