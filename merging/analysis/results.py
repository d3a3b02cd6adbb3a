"""What an analysis of task vectors says. All are plain data: `dataclasses.asdict` gives JSON."""

from __future__ import annotations

from dataclasses import dataclass

from merging.analysis.regions import Rows

CARRIED = 0.9
"""Share of the squared norm that the largest weights are counted to."""

Figures = tuple[float | None, ...]


@dataclass(frozen=True)
class Vector:
    """A task vector, over the weights that both model and base have.

    Attributes:
        norm, base_norm: Euclidean norms of the vector and of the base's weights.
        relative: norm / base_norm.
        weights: how many there are; `changed`: of which the vector is not zero.
        carriers: how few of the largest have `CARRIED` of the squared norm; `carriers_share` of all weights.
        embeddings_share: of the squared norm, new rows counted in with their own squared norm, the part in
            the input embedding; `new_rows_share` the part in rows that the base lacks, input and output.
        rows: None where all vocabularies are the same.
    """

    name: str
    norm: float
    base_norm: float
    relative: float | None
    weights: int
    changed: int
    carriers: int
    carriers_share: float | None
    embeddings_share: float | None
    new_rows_share: float | None
    rows: Rows | None


@dataclass(frozen=True)
class Pair:
    """How two task vectors lie to each other, over the weights that both models and the base have.

    Attributes:
        cosine: None where a vector is zero.
        random: standard deviation of the cosine of two random vectors of so many weights, 1/√n.
        both_changed: weights in which neither vector is zero.
        conflicts: share of these in which the signs differ; 0.5 where signs are random.
        conflicting_a, conflicting_b: share of each vector's squared norm in weights whose signs differ.
    """

    a: str
    b: str
    cosine: float | None
    random: float | None
    weights: int
    both_changed: int
    conflicts: float | None
    conflicting_a: float | None
    conflicting_b: float | None


@dataclass(frozen=True)
class Parts:
    """The same figures by part of the model: N parts, K vectors, P pairs in the order of the analysis.

    Attributes:
        names: of the parts.
        weights: [N] weights that the base shares with the model that shares most of them.
        norm, relative: [K][N] norm of the vector in the part, and over that of the base.
        share: [K][N] part of the vector's squared norm.
        cosine, random, conflicts: [P][N] as of `Pair`.
    """

    names: tuple[str, ...]
    weights: tuple[int, ...]
    norm: tuple[Figures, ...]
    relative: tuple[Figures, ...]
    share: tuple[Figures, ...]
    cosine: tuple[Figures, ...]
    random: tuple[Figures, ...]
    conflicts: tuple[Figures, ...]


@dataclass(frozen=True)
class Grid:
    """Relative norms by layer and kind: `relative` is [K][kinds][layers], None where there are no weights."""

    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    relative: tuple[tuple[Figures, ...], ...]


@dataclass(frozen=True)
class Analysis:
    """Task vectors from one base.

    Attributes:
        carried: share of the squared norm that `Vector.carriers` have.
        pairs: each of two vectors, in their order.
        layers: by layer, and last what is outside of layers.
    """

    base: str
    carried: float
    vectors: tuple[Vector, ...]
    pairs: tuple[Pair, ...]
    layers: Parts
    kinds: Parts
    grid: Grid


OUTSIDE = "outside"
"""The part that is in no layer: embeddings, head, last norm."""
