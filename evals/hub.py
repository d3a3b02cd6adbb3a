"""The hub of data sets: offline use, data sets that it refuses, and data sets read file by file.

A data set read file by file is read at one commit of its repository: the same rows, whatever else the
repository holds later, and however `datasets` would load it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.errors import DataError

_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_SCRIPTS = Path(__file__).with_name("loading_scripts.txt")
_CONVERTED = "refs/convert/parquet"
"""Branch with the hub's own Parquet form of a data set."""

_ADDRESS = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([^/]+)/(.+)")
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def is_offline() -> bool:
    """Return True if the environment forbids requests to the hub."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in _OFFLINE_VARIABLES)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Use only what the hub gave before, as if HF_HUB_OFFLINE had been set from the start."""
    import datasets
    import huggingface_hub

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


def is_loading_script(config: Mapping[str, Any]) -> bool:
    """Return True if a task reads a data set that is known to be a program on the hub.

    The hub's Parquet form of such a data set is a branch of its own, which can be read.
    """
    revision = (config.get("dataset_kwargs") or {}).get("revision")
    return config.get("dataset_path") in loading_scripts() and revision != _CONVERTED


def is_loading_script_error(error: Exception) -> bool:
    """Return True for the error with which `datasets` refuses a data set that is a program."""
    return isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error)


def loading_script_message(config: Mapping[str, Any]) -> str:
    """Return the reason why a data set that is a program on the hub cannot be read."""
    return (
        f"its data on the hub ({config.get('dataset_path')}) are a program, which `datasets` no longer runs"
    )


@functools.cache
def loading_scripts() -> frozenset[str]:
    """Return the data sets that are known to be programs on the hub."""
    lines = _SCRIPTS.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True)
class HubFiles:
    """Location of the rows of a data set's configurations.

    Attributes:
        revision: Commit of the repository.
        splits: Path of the file, by split; `{name}` stands for the configuration.
        reader: Name of the module of `datasets` that reads such files.
        options: Options of the reader.
    """

    revision: str
    splits: Mapping[str, str]
    reader: str
    options: Mapping[str, Any] = field(default_factory=dict)


FILE_BY_FILE = {
    # a program at first, and TSV files of the same content later; texts such as "None" are no missing values
    "nguha/legalbench": HubFiles(
        revision="daec8237410aa23e3faf4bc41ad8b3a7e1696826",
        splits={"train": "data/{name}/train.tsv", "test": "data/{name}/test.tsv"},
        reader="csv",
        options={"sep": "\t", "keep_default_na": False},
    ),
}


def with_hub_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's configuration that names the files of its splits, if its data set is read by file."""
    path, found = config.get("dataset_path"), FILE_BY_FILE.get(str(config.get("dataset_path")))
    if found is None:
        return dict(config)
    needed = dict.fromkeys(config[key] for key in _SPLITS if config.get(key))
    files = {
        split: f"hf://datasets/{path}@{found.revision}/"
        + found.splits[split].format(name=config.get("dataset_name"))
        for split in needed
    }
    return {
        **config,
        "dataset_path": found.reader,
        "dataset_name": None,
        "dataset_kwargs": {**found.options, "data_files": files},
    }


def with_local_copies(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's configuration with local copies of its files, which are downloaded once.

    Raises:
        ConnectionError: The hub cannot be reached, or is not to be asked.
        DataError: The repository has no such file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    copies: dict[str, str] = {}
    with _no_download_bars():
        for split, (repository, revision, path) in _locations(config).items():
            try:
                copies[split] = hf_hub_download(repository, path, repo_type="dataset", revision=revision)
            except LocalEntryNotFoundError as error:
                raise ConnectionError(str(error)) from error
            except EntryNotFoundError:
                raise DataError(
                    f"{repository} on the hub has no file {path} (commit {revision[:7]})"
                ) from None
    if not copies:
        return dict(config)
    return {**config, "dataset_kwargs": {**config["dataset_kwargs"], "data_files": copies}}


def data_origin(config: Mapping[str, Any]) -> str:
    """Return the repository from which a task's files are fetched, else the path that `datasets` loads."""
    path = config.get("dataset_path") or "named by the task's own code"
    return next((repository for repository, *_ in _locations(config).values()), str(path))


def is_cached(config: Mapping[str, Any]) -> bool | None:
    """Return True if all files of a task were downloaded before; None if it is not read file by file."""
    from huggingface_hub import try_to_load_from_cache

    locations = _locations(config)
    if not locations:
        return None
    copies = (
        try_to_load_from_cache(repository, path, revision=revision, repo_type="dataset")
        for repository, revision, path in locations.values()
    )
    return all(isinstance(copy, str) for copy in copies)


def _locations(config: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Return repository, commit and path of the file on the hub, by split."""
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    if not isinstance(files, Mapping):
        return {}
    found = {split: _ADDRESS.fullmatch(file) for split, file in files.items() if isinstance(file, str)}
    return {split: (match[1], match[2], match[3]) for split, match in found.items() if match}


@contextlib.contextmanager
def _no_download_bars() -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
