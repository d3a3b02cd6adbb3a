"""What the other stages made: documents, vocabulary, merge.

A search for merge weights, as `cpt.stages.merge.search.search_metrics` says it.

Task vectors from one base, as an analysis of them says (`merging.analysis.results`).
"""

# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.measurements import Fact


class PairedChange(Fact):
    """How much worse than the base: bits per byte, or share of wrong answers; and its standard error."""

    change: float
    error: float | None = None


class Trial(Fact):
    """A merge that was tried; `values` by what was chosen, such as "weight of law"."""

    values: dict[str, float]
    by: str
    domain_gain: float
    general_rise: float
    changes: dict[str, PairedChange]
    front: bool
    chosen: bool


class SearchBudget(Fact):
    """A budget and how it stands at the chosen point; `limit` in the unit of its probe."""

    budget: str
    probe: str
    limit: float
    verdict: str
    why: str


class BoundReached(Fact):
    """A number that was chosen at the lower or upper bound of what was searched, and what that means."""

    name: str
    value: float
    bound: str
    says: str


class WeightSearch(Fact):
    """A search that is finished. `why` are the words for how the point was chosen."""

    method: str
    models: list[str]
    why: str
    holds: bool
    search_points: list[Trial]
    gates: list[SearchBudget] = []
    at_bounds: list[BoundReached] = []

    @property
    def chosen(self) -> Trial:
        """The point that is chosen."""
        return next(point for point in self.search_points if point.chosen)


Figures = list[float | None]


class VectorRows(Fact):
    """A model's rows of the embedding beside the base's."""

    shared: int
    new: int
    missing: int
    padding: int


class Vector(Fact):
    """A task vector: its norm, and that over the base's; shares are of its squared norm or of its weights."""

    name: str
    norm: float
    relative: float | None
    weights: int
    changed: int
    carriers: int
    carriers_share: float | None
    embeddings_share: float | None
    new_rows_share: float | None
    rows: VectorRows | None = None


class VectorPair(Fact):
    """How two task vectors lie to each other; `random` is the spread of the cosine of random vectors."""

    a: str
    b: str
    cosine: float | None
    random: float | None
    weights: int
    both_changed: int
    conflicts: float | None
    conflicting_a: float | None
    conflicting_b: float | None


class VectorParts(Fact):
    """Figures by part of the model: [vectors][parts], and [pairs][parts] for cosine and conflicts."""

    names: list[str]
    weights: list[int]
    relative: list[Figures]
    share: list[Figures]
    cosine: list[Figures]
    random: list[Figures]
    conflicts: list[Figures]


class VectorGrid(Fact):
    """Norms over the base's: [vectors][kinds][layers]."""

    layers: list[int]
    kinds: list[str]
    relative: list[list[Figures]]


class Vectors(Fact):
    """Task vectors from one base; `carried` is the share of the squared norm that `carriers` have."""

    base: str
    carried: float
    vectors: list[Vector]
    pairs: list[VectorPair]
    layers: VectorParts
    kinds: VectorParts
    grid: VectorGrid


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
