"""Packed batches: many documents, or trees of sequences with shared prefixes, end to end in one row.

The choices of a question share the question, the questions of a few-shot prompt share the examples. A causal
model's hidden state depends only on the tokens before it, so every distinct prefix needs one pass, for any
number of sequences that continue it.

Shapes: T tokens of a row, D documents, L tokens of a tree, S scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from cpt.models.attention import DocumentLayout
from cpt.models.attention.layout import Tree, TreeLayout

IGNORED = -100
"""Label of a position on which no loss is taken."""


@dataclass(frozen=True)
class PackedBatch:
    """Documents laid end to end.

    Attributes:
        input_ids: [1, T] token ids.
        position_ids: [1, T], restarting at 0 with every document.
        labels: [T] the token that follows in the same document, `IGNORED` at each document's last token and
            where that token's weight in the loss is 0.
        target_positions: [N] positions that have a label, found when the batch is made: on a GPU the host
            would have to wait for them.
        layout: where each document lies, for the attention.
        weights: [N] float32 weights of the targets in the loss; None if all are 1.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    target_positions: torch.Tensor
    layout: DocumentLayout
    weights: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Return the number of tokens T."""
        return self.input_ids.shape[1]

    @property
    def targets(self) -> int:
        """Return the number N of positions with a loss: T minus one per document, where all weights are 1."""
        return len(self.target_positions)

    def to(self, device: torch.device | str) -> PackedBatch:
        """Return the same batch on another device; from pinned memory the copy does not hold up the host."""
        overlaps = torch.device(device).type == "cuda"
        return self._each(lambda tensor: tensor.to(device, non_blocking=overlaps))

    def pin_memory(self) -> PackedBatch:
        """Return the same batch in page-locked memory."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PackedBatch:
        return PackedBatch(
            change(self.input_ids),
            change(self.position_ids),
            change(self.labels),
            change(self.target_positions),
            replace(self.layout, boundaries=change(self.layout.boundaries)),
            None if self.weights is None else change(self.weights),
        )


def pack(documents: Sequence[np.ndarray], weights: np.ndarray | None = None, filling: int = 0) -> PackedBatch:
    """Lay documents end to end.

    Args:
        documents: arrays of token ids (tokens,), none empty.
        weights: [T] weights of all tokens in the loss; all 1 if left out.
        filling: number of tokens at the end, in documents of their own, that have no labels.
    """
    lengths = [len(document) for document in documents]
    ids = torch.from_numpy(np.concatenate(documents).astype(np.int64))  # [T]
    labels = torch.roll(ids, -1)
    ends = torch.tensor(lengths).cumsum(0) - 1
    labels[ends] = IGNORED
    labels[len(labels) - filling :] = IGNORED
    weights_T = None
    if weights is not None:
        weights_T = torch.roll(torch.from_numpy(weights.astype(np.float32)), -1)
        labels[weights_T == 0] = IGNORED
    positions = torch.cat([torch.arange(length) for length in lengths])
    target_positions = (labels != IGNORED).nonzero().squeeze(1)
    return PackedBatch(
        ids[None],
        positions[None],
        labels,
        target_positions,
        DocumentLayout.of(lengths),
        None if weights_T is None else weights_T[target_positions],
    )


_WORTH = 1000
"""Pairs of tokens for whose attention one token could go through the rest of the model. By counts of
operations (Kaplan et al. 2020, arXiv 2001.08361, table 1) about six times a model's width, but attention with
a mask does fewer of them in a second."""


@dataclass
class PrefixTree:
    """A tree of tokens in which each sequence is a path from the root.

    Attributes:
        tokens, depth: [L] token ids, and their positions in the sequences that they belong to.
        paths: by the sequence's number, its nodes from the root to its end.
    """

    tokens: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    paths: dict[int, np.ndarray] = field(default_factory=dict)
    _segments: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def add(self, number: int, sequence: Sequence[int], shared: int, path: np.ndarray) -> np.ndarray:
        """Add a sequence whose first `shared` tokens lie on `path` already; gives its own path."""
        start = len(self.tokens)
        self.tokens.extend(sequence[shared:])
        self.depth.extend(range(shared, len(sequence)))
        if len(sequence) > shared:
            self._segments.append((start, path[:shared]))
        self.paths[number] = np.concatenate([path[:shared], np.arange(start, len(self.tokens))])
        return self.paths[number]

    def laid_out(self) -> Tree:
        """Return the visibility of the tree's tokens."""
        length = len(self.tokens)
        forks = (start for start, before in self._segments if len(before) != start)
        trunk = next(forks, length)
        visible_BL = torch.zeros(length - trunk, length, dtype=torch.bool)
        ends = [start for start, _ in self._segments[1:]] + [length]
        for (start, before), end in zip(self._segments, ends, strict=True):
            if start >= trunk:
                rows = slice(start - trunk, end - trunk)
                visible_BL[rows, torch.from_numpy(before)] = True
                visible_BL[rows, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        return Tree(length, trunk, visible_BL, torch.tensor(self.depth))


def grow(sequences: Sequence[Sequence[int]], most: int) -> list[PrefixTree]:
    """Return prefix trees that hold all sequences (none empty), the largest first.

    A sequence is added to a tree if what it shares outweighs that its own tokens are attended to all others.

    Args:
        most: tokens of a tree; a single sequence may be longer.
    """
    trees: list[PrefixTree] = []
    previous: Sequence[int] = ()
    path = np.zeros(0, dtype=np.int64)
    for number in sorted(range(len(sequences)), key=lambda index: tuple(sequences[index])):
        sequence = sequences[number]
        shared = _shared(previous, sequence)
        size, new = len(trees[-1].tokens) if trees else 0, len(sequence) - shared
        joins = shared and size + new <= most and shared * _WORTH >= new * (size - shared)
        if not joins:
            trees.append(PrefixTree())
            shared, path = 0, path[:0]
        path = trees[-1].add(number, sequence, shared, path)
        previous = sequence
    return sorted(trees, key=lambda tree: -len(tree.tokens))


def batches(trees: Iterable[PrefixTree], tokens: int) -> Iterator[list[PrefixTree]]:
    """Yield trees in the given order, in batches of at most `tokens` tokens."""
    batch: list[PrefixTree] = []
    total = 0
    for tree in trees:
        if batch and total + len(tree.tokens) > tokens:
            yield batch
            batch, total = [], 0
        batch.append(tree)
        total += len(tree.tokens)
    if batch:
        yield batch


@dataclass(frozen=True)
class TreeBatch:
    """A row of trees, with the tokens to score.

    Attributes:
        input_ids, position_ids: [1, T].
        layout: the trees, for the attention.
        nodes, labels: [S] places of the row, in ascending order, and a token each: how likely is it next?
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    layout: TreeLayout
    nodes: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def of(cls, trees: Sequence[PrefixTree], nodes: np.ndarray, labels: np.ndarray) -> TreeBatch:
        """Lay trees end to end."""
        return cls(
            torch.tensor([[token for tree in trees for token in tree.tokens]]),
            torch.tensor([[place for tree in trees for place in tree.depth]]),
            TreeLayout(tuple(tree.laid_out() for tree in trees)),
            torch.from_numpy(nodes),
            torch.from_numpy(labels),
        )

    def to(self, device: torch.device | str) -> TreeBatch:
        """Return the same batch on another device."""
        return TreeBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.layout.to(device),
            self.nodes.to(device),
            self.labels.to(device),
        )


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(np.asarray(one[:length]) != np.asarray(other[:length]))
    return int(differ[0]) if len(differ) else length
