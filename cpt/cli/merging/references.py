"""Models on the command line: `[NAME=]MODEL[:WEIGHT]`; and from what is named to folders."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.cli.options import split_name
from cpt.errors import CptError, DataError, Problem, RecipeError
from cpt.references import check, fingerprints, locate, resolve_model
from cpt.references.progress import Messages
from cpt.references.syntax import exists

if TYPE_CHECKING:
    from merging.request import Parent, Request

RESERVED = ("auto", "base", "union")
"""What `--tokenizer` means by itself; no model is called so."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?\.?(inf|nan)", re.IGNORECASE)
_FILE = re.compile(r"\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """A model as it is written: its name, if it is given one, its reference, its weight."""

    reference: str
    name: str | None = None
    weight: float | None = None


def parse_model(text: str, *, weighted: bool = True) -> Named:
    """`domain`, `domain:0.8`, `law=org/name:0.8`, `C:\\models\\law:1`.

    What exists as it is written is a path, whatever is in it. Else a name is what stands before the first
    `=`, if it is of letters, digits, `.`, `_` and `-`; a weight is what stands after the last colon, if it
    is a number.

    Args:
        weighted: whether there may be a weight.
    """
    name, rest = split_name(text)
    if exists(Path(text)):
        return Named(text)
    reference, colon, tail = rest.rpartition(":")
    if not weighted or not colon or not reference or exists(Path(rest)) or not _NUMBER.fullmatch(tail):
        return Named(rest, name)
    return Named(reference, name, float(tail.lower().replace(".inf", "inf").replace(".nan", "nan")))


def name_of(reference: str, taken: Collection[str]) -> str:
    """What a model without a name of its own is called: the end of its reference, numbered if it is taken."""
    end = reference.partition("#sha256=")[0].replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^\w.-]+", "-", _FILE.sub("", end.partition("@")[0])).strip("-.") or "model"
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (plain, *numbered) if name not in taken)


def unknown_references(references: Mapping[str, str], folder: Path) -> Iterator[tuple[str, Problem]]:
    """What is wrong with references as far as can be told without fetching; by the models' names."""
    for name, reference in references.items():
        problem = check(reference, folder)
        if problem is not None:
            yield name, problem


def resolved(references: Mapping[str, str], folder: Path, progress: Messages) -> dict[str, Path]:
    """Folders of the models by name; fetched or converted where necessary.

    Args:
        folder: where relative paths begin.

    Raises:
        RecipeError: some cannot be had; says which and why.
    """
    found, problems = {}, []
    for name, reference in references.items():
        try:
            found[name] = model_or_adapter(locate(reference, folder), progress)
        except RecipeError as error:
            problems += error.problems
        except CptError as error:
            problems.append(Problem(error.message, key=name, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return found


def model_or_adapter(reference: str, progress: Messages) -> Path:
    """Folder of a model, or of an adapter, which is a local folder.

    Raises:
        ReferenceUnavailable: It cannot be had.
        RecipeError: The reference is malformed.
    """
    from merging.adapters import is_adapter

    return Path(reference) if is_adapter(Path(reference)) else resolve_model(reference, progress)


def in_folders(request: Request, folders: Mapping[str, Path]) -> Request:
    """The request with its models in their folders."""

    def placed(parent: Parent) -> Parent:
        return replace(parent, folder=folders[parent.name])

    return _changed(request, placed)


def with_fingerprints(request: Request, references: Mapping[str, str], folder: Path) -> Request:
    """The request with the fingerprints of its models' contents."""
    found = fingerprints_by_name(references, folder)
    return _changed(request, lambda parent: replace(parent, fingerprint=found[parent.name]))


def fingerprints_by_name(references: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Fingerprints of what models hold, by the models' names."""
    places = [locate(reference, folder) for reference in references.values()]
    return dict(zip(references, fingerprints(places), strict=True))


def fingerprints_meanwhile(references: Mapping[str, str], folder: Path) -> Future[Mapping[str, str]]:
    """Begin to read models for their fingerprints.

    The thread ends with the program: a merge that fails does not wait for it.
    """
    found: Future[Mapping[str, str]] = Future()

    def work() -> None:
        try:
            found.set_result(fingerprints_by_name(references, folder))
        except OSError as error:
            which = error.filename or "a model"
            found.set_exception(
                DataError(f"{which} cannot be read for its fingerprint: {error.strerror or error}")
            )
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return found


def _changed(request: Request, change: Callable[[Parent], Parent]) -> Request:
    models = tuple(change(model) for model in request.models)
    return replace(request, models=models, base=None if request.base is None else change(request.base))
