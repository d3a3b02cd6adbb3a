"""Splitting and best-fit packing against the published example, brute force and reassembly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cpt.corpus.packing import best_fit, split_document


def tokens(count: int) -> np.ndarray:
    return np.arange(100, 100 + count, dtype=np.uint32)


def test_the_example_of_ding_et_al_truncates_one_document_only() -> None:
    pieces = [split_document(tokens(size), 8) for size in (14, 7, 5, 2, 3)]
    assert sum(len(parts) > 1 for parts in pieces) == 1
    lengths = np.array([len(piece) for parts in pieces for piece in parts])
    assert Counter(lengths.tolist()) == Counter([8, 6, 7, 5, 2, 3])
    sequences = best_fit(lengths, 8)
    filled = sorted(sorted(int(lengths[piece]) for piece in sequence) for sequence in sequences)
    assert filled == [[2, 6], [3, 5], [7], [8]]


@pytest.mark.parametrize("start", [None, 1])
@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 9, 13, 14, 15, 16, 21, 22])
def test_pieces_reassemble_and_carry_their_marks(count: int, start: int | None, end: int | None) -> None:
    document = tokens(count)
    pieces = split_document(document, 8, start, end)
    assert all(piece.dtype == np.uint32 and len(piece) <= 8 for piece in pieces)
    content = []
    for number, piece in enumerate(pieces):
        if start is not None:
            assert piece[0] == start
            piece = piece[1:]
        if end is not None and number == len(pieces) - 1:
            assert piece[-1] == end
            piece = piece[:-1]
        assert len(piece) > 0, "a piece of special tokens alone"
        content.append(piece)
    np.testing.assert_array_equal(np.concatenate(content), document)


def test_no_piece_is_split_off_when_the_document_fits_with_its_marks() -> None:
    assert [len(piece) for piece in split_document(tokens(6), 8, 1, 2)] == [8]
    assert [len(piece) for piece in split_document(tokens(7), 8, 1, 2)] == [7, 3]


def best_fit_by_search(lengths: list[int], capacity: int) -> list[int]:
    """Room left in each sequence by the definition: longest first, into the tightest that fits."""
    rooms: list[int] = []
    for size in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - size)
        else:
            rooms.append(capacity - size)
    return sorted(rooms)


@pytest.mark.parametrize("seed", range(20))
def test_best_fit_equals_its_definition_and_keeps_every_piece_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    capacity = int(random.integers(3, 60))
    lengths = random.integers(1, capacity + 1, size=int(random.integers(1, 300)))
    sequences = best_fit(lengths, capacity)
    assert sorted(piece for sequence in sequences for piece in sequence) == list(range(len(lengths)))
    rooms = sorted(capacity - int(lengths[sequence].sum()) for sequence in sequences)
    assert rooms == best_fit_by_search(lengths.tolist(), capacity)
    assert rooms[0] >= 0


def test_best_fit_is_deterministic_and_handles_many_pieces() -> None:
    lengths = np.random.default_rng(0).integers(1, 2049, size=100_000)
    first = best_fit(lengths, 2048)
    assert first == best_fit(lengths.copy(), 2048)
    assert lengths.sum() / (len(first) * 2048) > 0.99
