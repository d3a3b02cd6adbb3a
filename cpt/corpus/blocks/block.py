"""Define a cleaning block: settings, and a function that rewrites or removes one document."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from cpt.corpus.documents import Document, Removed

Cleaner = Callable[[Document], Document | Removed]
"""A function that returns a document as it is, rewritten, or removed with the reason.

It looks at one document alone, so that documents can be cleaned by any number of processes, in any order.
"""


class Block(BaseModel):
    """Settings of a cleaning block. A subclass has a `kind`, fields with descriptions, and `prepare`.

    Attributes:
        kind: Name in recipes, on the command line and in the ledger.
        libraries: Modules that the block imports beyond the installation, with the extra that has them.
        learns: Whether `learn` needs a first pass over the documents of a source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    libraries: ClassVar[dict[str, str]] = {}
    learns: ClassVar[bool] = False
    kind: str

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

    def problem(self) -> str | None:
        """Return what is missing for the block to work, with the remedy; None if nothing is."""
        for module, extra in self.libraries.items():
            if importlib.util.find_spec(module) is None:
                return f"{self.kind} needs {module}: pip install 'cpt-workbench[{extra}]'"
        return None

    def removed(self, document: Document, detail: str) -> Removed:
        """Return the entry of a document that this block removes.

        Args:
            detail: The finer reason.
        """
        return Removed(document.id, self.kind, document.text, detail)
