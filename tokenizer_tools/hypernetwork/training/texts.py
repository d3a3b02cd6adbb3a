"""Order training text without state: the text at a place of the stream follows from the seed and the place.

So a run that resumes at any step, on any number of processes, reads the same texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cpt.corpus.permutation import Permutation
from cpt.errors import DataError


class TextStream:
    """Pieces of documents, in a new order in every epoch."""

    def __init__(self, documents: Iterable[str], characters: int, seed: int) -> None:
        """Cut documents into texts and keep them in memory.

        Args:
            documents: Training documents.
            characters: Most characters of a text.
            seed: Seed of the order.

        Raises:
            DataError: There is no text.
        """
        self._texts = [piece for document in documents for piece in cut(document, characters)]
        if not self._texts:
            raise DataError(
                "there is no text to train the hypernetwork on",
                hint="The corpus needs documents of its domain outside its held-out part.",
            )
        self._seed = seed

    def __len__(self) -> int:
        return len(self._texts)

    def read(self, first: int, last: int) -> list[str]:
        """Return the texts at the places from `first` up to, not including, `last`."""
        places = np.arange(first, last)
        epochs, within = np.divmod(places, len(self._texts))
        found: list[str] = []
        for epoch in np.unique(epochs).tolist():
            order = Permutation(len(self._texts), self._seed, "hypernetwork", epoch)
            found += [self._texts[place] for place in order(within[epochs == epoch]).tolist()]
        return found


def cut(document: str, characters: int) -> Iterator[str]:
    """Yield the pieces of a document, each cut before the last space within `characters`."""
    start = 0
    while start < len(document):
        end = start + characters
        if end < len(document) and (space := document.rfind(" ", start + 1, end + 1)) > 0:
            end = space
        piece = document[start:end]
        if piece.strip():
            yield piece
        start = end
