"""From a reference to a path: checked without fetching, fingerprinted, fetched."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from cpt.errors import MissingInput, Problem, RecipeError, ReferenceUnavailable
from cpt.progress import NullProgress, Progress
from cpt.references import gguf, hub, wheel
from cpt.references.cache import file_sha256, folders_sha256
from cpt.references.files import refusal, special_kind
from cpt.references.model_folder import require_model
from cpt.references.prose import module_source
from cpt.references.syntax import (
    HubFile,
    HubModel,
    LocalPath,
    PythonModule,
    Reference,
    WheelFile,
    exists,
    parse,
)

_SILENT = NullProgress()


def locate(reference: str, relative_to: Path) -> str:
    """The same reference with a relative local path made absolute.

    A path is looked for in `relative_to` (the recipe's folder), then in the working directory; one that
    exists in neither is taken to be in `relative_to`. Other references come back as they are.

    Raises:
        RecipeError: The reference is malformed.
    """
    text, mark, pin = reference.strip().partition("#sha256=")
    beside = relative_to.absolute() / text
    if text and exists(beside):
        return f"{os.path.normpath(beside)}{mark}{pin}"
    place = parse(reference).place
    if not isinstance(place, LocalPath):
        return reference.strip()
    path = place.path.absolute() if exists(place.path) else relative_to.absolute() / place.path
    return f"{os.path.normpath(path)}{mark}{pin}"


def check(reference: str, relative_to: Path) -> Problem | None:
    """What is wrong with a reference, as far as can be told without fetching anything."""
    try:
        place = parse(locate(reference, relative_to)).place
        if isinstance(place, PythonModule):
            module_source(place)
    except RecipeError as error:
        return error.problems[0]
    except ReferenceUnavailable as error:
        return Problem(error.message, hint=error.hint)
    return _missing(place.path) if isinstance(place, LocalPath) else None


def _missing(path: Path) -> Problem | None:
    if exists(path):
        if (kind := special_kind(path)) is not None:
            refused = refusal(path, kind)
            return Problem(refused.message, hint=refused.hint)
        readable = os.access(path, os.R_OK)
        return None if readable else Problem(f"{path} cannot be read", hint="Check its permissions.")
    near: list[str] = []
    if path.parent.is_dir():
        near = difflib.get_close_matches(path.name, [found.name for found in path.parent.iterdir()], n=2)
        hint = (
            f"Did you mean {' or '.join(near)}?" if near else f"The folder {path.parent} has no such entry."
        )
    else:
        hint = f"The folder {path.parent} does not exist either. Paths are relative to the recipe's folder."
    return Problem(f"no such file or folder: {path}", hint=hint)


def fingerprint(reference: str) -> str:
    """What stands for a reference's content: its pin, its SHA-256, or its commit on the hub.

    A wheel's file that is pinned needs no fetching; a hub reference is looked up in the local cache first.

    Raises:
        ReferenceUnavailable: The content cannot be had, or the hub cannot be asked.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    content = _content_fingerprint(parsed)
    return f"{content}-gguf{gguf.CONVERTER}" if is_gguf(parsed) else content


def fingerprints(references: Sequence[str]) -> list[str]:
    """`fingerprint` of each; local folders are read side by side."""
    places = {reference: parse(reference).place for reference in references}
    paths = {name: _existing(place) for name, place in places.items() if isinstance(place, LocalPath)}
    folders = {name: path for name, path in paths.items() if path.is_dir()}
    found = dict(zip(folders, folders_sha256(list(folders.values())), strict=True))
    return [found.get(reference) or fingerprint(reference) for reference in references]


def _content_fingerprint(parsed: Reference) -> str:
    match parsed.place:
        case WheelFile() as place:
            return wheel.pin(parsed.text, parsed.sha256) or file_sha256(_fetch(parsed, place, _SILENT))
        case HubModel() as place:
            return hub.commit(place)
        case HubFile() as place:
            return parsed.sha256 or f"{hub.commit(place)}:{place.path}"
        case PythonModule() | LocalPath() as place:
            path = _existing(place)
            return folders_sha256([path])[0] if path.is_dir() else file_sha256(path)


def resolve_model(reference: str, progress: Progress = _SILENT) -> Path:
    """Hugging Face folder (configuration, tokenizer, safetensors) of a model reference.

    Raises:
        ReferenceUnavailable: It cannot be had, is not a model, or has only pickled weights.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    if isinstance(parsed.place, HubModel):
        progress.message(f"looking for {parsed.text} (cache, then the Hugging Face hub)")
        return require_model(hub.snapshot(parsed.place), parsed.text)
    path = resolve_file(reference, progress)
    if path.is_dir():
        return require_model(path, parsed.text)
    if not is_gguf(parsed):
        raise ReferenceUnavailable(
            f"{parsed.text} is not a model",
            hint="A model is a folder, org/name on the hub, or a .gguf file (also inside a wheel).",
        )
    return gguf.convert(path, file_sha256(path), progress)


def resolve_file(reference: str, progress: Progress = _SILENT) -> Path:
    """Local path of a data reference: a file, or a folder for a local folder; verified if pinned.

    Raises:
        ReferenceUnavailable: It cannot be had, or differs from its pin.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    match parsed.place:
        case WheelFile() as place:
            return _fetch(parsed, place, progress)
        case HubModel():
            raise ReferenceUnavailable(
                f"{parsed.text} is neither a local file nor a local folder",
                hint="A file of a hub data set is written hub:datasets/org/name/path/in/repo@revision.",
            )
        case HubFile() as place:
            progress.message(f"fetching {parsed.text}")
            path = hub.file(place)
        case PythonModule() | LocalPath() as place:
            path = _existing(place)
    _verify(path, parsed)
    return path


def _fetch(parsed: Reference, place: WheelFile, progress: Progress) -> Path:
    return wheel.fetch(place, parsed.text, parsed.sha256, progress)


def _existing(place: PythonModule | LocalPath) -> Path:
    if isinstance(place, PythonModule):
        return module_source(place)
    problem = _missing(place.path)
    if problem is not None and exists(place.path) and (kind := special_kind(place.path)) is not None:
        raise refusal(place.path, kind)
    if problem is not None:
        raise MissingInput(problem.message, hint=problem.hint)
    return place.path


def _verify(path: Path, parsed: Reference) -> None:
    if parsed.sha256 is None:
        return
    found = file_sha256(path)
    if found != parsed.sha256:
        raise ReferenceUnavailable(
            f"{parsed.text}: expected SHA-256 {parsed.sha256}, found {found}",
            hint="It is not the file that was pinned. Get the right one, or change the pin in the recipe.",
        )


def is_gguf(parsed: Reference) -> bool:
    """Whether a reference names a GGUF file."""
    text = parsed.text.partition("@")[0] if isinstance(parsed.place, HubFile) else parsed.text
    return text.lower().endswith(".gguf") and not isinstance(parsed.place, HubModel)
