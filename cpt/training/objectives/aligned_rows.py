"""Rows of a micro batch in the vocabularies of a student and of a teacher, with the chunks that both share.

Shapes: T tokens of a packed row, P positions of it at which a token is predicted, K tokens of chunks, C
chunks, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch

from cpt.models.batch import PackedBatch, pack
from cpt.training.data import PackedSequence, pieces, target_weight, token_weights


class Alignment(Protocol):
    """A document in two vocabularies, cut into chunks that follow each other from its start."""

    @property
    def ids(self) -> np.ndarray:
        """The teacher's token ids, int64 (tokens,)."""

    @property
    def student_ends(self) -> np.ndarray:
        """Number of the student's tokens up to the end of each chunk, int64 (chunks,)."""

    @property
    def teacher_ends(self) -> np.ndarray:
        """Number of the teacher's tokens up to the end of each chunk, int64 (chunks,)."""

    @property
    def usable(self) -> np.ndarray:
        """True where both sides are the same text, or the same special token, bool (chunks,)."""

    @property
    def special(self) -> np.ndarray:
        """True for a special token, bool (chunks,)."""


class Aligner(Protocol):
    """Alignments of documents in a student's vocabulary with a teacher's."""

    student_boundaries: np.ndarray
    """Ids of the student's tokens that can only follow the end of a word, int64 (tokens,)."""

    teacher_boundaries: np.ndarray
    """Ids of the teacher's tokens of this kind."""

    def align(self, documents: Sequence[np.ndarray]) -> Sequence[Alignment]:
        """Align documents of the student's token ids, int (tokens,) each."""


@dataclass(frozen=True)
class Side:
    """The chunks in one packed row: where their tokens are predicted.

    Attributes:
        positions: [P] positions in the row at which something is predicted, ascending.
        labels: [P] the token after each.
        tokens: [K] index into `positions` of the prediction of each token of the chunks.
        chunks: [K] the chunk of each of these tokens.
        ends: [C] index into `positions` of the last token of each chunk.
    """

    positions: torch.Tensor
    labels: torch.Tensor
    tokens: torch.Tensor
    chunks: torch.Tensor
    ends: torch.Tensor


@dataclass(frozen=True)
class AlignedRows:
    """The chunks of a micro batch that can be compared.

    A chunk is left out if the two sides do not spell the same text, if one of its tokens is not predicted
    because it starts a document, or if the loss has no weight on it.

    Attributes:
        student: The chunks in the packed row of the student.
        teacher: The chunks in `teacher_batch`.
        teacher_batch: The same documents in the teacher's tokens, or any token if there are none.
        follows: [C] True if a chunk begins where the one before it ends.
        special: [C] True for special tokens.
        rows: [C] the row of each chunk.
        sizes: [C] number of the student's tokens in each, float32.
        weights: [C] sum of these tokens' weights in the loss, float32.
        label_weights: [P] weight of each label of the student in the loss, float32; 0 for the first tokens of
            documents.
        targets: [R] sum of the weights of each row's targets, float32.
    """

    student: Side
    teacher: Side
    teacher_batch: PackedBatch
    follows: torch.Tensor
    special: torch.Tensor
    rows: torch.Tensor
    sizes: torch.Tensor
    weights: torch.Tensor
    label_weights: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[PackedSequence], aligner: Aligner, *, every_target: bool) -> AlignedRows:
        """Align the documents of rows.

        Args:
            rows: Rows of a micro batch, at least one.
            aligner: Alignment of the two vocabularies.
            every_target: True if the student's positions have to include those of all targets.
        """
        documents = [piece for row in rows for piece in pieces(row)]
        found = aligner.align(documents)
        its_documents = [each.ids for each in found]
        starts, ends, predicted = _in_row(documents, [each.student_ends for each in found])
        its_starts, its_ends, its_predicted = _in_row(its_documents, [each.teacher_ends for each in found])
        lengths = np.array([len(document) for document in documents])
        weights = np.concatenate([token_weights(row) for row in rows]).astype(np.float64)
        weights[np.cumsum(lengths) - lengths] = 0  # the first token of a document is not predicted
        before, count = (np.concatenate([[0], np.cumsum(each)]) for each in (weights, weights != 0))
        taken = np.concatenate([each.usable for each in found]) & predicted & its_predicted
        taken &= count[ends] > count[starts]
        starts, ends, its_starts, its_ends = (each[taken] for each in (starts, ends, its_starts, its_ends))
        follows = np.zeros(len(starts), dtype=bool)
        follows[1:] = (starts[1:] == ends[:-1]) & (its_starts[1:] == its_ends[:-1])
        also = np.flatnonzero(weights) - 1 if every_target else starts[:0]
        student = _side(np.concatenate(documents), starts, ends, also)
        row_of_document = np.repeat(np.arange(len(rows)), [len(row.piece_lengths) for row in rows])
        chunks_of_document = [len(each.usable) for each in found]
        its_packed = [document for document in its_documents if len(document)] or [
            np.zeros(1, dtype=np.int64)
        ]
        return cls(
            student=student,
            teacher=_side(np.concatenate(its_documents), its_starts, its_ends, also[:0]),
            teacher_batch=pack(its_packed),
            follows=torch.from_numpy(follows),
            special=torch.from_numpy(np.concatenate([each.special for each in found])[taken]),
            rows=torch.from_numpy(np.repeat(row_of_document, chunks_of_document)[taken]),
            sizes=torch.from_numpy(ends - starts).float(),
            weights=torch.from_numpy(before[ends] - before[starts]).float(),
            label_weights=torch.from_numpy(_after(student.positions.numpy(), weights)).float(),
            targets=torch.tensor([target_weight([row]) for row in rows], dtype=torch.float32),
        )

    def to(self, device: torch.device) -> AlignedRows:
        """Return the same rows on another device."""
        return AlignedRows(**{each.name: _moved(getattr(self, each.name), device) for each in fields(self)})


def _moved(value: Side | PackedBatch | torch.Tensor, device: torch.device) -> Any:
    if isinstance(value, Side):
        return Side(*(getattr(value, each.name).to(device) for each in fields(value)))
    return value.to(device)


def _in_row(
    documents: Sequence[np.ndarray], ends: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the chunks of documents lie in a packed row.

    Args:
        documents: Token ids.
        ends: Number of tokens of each document up to the end of each of its chunks.

    Returns:
        Starts and ends of all chunks, and True where all their tokens are predicted: (chunks,) each.
    """
    begins = np.cumsum([0, *map(len, documents)])[:-1]
    starts = [np.concatenate([[0], each[:-1]]) if len(each) else each for each in ends]
    shift = np.repeat(begins, [len(each) for each in ends])
    within = np.concatenate(starts).astype(np.int64)
    return within + shift, np.concatenate(ends) + shift, within > 0


def _side(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, also: np.ndarray) -> Side:
    """Return the predictions of chunks.

    Args:
        ids: Token ids of the packed row.
        starts, ends: Tokens of each chunk in the row.
        also: Further positions.
    """
    sizes = ends - starts
    tokens = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    positions = np.unique(np.concatenate([tokens - 1, ends - 1, also]))
    arrays = (
        positions,
        _after(positions, ids).astype(np.int64),
        np.searchsorted(positions, tokens - 1),
        np.repeat(np.arange(len(sizes)), sizes),
        np.searchsorted(positions, ends - 1),
    )
    return Side(*map(torch.from_numpy, arrays))


def _after(positions: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return what comes after each position of a row, 0 after the last."""
    return np.append(row, 0)[positions + 1]
