"""Fetch models and files from the Hugging Face hub at one commit, and check model folders."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import MissingInput, ReferenceUnavailable
from cpt.models.folder_files import weight_names
from cpt.references.syntax import HubDataSet, HubFile, HubModel


def missing_from_model(folder: Path) -> list[str]:
    """Return the names of missing files: configuration, fast tokenizer, safetensors weights."""
    needed = ["config.json", "tokenizer.json", *weight_names(folder)]
    return [name for name in needed if not (folder / name).is_file()]


def require_model(folder: Path, text: str) -> Path:
    """Return the folder if it is a complete model.

    Args:
        folder: Model folder.
        text: Text of the reference, for messages.

    Raises:
        MissingInput: A file is missing, or the weights are pickles.
        ModelError: A file is damaged, or the weights do not fit config.json.
    """
    missing = missing_from_model(folder)
    if not missing:
        from cpt.models.loading import check_model

        check_model(folder)
        return folder
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
    if "model.safetensors" in missing and pickles:
        raise MissingInput(
            f"{text} has its weights as pickles only ({', '.join(pickles[:3])}), which can run code",
            hint="Convert it once where you trust it: AutoModelForCausalLM.from_pretrained(folder)"
            ".save_pretrained(new_folder) writes safetensors. Then name the new folder.",
        )
    if "tokenizer.json" in missing and len(missing) == 1:
        raise MissingInput(
            f"{text} has no tokenizer.json (a fast tokenizer)",
            hint="AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes one for most models.",
        )
    raise MissingInput(
        f"{text} is not a complete model folder: {', '.join(missing)} not found in {folder}",
        hint="A model folder holds config.json, tokenizer.json and model.safetensors (or its shards).",
    )


_MODEL_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
"""Patterns without pickles and code: weights come as safetensors only."""


def commit(location: HubModel | HubFile | HubDataSet) -> str:
    """Return the commit of a hub reference: its own, else the cached one, else the hub's.

    Raises:
        ReferenceUnavailable: The repository is neither cached nor reachable.
    """
    if location.revision and re.fullmatch(r"[0-9a-f]{40}", location.revision):
        return location.revision
    return _cached_commit(location) or _remote_commit(location)


def _repo_type(location: HubModel | HubFile | HubDataSet) -> str:
    if isinstance(location, HubDataSet):
        return "dataset"
    return location.repo_type if isinstance(location, HubFile) else "model"


def _cached_commit(location: HubModel | HubFile | HubDataSet) -> str | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            location.repo, repo_type=_repo_type(location), revision=location.revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ReferenceUnavailable(f"{location.repo} is no name of a hub repository: {error}") from error
    return Path(folder).name


def _remote_commit(location: HubModel | HubFile | HubDataSet) -> str:
    from huggingface_hub import HfApi

    try:
        info = HfApi().repo_info(
            location.repo, repo_type=_repo_type(location), revision=location.revision, timeout=20
        )
    except Exception as error:  # the hub client raises its HTTP library's errors besides its own
        raise unavailable(location, error) from error
    return str(info.sha)


def snapshot(location: HubModel) -> Path:
    """Return the folder of a hub model's files; a complete cache needs no network.

    Raises:
        ReferenceUnavailable: The files cannot be fetched.
    """
    return _snapshot(location, _MODEL_FILES, lambda folder: not missing_from_model(folder))


def tokenizer_snapshot(location: HubModel, files: Sequence[str]) -> Path:
    """Return a folder with the files of a hub repository; a cached one with a tokenizer.json is used.

    Raises:
        ReferenceUnavailable: The files cannot be fetched.
    """
    return _snapshot(location, files, lambda folder: (folder / "tokenizer.json").is_file())


def folder_snapshot(location: HubModel, files: Sequence[str], needed: Sequence[str]) -> Path:
    """Return a folder with the files of a hub repository, those of subfolders too.

    A cached one with the files that are needed is used.

    Raises:
        ReferenceUnavailable: The files cannot be fetched.
    """
    return _snapshot(location, files, lambda folder: all((folder / name).is_file() for name in needed), ())


def _snapshot(
    location: HubModel,
    files: Sequence[str],
    is_complete: Callable[[Path], bool],
    ignored: Sequence[str] = ("*/*",),
) -> Path:
    from huggingface_hub import snapshot_download

    wanted = commit(location)
    with contextlib.suppress(FileNotFoundError):
        cached = Path(snapshot_download(location.repo, revision=wanted, local_files_only=True))
        if is_complete(cached):
            return cached
    _remote_commit(location)  # fails at once where a download would retry for half a minute
    patterns = {"allow_patterns": list(files), "ignore_patterns": list(ignored)}
    return Path(_call(location, snapshot_download, revision=wanted, **patterns))


def file(location: HubFile) -> Path:
    """Return the path of one file of a hub repository; a cached one needs no network.

    Raises:
        ReferenceUnavailable: The files cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    wanted: dict[str, Any] = {
        "filename": location.path,
        "repo_type": location.repo_type,
        "revision": commit(location),
    }
    with contextlib.suppress(FileNotFoundError):
        return Path(str(hf_hub_download(location.repo, **wanted, local_files_only=True)))
    _remote_commit(location)  # as in `snapshot`
    return Path(_call(location, hf_hub_download, **wanted))


def _call(location: HubModel | HubFile | HubDataSet, download: Any, **arguments: Any) -> str:
    try:
        return str(download(location.repo, **arguments))
    except Exception as error:  # the hub client raises its HTTP library's errors besides its own
        raise unavailable(location, error) from error


def unavailable(location: HubModel | HubFile | HubDataSet, error: Exception) -> ReferenceUnavailable:
    """Return an error that says what failed and what to do, by the kind of failure."""
    from huggingface_hub import errors

    name = f"{location.repo}@{location.revision}" if location.revision else location.repo
    what = f"{name}/{location.path}" if isinstance(location, HubFile) else name
    if isinstance(error, errors.GatedRepoError):
        hint = (
            f"Accept its conditions on the hub's page of {location.repo}, then log in with `hf auth login`."
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        hint = f"Check the branch, tag or commit after the @ of {name}."
    elif isinstance(error, errors.RepositoryNotFoundError):
        hint = "Check the spelling; a private one needs `hf auth login`. No local folder has this name."
    elif isinstance(error, errors.EntryNotFoundError) and not isinstance(error, OSError):
        hint = f"Check the path inside {location.repo}."
    else:
        hint = (
            f"Without a network: run `hf download {location.repo}` on a machine that has one and copy its "
            "cache folder (HF_HOME), or name a local path. A mirror is chosen with HF_ENDPOINT."
        )
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ReferenceUnavailable(f"cannot get {what} from the Hugging Face hub: {reason}", hint=hint)
