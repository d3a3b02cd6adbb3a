"""Select the weights whose magnitudes have given ranks, without sorting: magnitudes are counted in chunks.

mergekit sorts a whole tensor to keep the largest of its changes. Here magnitudes are counted by the bits of
their float32 values (the order of positive floats is that of their bits), in two passes of 2¹⁶ and 2¹⁵ bins,
which takes a fixed amount of memory and a fraction of the time.

Where magnitudes tie at the cut, mergekit's choice among them depends on PyTorch's sort, which is not stable.
Tensors of up to `SORTED` weights are then sorted in mergekit's way, so that the result is mergekit's to the
bit. Sorting takes 28 bytes per weight; in larger tensors the choice among equals is spread evenly over the
tensor, and the number of kept weights is mergekit's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

SORTED = 2**23
_LOW_BITS = 15

Chunks = Callable[[], Iterable[torch.Tensor]]
"""Returns the chunks of a tensor of changes, in order; may be called several times."""
Selector = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Ranks:
    """Ranks of the magnitudes to keep; 0 is the smallest, or the largest if `descending`.

    Attributes:
        first: First rank to keep.
        stop: One after the last rank to keep.
        descending: Direction of mergekit's sort, which matters among equal magnitudes.
    """

    first: int
    stop: int
    descending: bool


def magnitude_ranks(size: int, density: float) -> Ranks:
    """Return the ranks of TIES (arXiv 2306.01708, section 3): the largest changes, at least one if any."""
    kept = max(1, int(density * size)) if density > 0 and size else 0
    return Ranks(0, kept, descending=True)


def outlier_ranks(size: int, density: float, gamma: float) -> Ranks:
    """Return the ranks of Breadcrumbs (arXiv 2312.06795, section 3): neither the largest nor the smallest.

    Args:
        size: Number of weights.
        density: Share of the changes to keep.
        gamma: Share of the largest changes to drop, if enough are left then.
    """
    kept = int(density * size)
    bottom = max(0, size - kept - int(gamma * size))
    return Ranks(bottom, bottom + kept, descending=False)


def selector(chunks: Chunks, size: int, ranks: Ranks) -> Selector:
    """Return a function that selects the weights of each chunk that are kept.

    Args:
        chunks: Chunks of the tensor.
        size: Number of weights in all chunks.
        ranks: Ranks to keep.

    Returns:
        A function to call once with each chunk, in order; it returns a mask of the chunk's shape (bool).
    """
    if ranks.stop <= ranks.first:
        return lambda chunk: torch.zeros_like(chunk, dtype=torch.bool)
    first, last = ranks.first, ranks.stop - 1
    if ranks.descending:
        first, last = size - ranks.stop, size - 1 - ranks.first
    coarse = _counts(chunks, lambda keys: keys >> _LOW_BITS, 2 ** (31 - _LOW_BITS))
    low = _Cut.find(chunks, coarse, first) if first > 0 else _Cut(-1, 0, 0)
    high = _Cut.find(chunks, coarse, last) if last < size - 1 else _Cut(2**31 - 1, 0, -1)
    cuts = {low.value: low.equal - low.before, high.value: high.before + 1}
    if low.value == high.value:
        cuts = {low.value: ranks.stop - ranks.first}
    totals = {low.value: low.equal, high.value: high.equal}
    if any(kept < totals[value] for value, kept in cuts.items()) and size <= SORTED:
        return _sorted(chunks, size, ranks)
    spreads = {value: _Spread(kept, totals[value]) for value, kept in cuts.items() if totals[value]}

    def mask(chunk: torch.Tensor) -> torch.Tensor:
        keys = _keys(chunk)
        kept = (keys > low.value) & (keys < high.value)
        for value, spread in spreads.items():
            spread.mark(kept, keys == value)
        return kept.view(chunk.shape)

    return mask


@dataclass(frozen=True)
class _Cut:
    """The magnitude of a given ascending rank.

    Attributes:
        value: Bits of the magnitude as float32.
        equal: Number of weights with this magnitude.
        before: Number of these with a smaller rank.
    """

    value: int
    equal: int
    before: int

    @classmethod
    def find(cls, chunks: Chunks, coarse: torch.Tensor, rank: int) -> _Cut:
        """Find the magnitude of a rank from the counts of the keys without their low bits."""
        high, rank = _bin(coarse, rank)
        fine = _counts(
            chunks,
            lambda keys: keys[(keys >> _LOW_BITS) == high] & (2**_LOW_BITS - 1),
            2**_LOW_BITS,
        )
        low, before = _bin(fine, rank)
        return cls((high << _LOW_BITS) | low, int(fine[low]), before)


def _counts(chunks: Chunks, part: Callable[[torch.Tensor], torch.Tensor], bins: int) -> torch.Tensor:
    counts = torch.zeros(bins, dtype=torch.int64)
    for chunk in chunks():
        counts += torch.bincount(part(_keys(chunk)), minlength=bins)
    return counts


def _bin(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    """Return the bin that holds a rank, and the rank within it."""
    ends = counts.cumsum(0)
    place = int(torch.searchsorted(ends, rank, right=True))
    return place, rank - (int(ends[place]) - int(counts[place]))


def _keys(chunk: torch.Tensor) -> torch.Tensor:
    """Return magnitudes as int32 of the same order."""
    return chunk.abs().float().reshape(-1).view(torch.int32)


class _Spread:
    """An even choice of `kept` among `total` weights, made as they pass."""

    def __init__(self, kept: int, total: int) -> None:
        self._kept, self._total, self._seen = kept, total, 0

    def mark(self, mask: torch.Tensor, equal: torch.Tensor) -> None:
        """Set the mask where an equal weight is chosen."""
        if self._kept == self._total:
            mask |= equal
            return
        number = self._seen + equal.cumsum(0)
        chosen = equal & (number * self._kept // self._total > (number - 1) * self._kept // self._total)
        mask |= chosen
        self._seen = int(number[-1]) if len(number) else self._seen


def _sorted(chunks: Chunks, size: int, ranks: Ranks) -> Selector:
    """Choose in mergekit's way, by PyTorch's sort, here in place."""
    magnitudes = torch.empty(size, dtype=torch.float32)
    done = 0
    for chunk in chunks():
        magnitudes[done : done + chunk.numel()] = chunk.abs().reshape(-1)
        done += chunk.numel()
    order = torch.empty(size, dtype=torch.int64)
    torch.sort(magnitudes, descending=ranks.descending, out=(magnitudes, order))
    del magnitudes
    kept = torch.zeros(size, dtype=torch.bool)
    kept[order[ranks.first : ranks.stop]] = True
    left = kept

    def mask(chunk: torch.Tensor) -> torch.Tensor:
        nonlocal left
        here, left = left[: chunk.numel()], left[chunk.numel() :]
        return here.view(chunk.shape)

    return mask
