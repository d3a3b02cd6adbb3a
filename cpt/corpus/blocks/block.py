"""Define a cleaning block: settings, and a function that rewrites or removes one document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple, Self

from cpt.corpus.documents import Document, Removed
from cpt.corpus.extras import ExtraSettings


class Unknown(NamedTuple):
    """A document that a block keeps because it lacks what the block judges by."""

    document: Document


Cleaner = Callable[[Document], Document | Removed | Unknown]
"""A function that returns a document as it is, rewritten, removed with the reason, or kept as unknown.

It looks at one document alone, so that documents can be cleaned by any number of processes, in any order.
"""


class Block(ExtraSettings):
    """Settings of a cleaning block. A subclass has a `kind`, fields with descriptions, and `prepare`.

    Attributes:
        learns: Whether `learn` needs a first pass over the documents of a source.
        judges_by: Name of what some documents may lack by which the block judges them, such as "year".
    """

    learns: ClassVar[bool] = False
    judges_by: ClassVar[str] = ""

    def learn(self, documents: Iterable[Document]) -> Self:  # noqa: ARG002 - for blocks that learn
        """Return the block for one source, after a first pass over its documents.

        What is learnt is in the returned block's fields: plain data, for any number of processes. Memory must
        be bounded, and the result depend on nothing but the documents and their order.

        Args:
            documents: Documents as the blocks before this one leave them.
        """
        return self

    def prepare(self) -> Cleaner:
        """Load what the block needs and return its function.

        Raises:
            DataError: A file that the settings name cannot be used.
        """
        raise NotImplementedError

    def files(self) -> list[str]:
        """Return the data references that the settings name; their content is part of the fingerprint."""
        return []

    def removed(self, document: Document, detail: str) -> Removed:
        """Return the entry of a document that this block removes.

        Args:
            detail: The finer reason.
        """
        return Removed(document.id, self.kind, document.text, detail)
