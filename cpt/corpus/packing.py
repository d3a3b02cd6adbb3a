"""Pack documents into sequences: split those that are too long, then best fit.

Ding et al. 2024, Fewer Truncations Improve Language Modeling (arXiv 2404.10830).
"""

from __future__ import annotations

import bisect

import numpy as np


def split_document(
    tokens: np.ndarray, length: int, start: float | None = None, end: float | None = None
) -> list[np.ndarray]:
    """Split a document into pieces [start] + tokens + [end only at the document's end] of at most `length`.

    A piece never holds the end token alone after its start token: that would teach the model that documents
    may be empty.

    Args:
        tokens: (tokens,), without special tokens; at least one.
        length: Sequence length in tokens, at least 3.

    Returns:
        The pieces, in the data type of `tokens`: weights of tokens are split like them.
    """
    room = length - (start is not None)
    cuts = list(range(room, len(tokens), room))
    if end is not None and len(tokens) % room == 0:
        cuts.append(len(tokens) - 1)
    first = np.array([] if start is None else [start], dtype=tokens.dtype)
    last = np.array([] if end is None else [end], dtype=tokens.dtype)
    pieces = [np.concatenate([first, piece]) for piece in np.split(tokens, cuts)]
    pieces[-1] = np.concatenate([pieces[-1], last])
    return pieces


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Group pieces into sequences: longest first, each into the fullest sequence that still has room.

    Takes O(n (log n + log capacity)). Ties go by index, so the result depends on the lengths alone.

    Args:
        lengths: int (pieces,), each between 1 and `capacity`.

    Returns:
        The indices of the pieces of each sequence.
    """
    sequences: list[list[int]] = []
    open_by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # sorted keys of open_by_room
    for piece in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[piece])
        at = bisect.bisect_left(rooms, size)
        if at == len(rooms):
            room, sequence = capacity, len(sequences)
            sequences.append([])
        else:
            room = rooms[at]
            sequence = open_by_room[room].pop()
            if not open_by_room[room]:
                del open_by_room[room], rooms[at]
        sequences[sequence].append(piece)
        left = room - size
        if left > 0:
            if left not in open_by_room:
                open_by_room[left] = []
                bisect.insort(rooms, left)
            open_by_room[left].append(sequence)
    return sequences
