"""What the other stages made: documents, vocabulary, merge."""
# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.base import Fact
from cpt.report.schema.search import BoundReached
from cpt.report.schema.vectors import Vectors


class Split(Fact):
    """One split of a source's documents; `bytes` of UTF-8, `tokens` with start and end tokens."""

    documents: int
    bytes: int | None = None
    tokens: int | None = None
    sequences: int | None = None


class Documents(Fact):
    """A source's documents: `documents_in` = both splits + everything in `removed`."""

    documents_in: int | None = None
    removed: dict[str, int] = {}
    splits: dict[str, Split] = {}

    @property
    def balanced(self) -> bool:
        """Whether every document that came in is accounted for."""
        kept = sum(split.documents for split in self.splits.values())
        return self.documents_in == kept + sum(self.removed.values())


class Vocabulary(Fact):
    """Size of the vocabulary and bytes per token of held-out domain text, base and final tokenizer."""

    before: int | None = None
    after: int | None = None
    bytes_per_token_before: float | None = None
    bytes_per_token_after: float | None = None
    added: int | None = None
    rows: int | None = None


class MergeInput(Fact):
    """A model that went into the merge, by its stage; `varied` if its weight is no single number."""

    model: str
    weight: float | None = None
    varied: bool = False


class TrialPoint(Fact):
    """A merge that a search tried: gain on domain text and rise on general text, bits per byte.

    weight: of the trained model, where the search is over that alone.
    """

    domain_gain: float
    general_rise: float
    weight: float | None = None


class Merge(Fact):
    """How the final model was merged.

    search: what was tried to find its weights (`search_points` of the stage's metrics).
    at_bounds: chosen weights at the end of what was searched (`search.at_bounds` of the stage's metrics).
    vectors: what the merged task vectors look like (`analysis` of the stage's metrics).
    """

    stage: str
    method: str
    models: list[MergeInput] = []
    search: list[TrialPoint] = []
    at_bounds: list[BoundReached] = []
    vectors: Vectors | None = None


class StageFact(Fact):
    """One finished stage. `made` is when its artifact was finished (ISO 8601)."""

    name: str
    kind: str
    seconds: float
    made: str = ""
    fingerprint: str
