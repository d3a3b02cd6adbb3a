"""Align the vocabularies of models: map every row of the result to rows of the models.

Rows are matched by the token's spelling, never by id; a special token of another spelling is matched by its
role. Rows that every model has are merged by the method as one tensor. Other rows are merged apart, from the
models that have them, so that a missing row counts as nothing, not as zero:

- the base and some models have the row: merged by the method, with the models that have it
- the base lacks the row: average of the models that have it, by their weights
- one model has the row, or the base and fewer models than the method takes: that model's or the base's row
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
"""Entry of a row map where the model has no row for a token."""


class Case(StrEnum):
    """The treatment of a row of the result."""

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
        case: Treatment of the rows.
        rows: Rows in the result, ascending: [R] int64.
        sources: Number of each model that has the rows, and its rows: [R] int64.
    """

    case: Case
    rows: np.ndarray
    sources: tuple[tuple[int, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class Alignment:
    """The origin of every row of the result.

    Attributes:
        target: Vocabulary of the result.
        names: Names of the models, by their numbers.
        groups: Groups of rows; every row is in one of them.
        by_role: Special tokens matched by role: (model, its token, the result's token).
        dropped: Tokens that the result lacks, by model.
        lacking: Number of the result's rows that a model lacks, by model.
    """

    target: Vocabulary
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    by_role: tuple[tuple[str, str, str], ...]
    dropped: Mapping[str, tuple[str, ...]]
    lacking: Mapping[str, int]

    def counts(self) -> dict[str, int]:
        """Return the number of rows by case."""
        counts: Counter[str] = Counter()
        for group in self.groups:
            counts[group.case] += len(group.rows)
        return dict(counts)

    def listing(self) -> dict[str, Any]:
        """Return the origin of all rows as plain data; rows merged as usual are only counted."""
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
    """Return the source's row of the same token for each target row: [target rows] int64, or `ABSENT`.

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
    """Match special tokens of one role where neither side knows the other's: (source's, target's)."""
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
    """Find the models that have each row of the target.

    Args:
        names: Names of the models.
        vocabularies: Vocabularies of the models; some model has each of the target's tokens.
        inputs: Numbers of the models that are merged. Another model gives a row only if none of these
            has it.
        base: Number of the base, one of the inputs; or None.
        target: Vocabulary of the result.
        anchor: Number of the model whose vocabulary the target is or begins with, and which has the rows
            without a token.
        least: Smallest number of models that the method takes, the base not counted.
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
    """Return groups of rows that not all inputs have."""
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
    """Return the tokens without a row in the target, by spelling or role, by model."""
    dropped = {}
    for name, vocabulary in zip(names, vocabularies, strict=True):
        kept = {theirs for theirs, _ in _by_role(vocabulary, target)}
        lost = tuple(token for token in vocabulary.ids if token not in target.ids and token not in kept)
        if lost:
            dropped[name] = lost
    return dropped
