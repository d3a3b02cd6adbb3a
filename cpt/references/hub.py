"""Models and files on the Hugging Face hub, at one commit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import ReferenceUnavailable
from cpt.references.model_folder import missing_from_model
from cpt.references.syntax import HubFile, HubModel

_MODEL_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
"""No pickles and no code: weights come as safetensors only."""


def commit(place: HubModel | HubFile) -> str:
    """The commit that a hub reference means: itself, else the cached one, else the hub's.

    Raises:
        ReferenceUnavailable: It is neither cached nor reachable.
    """
    if place.revision and re.fullmatch(r"[0-9a-f]{40}", place.revision):
        return place.revision
    return _cached_commit(place) or _remote_commit(place)


def _repo_type(place: HubModel | HubFile) -> str:
    return place.repo_type if isinstance(place, HubFile) else "model"


def _cached_commit(place: HubModel | HubFile) -> str | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            place.repo, repo_type=_repo_type(place), revision=place.revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ReferenceUnavailable(f"{place.repo} is no name of a hub repository: {error}") from error
    return Path(folder).name


def _remote_commit(place: HubModel | HubFile) -> str:
    from huggingface_hub import HfApi

    try:
        info = HfApi().repo_info(place.repo, repo_type=_repo_type(place), revision=place.revision, timeout=20)
    except Exception as error:  # the hub client raises its HTTP library's errors besides its own
        raise _unavailable(place, error) from error
    return str(info.sha)


def snapshot(place: HubModel) -> Path:
    """Folder of a hub model's configuration, tokenizer and weights; a complete cache needs no network.

    Raises:
        ReferenceUnavailable: It cannot be had.
    """
    return _snapshot(place, _MODEL_FILES, lambda folder: not missing_from_model(folder))


def tokenizer_snapshot(place: HubModel, files: Sequence[str]) -> Path:
    """Folder with a hub repository's `files` (patterns); one that is cached with a tokenizer.json is used.

    Raises:
        ReferenceUnavailable: It cannot be had.
    """
    return _snapshot(place, files, lambda folder: (folder / "tokenizer.json").is_file())


def _snapshot(place: HubModel, files: Sequence[str], is_complete: Callable[[Path], bool]) -> Path:
    from huggingface_hub import snapshot_download

    wanted = commit(place)
    with contextlib.suppress(FileNotFoundError):
        cached = Path(snapshot_download(place.repo, revision=wanted, local_files_only=True))
        if is_complete(cached):
            return cached
    _remote_commit(place)  # fails at once where a download would retry for half a minute
    patterns = {"allow_patterns": list(files), "ignore_patterns": ["*/*"]}
    return Path(_call(place, snapshot_download, revision=wanted, **patterns))


def file(place: HubFile) -> Path:
    """Path of one file of a hub repository; a cached one needs no network.

    Raises:
        ReferenceUnavailable: It cannot be had.
    """
    from huggingface_hub import hf_hub_download

    wanted: dict[str, Any] = {
        "filename": place.path,
        "repo_type": place.repo_type,
        "revision": commit(place),
    }
    with contextlib.suppress(FileNotFoundError):
        return Path(str(hf_hub_download(place.repo, **wanted, local_files_only=True)))
    _remote_commit(place)  # as in `snapshot`
    return Path(_call(place, hf_hub_download, **wanted))


def _call(place: HubModel | HubFile, download: Any, **arguments: Any) -> str:
    try:
        return str(download(place.repo, **arguments))
    except Exception as error:  # the hub client raises its HTTP library's errors besides its own
        raise _unavailable(place, error) from error


def _unavailable(place: HubModel | HubFile, error: Exception) -> ReferenceUnavailable:
    """What was tried and what to do, by the kind of failure."""
    from huggingface_hub import errors

    name = f"{place.repo}@{place.revision}" if place.revision else place.repo
    what = f"{name}/{place.path}" if isinstance(place, HubFile) else name
    if isinstance(error, errors.GatedRepoError):
        hint = f"Accept its conditions on the hub's page of {place.repo}, then log in with `hf auth login`."
    elif isinstance(error, errors.RevisionNotFoundError):
        hint = f"Check the branch, tag or commit after the @ of {name}."
    elif isinstance(error, errors.RepositoryNotFoundError):
        hint = "Check the spelling; a private one needs `hf auth login`. No local folder has this name."
    elif isinstance(error, errors.EntryNotFoundError) and not isinstance(error, OSError):
        hint = f"Check the path inside {place.repo}."
    else:
        hint = (
            f"Without a network: run `hf download {place.repo}` on a machine that has one and copy its "
            "cache folder (HF_HOME), or name a local path. A mirror is chosen with HF_ENDPOINT."
        )
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ReferenceUnavailable(f"cannot get {what} from the Hugging Face hub: {reason}", hint=hint)
