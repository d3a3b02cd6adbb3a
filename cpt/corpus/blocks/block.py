"""Define a cleaning block: settings, and a function that rewrites or removes one document."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import ClassVar

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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    libraries: ClassVar[dict[str, str]] = {}
    kind: str

    def prepare(self) -> Cleaner:
        """Load what the block needs and return its function.

        Raises:
            DataError: A file that the settings name cannot be used.
        """
        raise NotImplementedError

    def problem(self) -> str | None:
        """Return what is missing for the block to work, with the remedy; None if nothing is."""
        for module, extra in self.libraries.items():
            if importlib.util.find_spec(module) is None:
                return f"{self.kind} needs {module}: pip install 'cpt-workbench[{extra}]'"
        return None
