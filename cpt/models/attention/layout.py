"""Locate documents in a packed row, and arrange documents of similar length side by side.

A block-diagonal mask over the whole row costs T² for what is really Σ length². Gathered into small padded
groups, documents are attended causally without a mask: padding comes after every real token, so no real
query sees it.

Shapes: T tokens in the row, K key-value heads; a group holds D documents of at most L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

_LENGTH_STEP = 16
_LENGTH_RATIO = 1.25


@dataclass(frozen=True, eq=False)
class DocumentLayout:
    """Positions of documents in a packed row.

    Attributes:
        lengths: tokens of each document, in row order; known on the host, so nothing waits for a device.
        boundaries: [documents + 1] int32, the first position of every document and the row's length.
        longest: tokens of the longest document. It is computed once: a compiled layer that looked at all
            lengths would be compiled again for every row.
    """

    lengths: tuple[int, ...]
    boundaries: torch.Tensor
    longest: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest", max(self.lengths, default=0))

    @classmethod
    def of(cls, lengths: Sequence[int]) -> DocumentLayout:
        """Return the layout of documents of these lengths, laid end to end."""
        return cls(tuple(lengths), torch.tensor([0, *lengths]).cumsum(0).to(torch.int32))


@dataclass(frozen=True)
class Tree:
    """Sequences of which what they have in common lies in the row once (`cpt.models.batch`).

    Attributes:
        length, trunk: L tokens, of which the first so many lie before any fork: each sees all before it.
        visible: [L - trunk, L] whether a token after the trunk sees a token: those on its own path.
        depth: [L] position of each token in its sequence.
    """

    length: int
    trunk: int
    visible: torch.Tensor
    depth: torch.Tensor


@dataclass(frozen=True)
class TreeLayout:
    """Trees that lie end to end in a row."""

    trees: tuple[Tree, ...]

    def to(self, device: torch.device | str) -> TreeLayout:
        """Return the same layout on another device."""
        return TreeLayout(
            tuple(replace(t, visible=t.visible.to(device), depth=t.depth.to(device)) for t in self.trees)
        )


@dataclass(frozen=True)
class Group:
    """Documents of similar length, padded to the longest.

    Attributes:
        documents, length: D and L.
        rows: [D * K * L] which row of a [T * K, …] tensor stands at each place; padding repeats the
            document's last token.
        padding: places among them that are padding.
    """

    documents: int
    length: int
    rows: torch.Tensor
    padding: torch.Tensor


@dataclass(frozen=True)
class Arrangement:
    """A row's documents in groups.

    Attributes:
        groups: the groups, longest documents first.
        restore: [T * K] for every row of a [T * K, …] tensor its place in the groups' concatenation.
    """

    groups: tuple[Group, ...]
    restore: torch.Tensor


@lru_cache(maxsize=4)
def arrange(layout: DocumentLayout, heads: int) -> Arrangement:
    """Group documents so that padding adds at most a quarter, or a few tokens, to each.

    Args:
        heads: K, rows per token: places go by document, then head, then token.
    """
    sizes = torch.tensor(layout.lengths)
    starts = sizes.cumsum(0) - sizes
    restore = torch.empty(int(sizes.sum()) * heads, dtype=torch.long)
    groups: list[Group] = []
    offset = 0
    for members in _by_length(layout.lengths):
        length = int(sizes[members].max())
        steps = torch.arange(length)
        real_DL = steps < sizes[members, None]
        tokens_DL = starts[members, None] + torch.minimum(steps, sizes[members, None] - 1)
        rows = (tokens_DL[:, None] * heads + torch.arange(heads)[:, None]).flatten()
        real = real_DL[:, None].expand(-1, heads, -1).flatten()
        restore[rows[real]] = offset + real.nonzero().squeeze(1)
        groups.append(Group(len(members), length, rows, (~real).nonzero().squeeze(1)))
        offset += len(rows)
    device = layout.boundaries.device
    return Arrangement(
        tuple(Group(g.documents, g.length, g.rows.to(device), g.padding.to(device)) for g in groups),
        restore.to(device),
    )


def _by_length(lengths: Sequence[int]) -> list[torch.Tensor]:
    """Return the indices of documents in groups of similar length, longest first."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and longest <= max(lengths[index] * _LENGTH_RATIO, lengths[index] + _LENGTH_STEP):
            groups[-1].append(index)
        else:
            groups.append([index])
    return [torch.tensor(group) for group in groups]
