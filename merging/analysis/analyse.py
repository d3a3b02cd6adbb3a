"""Measure task vectors: lengths, angles, conflicts of sign, and the few weights that carry them.

A task vector is a model minus its base (Ilharco et al. 2023, arXiv 2212.04089). The weights are read twice,
chunk by chunk: memory does not grow with the models.

All results are plain data: `dataclasses.asdict` gives JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from merging.analysis.gram_sums import Concentration, Sums, add, cosine, no_sums, ratio, sums
from merging.analysis.regions import EMBEDDINGS, KINDS, Region, Regions, Rows, regions
from merging.candidates import Candidate
from merging.kernels import reads
from merging.sources import Source

CARRIED = 0.9
"""Share of the squared norm of the largest weights that are counted."""

Figures = tuple[float | None, ...]


@dataclass(frozen=True)
class Vector:
    """A task vector, over the weights that both model and base have.

    Attributes:
        name: Name of the model.
        norm: Euclidean norm of the vector.
        base_norm: Euclidean norm of the base's weights.
        relative: norm / base_norm.
        weights: Number of weights.
        changed: Number of weights where the vector is not zero.
        carriers: Smallest number of weights with `CARRIED` of the squared norm.
        carriers_share: carriers / weights.
        embeddings_share: Share of the squared norm in the input embedding; new rows count with their own.
        new_rows_share: Share of the squared norm in rows that the base lacks, input and output.
        rows: Rows of the embedding; None where all vocabularies are the same.
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
    """A comparison of two task vectors, over the weights that both models and the base have.

    Attributes:
        a: Name of the first model.
        b: Name of the second model.
        cosine: Cosine of the angle; None where a vector is zero.
        random: Standard deviation of the cosine of two random vectors of this length, 1/√n.
        weights: Number of weights.
        both_changed: Number of weights where neither vector is zero.
        conflicts: Share of these with different signs; 0.5 where signs are random.
        conflicting_a: Share of the first vector's squared norm in weights whose signs differ.
        conflicting_b: Share of the second vector's squared norm in weights whose signs differ.
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
        names: Names of the parts.
        weights: Number of weights that the base shares with the model that shares most of them: [N].
        norm: Norm of the vector in the part: [K][N].
        relative: Norm over that of the base: [K][N].
        share: Share of the vector's squared norm: [K][N].
        cosine, random, conflicts: Figures of `Pair`: [P][N].
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
        base: Name of the base.
        carried: Share of the squared norm in `Vector.carriers`.
        vectors: Task vectors.
        pairs: Every two vectors, in their order.
        layers: Figures by layer; the last part is outside of layers.
        kinds: Figures by kind of weight.
        grid: Relative norms by layer and kind.
    """

    base: str
    carried: float
    vectors: tuple[Vector, ...]
    pairs: tuple[Pair, ...]
    layers: Parts
    kinds: Parts
    grid: Grid


OUTSIDE = "outside"
"""Name of the part outside of layers: embeddings, head, last norm."""


Progress = Callable[[int, int], None]
_Place = tuple[int | None, str]


def analyse(base: Candidate, models: Sequence[Candidate], progress: Progress | None = None) -> Analysis:
    """Measure the task vectors of models.

    Args:
        base: Model that changes are measured from.
        models: Models that were trained from it.
        progress: Called with the weights that were read and the weights in all.

    Raises:
        CannotMerge: The architectures differ.
        DataError: A model's weights are damaged.
    """
    found = regions(base, models)
    cells, counters = _read(found, len(models), progress)
    whole = add(cells.values(), len(models))
    return Analysis(
        base=base.name,
        carried=CARRIED,
        vectors=tuple(
            _vector(model.name, number, whole, cells, counters[number], found)
            for number, model in enumerate(models)
        ),
        pairs=tuple(
            _pair(models[i].name, models[j].name, whole, i, j) for i, j in combinations(range(len(models)), 2)
        ),
        layers=_by_layer(cells, len(models)),
        kinds=_by_kind(cells, len(models)),
        grid=_grid(cells, len(models)),
    )


def _read(
    found: Regions, models: int, progress: Progress | None
) -> tuple[dict[_Place, Sums], list[Concentration]]:
    """Read the weights twice: sums by layer and kind, and the concentration of each vector."""
    counters = [Concentration(CARRIED) for _ in range(models)]
    cells: dict[_Place, Sums] = {}
    done, total = 0, 2 * sum(region.weights for region in found.shared)

    def read(region: Region) -> None:
        nonlocal done
        done += region.weights
        if progress is not None:
            progress(done, total)

    for region in found.shared:
        place, having = (region.layer, region.kind), list(region.models)
        for base, vectors in region.vectors():
            so_far = cells.get(place, no_sums(models))
            cells[place] = add((so_far, sums(base, vectors, having, models)), models)
            for number, vector in zip(having, vectors, strict=True):
                counters[number].count(vector)
        read(region)
    for region in found.shared:
        for _, vectors in region.vectors():
            for number, vector in zip(region.models, vectors, strict=True):
                counters[number].refine(vector)
        read(region)
    return cells, counters


def _vector(
    name: str,
    number: int,
    whole: Sums,
    cells: Mapping[_Place, Sums],
    concentration: Concentration,
    found: Regions,
) -> Vector:
    squared, base = float(whole.squared[number, number]), float(whole.base[number, number])
    weights, carriers = int(whole.weights[number, number]), concentration.weights()
    new = [_squared(source) for source in found.new[number]]
    embeddings = sum(
        float(each.squared[number, number]) for (_, kind), each in cells.items() if kind == EMBEDDINGS
    )
    everything = squared + sum(new)
    return Vector(
        name=name,
        norm=squared**0.5,
        base_norm=base**0.5,
        relative=ratio(squared**0.5, base**0.5),
        weights=weights,
        changed=int(whole.changed[number, number]),
        carriers=carriers,
        carriers_share=ratio(carriers, weights),
        embeddings_share=ratio(embeddings + sum(new[:1]), everything),
        new_rows_share=ratio(sum(new), everything),
        rows=found.rows[number] if found.rows is not None else None,
    )


def _squared(source: Source) -> float:
    """Return the squared norm of a tensor."""
    return sum(float(rows.square().sum()) for (rows,) in reads((source,), source.shape[0], torch.float64))


def _pair(a: str, b: str, whole: Sums, i: int, j: int) -> Pair:
    weights = int(whole.weights[i, j])
    return Pair(
        a=a,
        b=b,
        cosine=cosine(whole, i, j),
        random=_random(weights),
        weights=weights,
        both_changed=int(whole.changed[i, j]),
        conflicts=ratio(whole.conflicts[i, j], whole.changed[i, j]),
        conflicting_a=ratio(whole.conflicting[i, j], whole.squared[i, j]),
        conflicting_b=ratio(whole.conflicting[j, i], whole.squared[j, i]),
    )


def _random(weights: int) -> float | None:
    return weights**-0.5 if weights else None


def _by_layer(cells: Mapping[_Place, Sums], models: int) -> Parts:
    layers = sorted({layer for layer, _ in cells if layer is not None})
    names = {layer: str(layer) for layer in layers} | {None: OUTSIDE}
    return _parts(
        {
            name: [each for (layer, _), each in cells.items() if layer == place]
            for place, name in names.items()
            if any(layer == place for layer, _ in cells)
        },
        models,
    )


def _by_kind(cells: Mapping[_Place, Sums], models: int) -> Parts:
    return _parts(
        {kind: [each for (_, of), each in cells.items() if of == kind] for kind in _kinds(cells)}, models
    )


def _kinds(cells: Iterable[_Place]) -> list[str]:
    """Return the kinds that exist in the model, in order."""
    present = {kind for _, kind in cells}
    return [kind for kind in KINDS if kind in present]


def _parts(parts: Mapping[str, Sequence[Sums]], models: int) -> Parts:
    by_part = [add(part, models) for part in parts.values()]
    whole = add(by_part, models)
    numbers, pairs = range(models), list(combinations(range(models), 2))
    return Parts(
        names=tuple(parts),
        weights=tuple(int(each.weights.max()) for each in by_part),
        norm=tuple(tuple(float(each.squared[i, i]) ** 0.5 for each in by_part) for i in numbers),
        relative=tuple(tuple(_relative(each, i) for each in by_part) for i in numbers),
        share=tuple(
            tuple(ratio(each.squared[i, i], whole.squared[i, i]) for each in by_part) for i in numbers
        ),
        cosine=tuple(tuple(cosine(each, i, j) for each in by_part) for i, j in pairs),
        random=tuple(tuple(_random(int(each.weights[i, j])) for each in by_part) for i, j in pairs),
        conflicts=tuple(
            tuple(ratio(each.conflicts[i, j], each.changed[i, j]) for each in by_part) for i, j in pairs
        ),
    )


def _relative(found: Sums, number: int) -> float | None:
    return ratio(float(found.squared[number, number]) ** 0.5, float(found.base[number, number]) ** 0.5)


def _grid(cells: Mapping[_Place, Sums], models: int) -> Grid:
    inside = {(layer, kind): each for (layer, kind), each in cells.items() if layer is not None}
    layers, kinds = sorted({layer for layer, _ in inside}), _kinds(inside)

    def relative(number: int, kind: str) -> Figures:
        return tuple(
            _relative(inside[layer, kind], number) if (layer, kind) in inside else None for layer in layers
        )

    return Grid(
        layers=tuple(layers),
        kinds=tuple(kinds),
        relative=tuple(tuple(relative(number, kind) for kind in kinds) for number in range(models)),
    )
