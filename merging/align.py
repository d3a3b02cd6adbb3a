"""Bring models with different vocabularies together: which row of which model goes into which row.

Rows are matched by the token's spelling, never by id; a special token that is spelt otherwise is found by
its role. Rows that every model has are merged by the method as one tensor. The others are merged apart,
from the models that have them, so that a missing row counts as nothing, not as zero:

- the base and some models have it: by the method, with the models that have it
- the base lacks it: the average of the models that have it, by their weights
- only one has it, or the base and fewer models than the method takes: that model's or the base's row
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from merging.candidates import Vocabulary

ABSENT = -1
"""In a row map: the model has no row for this token."""


class Case(StrEnum):
    """What happens to a row of the result."""

    MERGED = "merged"
    PARTLY = "merged from the models that have it"
    AVERAGED = "averaged over the models that have it"
    COPIED = "taken from the one model that has it"
    KEPT = "kept as the base has it, for too few models have it"
    PADDING = "padding"


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of the result that the same models have.

    Attributes:
        case: what happens to them.
        rows: [R] int64, where they are in the result, ascending.
        sources: for each model that has them, its number among the models and its rows [R] int64.
    """

    case: Case
    rows: np.ndarray
    sources: tuple[tuple[int, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class Alignment:
    """How every row of the result comes about.

    Attributes:
        target: the result's vocabulary.
        names: the models' names, by their numbers.
        groups: every row is in one of them.
        by_role: (model, its token, the result's token): special tokens that were found by their role.
        dropped: by model the tokens that the result lacks.
        lacking: by model how many of the result's rows it lacks.
    """

    target: Vocabulary
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    by_role: tuple[tuple[str, str, str], ...]
    dropped: Mapping[str, tuple[str, ...]]
    lacking: Mapping[str, int]

    def counts(self) -> dict[str, int]:
        """Rows by case."""
        counts: Counter[str] = Counter()
        for group in self.groups:
            counts[group.case] += len(group.rows)
        return dict(counts)

    def listing(self) -> dict[str, Any]:
        """All that is to be known of the rows, as plain data; rows merged as usual are only counted."""
        tokens = {row: token for token, row in self.target.ids.items()}
        return {
            "rows": self.target.rows,
            "counts": self.counts(),
            "groups": [
                {
                    "case": str(group.case),
                    "models": [self.names[number] for number, _ in group.sources],
                    "rows": {str(row): tokens.get(int(row)) for row in group.rows.tolist()},
                }
                for group in self.groups
                if group.case != Case.MERGED
            ],
            "special tokens by role": [
                {"model": model, "token": token, "as": as_} for model, token, as_ in self.by_role
            ],
            "dropped": {model: list(tokens) for model, tokens in self.dropped.items()},
        }


def row_map(source: Vocabulary, target: Vocabulary) -> np.ndarray:
    """For each row of the target the source's row of the same token: [target rows] int64, or `ABSENT`.

    Target rows without a token (padding) are absent in every other vocabulary.
    """
    if source.same_rows(target):
        return np.arange(target.rows)
    rows = np.full(target.rows, ABSENT, dtype=np.int64)
    for token, token_id in target.ids.items():
        rows[token_id] = source.ids.get(token, ABSENT)
    for theirs, ours in _by_role(source, target):
        rows[target.ids[ours]] = source.ids[theirs]
    return rows


def _by_role(source: Vocabulary, target: Vocabulary) -> Iterator[tuple[str, str]]:
    """(source's token, target's token) of one role, where neither knows the other's; each target's once."""
    taken = set()
    for role, token in target.roles.items():
        other = source.roles.get(role)
        if other is None or other not in source.ids or other in target.ids:
            continue
        if token in target.ids and token not in source.ids and token not in taken:
            taken.add(token)
            yield other, token


def align(
    names: Sequence[str],
    vocabularies: Sequence[Vocabulary],
    inputs: Sequence[int],
    base: int | None,
    target: Vocabulary,
    anchor: int,
    least: int,
) -> Alignment:
    """Find out for every row of the target which models have it.

    Args:
        names: of the models.
        vocabularies: of the models; some model has each of the target's tokens.
        inputs: numbers of the models that are merged. Another model is asked for a row only if none of
            them has it.
        base: number of the base, one of the inputs, or None.
        target: the result's vocabulary.
        anchor: number of the model whose vocabulary it is or begins with; has the rows without a token.
        least: how many models the method takes at least, the base not counted.
    """
    maps = np.stack([row_map(vocabulary, target) for vocabulary in vocabularies])  # [M, V]
    tokens = np.zeros(target.rows, dtype=bool)
    tokens[list(target.ids.values())] = True
    maps[anchor, ~tokens] = np.flatnonzero(~tokens)
    used = maps[list(inputs)] != ABSENT  # [I, V]
    patterns, which = np.unique(used, axis=1, return_inverse=True)  # [I, P], [V]
    groups = []
    for number in range(patterns.shape[1]):
        having = [inputs[place] for place in np.flatnonzero(patterns[:, number]).tolist()]
        rows = np.flatnonzero(which.reshape(-1) == number)
        if len(having) == len(inputs):
            groups.append(_group(Case.MERGED, rows, having, maps))
            continue
        for part, is_padding in ((rows[tokens[rows]], False), (rows[~tokens[rows]], True)):
            groups += _apart(part, [anchor] if is_padding else having, base, maps, least, is_padding)
    groups.sort(key=lambda group: int(group.rows[0]))
    return Alignment(
        target=target,
        names=tuple(names),
        groups=tuple(groups),
        by_role=tuple(
            (name, *pair)
            for name, vocabulary in zip(names, vocabularies, strict=True)
            for pair in (() if vocabulary.same_rows(target) else _by_role(vocabulary, target))
        ),
        dropped=_dropped(names, vocabularies, target),
        lacking=dict(zip(names, (maps == ABSENT).sum(axis=1).tolist(), strict=True)),
    )


def _apart(
    rows: np.ndarray,
    having: Sequence[int],
    base: int | None,
    maps: np.ndarray,
    least: int,
    is_padding: bool,
) -> list[Group]:
    """Groups of rows that not all inputs have."""
    if not len(rows):
        return []
    if not having:  # another model has them; not necessarily the same for all
        owners = (maps[:, rows] != ABSENT).argmax(axis=0)
        case = Case.PADDING if is_padding else Case.COPIED
        return [_group(case, rows[owners == owner], [int(owner)], maps) for owner in np.unique(owners)]
    if is_padding:
        return [_group(Case.PADDING, rows, having[:1], maps)]
    if len(having) == 1:
        return [_group(Case.COPIED, rows, having, maps)]
    if base is not None and base not in having:
        return [_group(Case.AVERAGED, rows, having, maps)]
    if len(having) - (base is not None) >= least:
        return [_group(Case.PARTLY, rows, having, maps)]
    if base is None:
        return [_group(Case.AVERAGED, rows, having, maps)]
    return [_group(Case.KEPT, rows, [base], maps)]


def _group(case: Case, rows: np.ndarray, having: Sequence[int], maps: np.ndarray) -> Group:
    return Group(case, rows, tuple((number, maps[number, rows]) for number in having))


def _dropped(
    names: Sequence[str], vocabularies: Sequence[Vocabulary], target: Vocabulary
) -> dict[str, tuple[str, ...]]:
    """By model the tokens that have no row in the target, neither by spelling nor by role."""
    dropped = {}
    for name, vocabulary in zip(names, vocabularies, strict=True):
        kept = {theirs for theirs, _ in _by_role(vocabulary, target)}
        lost = tuple(token for token in vocabulary.ids if token not in target.ids and token not in kept)
        if lost:
            dropped[name] = lost
    return dropped
