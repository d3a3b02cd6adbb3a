"""Define the base class of the settings of all ratings."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class RatingSettings(BaseModel):
    """Settings of a rating of documents.

    Attributes:
        libraries: Modules that the rating imports beyond the installation, with the extra that has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    libraries: ClassVar[dict[str, str]] = {}

    def problem(self) -> str | None:
        """Return what is missing for the rating to work, with the remedy; None if nothing is."""
        for module, extra in self.libraries.items():
            if importlib.util.find_spec(module) is None:
                return f"needs {module}: pip install 'cpt-workbench[{extra}]'"
        return None
