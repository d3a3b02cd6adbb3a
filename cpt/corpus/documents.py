"""What readers yield: documents, and entries that they leave out, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cpt.errors import Problem, SourceError


@dataclass(frozen=True, slots=True)
class Document:
    """One text.

    Attributes:
        id: Where it comes from: a file and line, a term, a key.
        ended: True if an end token follows. Cut samples and excerpts have none: it would teach the model to
            stop early.
    """

    id: str
    text: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry of a source that is not used, and why; it is counted, never dropped silently."""

    id: str
    reason: str


Item = Document | Removed


def data_error(problems: Iterable[Problem]) -> SourceError:
    """One error that shows all problems of an input."""
    return SourceError("\n".join(str(problem) for problem in problems))
