"""What every data set's module declares: where its files are found, and the rows that tasks read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Files = Mapping[str, Path]


@dataclass(frozen=True)
class Source:
    """A published data set in the form in which its authors give it away.

    Attributes:
        name: as suites name it; a part of it (a subject, a subset) is named after a colon: `mmlu:anatomy`.
        title: its full name.
        licence: of the data, with the place that states it if that is not the origin.
        origin: paper or repository.
        files: by role, where a file is found: a path that ends so, anywhere below the user's data folder.
            `{part}` stands for the part.
        read: the rows of every split, with the columns and split names of the data set on the hub that the
            task reads otherwise, given the files by role and the part (None if none was named).
        version: raised when `read` gives other rows for the same files.
    """

    name: str
    title: str
    licence: str
    origin: str
    files: Mapping[str, str]
    read: Callable[[Files, str | None], Mapping[str, Rows]]
    version: int = 1

    def endings(self, part: str | None) -> dict[str, str]:
        """By role, how the path of a file of a part ends."""
        return {role: ending.replace("{part}", part or "") for role, ending in self.files.items()}
