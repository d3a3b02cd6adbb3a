"""Replace some tokens that the model reads of the domain's documents by random ones: D-AR.

Denoising auto-regression ("Where is the answer?", omron-sinicx): with x the tokens of a document and x̃ the
same, each of them replaced with probability R by a random token of the vocabulary,

    L(θ) = 1/N · Σ_t -ln P_θ(x_t | x̃_<t)

Targets are the true tokens, also where the model reads another one. A fact late in a document then cannot be
learnt as the continuation of exactly the words before it. In the paper (7B, questions mixed in) exact answers
on a document's fifth sentence rose from 25% to 48%, with R = 0.1.

All other rows are read as they are: study documents, conversations, replay (where an objective compares with
another model), and whatever probes read. A teacher reads what its student reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from cpt.errors import Problem
from cpt.training.feature import Run, RunFacts, TrainingFeature

if TYPE_CHECKING:
    import numpy as np

    from cpt.training.data import PackedSequence
    from cpt.training.settings import TrainingConfig


class InputNoise(TrainingFeature):
    """Random tokens among those that the model reads of documents.

    It has no state: they are a function of the seed, and of the source and the position of a row in the
    stream. A resumed run reads the same, and so does one on another number of processes.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    @classmethod
    def of(cls, config: TrainingConfig) -> Self | None:
        return cls(config.input_noise) if config.input_noise else None

    def problems(self, facts: RunFacts) -> list[Problem]:
        """Return a problem where no row that is trained on holds a document."""
        return self.without_documents() if facts.has_documents is False else []

    def without_documents(self) -> list[Problem]:
        """Return the problem that a domain without documents is."""
        return [
            Problem(
                "input noise is for the domain's documents, and none are trained on: study documents and "
                "conversations are read as they are",
                key="input_noise",
                hint="Leave it out, or give the part that holds documents a weight.",
            )
        ]

    def describe(self) -> str:
        return f"{100 * self._share:.3g}% of the tokens read of documents are random (D-AR)"

    def on_start(self, run: Run) -> None:
        import numpy as np

        self._seed, self._ordinary = run.settings.seed, np.array(run.settings.ordinary_tokens, np.int64)
        if not len(self._ordinary):
            raise ValueError("input noise draws from `Settings.ordinary_tokens`, and there are none")

    def rows(self, step: int, batch: Sequence[PackedSequence]) -> list[PackedSequence]:
        """Return the rows of global batch `step` as the model reads them, in order."""
        from cpt.training.data import NoisySequence

        first, noise = step * len(batch), (self._share, self._ordinary, self._seed)
        return [
            NoisySequence(row, partial(noisy_tokens, row, first + at, *noise)) for at, row in enumerate(batch)
        ]


def noisy_tokens(
    row: PackedSequence, position: int, share: float, ordinary: np.ndarray, seed: int
) -> np.ndarray:
    """Replace a share of a row's tokens, each by chance and by itself.

    Special tokens, those of weight 0 in the loss and those of pieces that are not plain stay. A random token
    may be the true one.

    Args:
        position: Position of the row in the stream.
        share: Probability of a replacement.
        ordinary: Ids of the tokens that are replaced and drawn, ascending: int64 (ordinary tokens,).

    Returns:
        int64 (tokens,): a random id may be too large for the data type of the row's tokens.
    """
    import numpy as np

    tokens = np.asarray(row.tokens).astype(np.int64)
    if row.plain is None:
        return tokens
    replaceable = np.isin(tokens, ordinary) & np.repeat(row.plain, row.piece_lengths)
    if row.weights is not None:
        replaceable &= row.weights != 0
    # raw bits, which are the same in every version of numpy; its distributions are not
    key = hashlib.blake2b(repr((seed, "input noise", row.source, position)).encode(), digest_size=16).digest()
    whether, which = np.random.Philox(key=int.from_bytes(key, "little")).random_raw((2, len(tokens)))
    chosen = replaceable & ((whether >> np.uint64(11)) * 2.0**-53 < share)
    return np.where(chosen, ordinary[which % np.uint64(len(ordinary))], tokens)
