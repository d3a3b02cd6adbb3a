"""Task vectors from one base, as an analysis of them says (`merging.analysis.analyse`)."""

from __future__ import annotations

from cpt.report.schema.base import Fact

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
