"""Find libraries of optional extras that are missing, before anything runs."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


def missing(what: str, libraries: dict[str, str]) -> str | None:
    """Return which library something needs, with the remedy; None if all are installed.

    Args:
        what: Name of what needs them, for the message.
        libraries: Module -> extra that has it.
    """
    for module, extra in libraries.items():
        if importlib.util.find_spec(module) is None:
            return f"{what} needs {module}: pip install 'cpt-workbench[{extra}]'"
    return None


class ExtraSettings(BaseModel):
    """Settings of a kind of block, rating or executor that may need libraries of an extra.

    Attributes:
        kind: Name in recipes and in the ledger.
        libraries: Modules that it imports beyond the installation, with the extra that has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    libraries: ClassVar[dict[str, str]] = {}
    kind: str

    def problem(self) -> str | None:
        """Return what is missing to work with these settings, with the remedy; None if nothing is."""
        return missing(self.kind, self.libraries)
