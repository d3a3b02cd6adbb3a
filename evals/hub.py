"""The hub of data sets: whether it may be asked, how it is left alone, and what it does not give.

Data sets that are read file by file, at one commit of their repository on the hub.

So the same rows are read whatever else the repository holds later, and however `datasets` would load it.
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


def offline() -> bool:
    """Whether the environment says that the hub is to be left alone."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in _OFFLINE_VARIABLES)


@contextlib.contextmanager
def offline_hub() -> Iterator[None]:
    """As if HF_HUB_OFFLINE had been set from the start: only what the hub gave before is used."""
    import datasets
    import huggingface_hub

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


def refused(config: Mapping[str, Any]) -> bool:
    """Return True if a task reads a data set that is known to be a program on the hub.

    The hub's Parquet form of such a data set is a branch of its own, which can be read.
    """
    revision = (config.get("dataset_kwargs") or {}).get("revision")
    return config.get("dataset_path") in loading_scripts() and revision != _CONVERTED


def is_loading_script_error(error: Exception) -> bool:
    """Return True for the error with which `datasets` refuses a data set that is a program."""
    return isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error)


def refusal(config: Mapping[str, Any]) -> str:
    """Say that a data set is a program on the hub."""
    return (
        f"its data on the hub ({config.get('dataset_path')}) are a program, which `datasets` no longer runs"
    )


@functools.cache
def loading_scripts() -> frozenset[str]:
    """Return the data sets that are known to be programs on the hub."""
    lines = _SCRIPTS.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


_ADDRESS = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([^/]+)/(.+)")
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class HubFiles:
    """Where the rows of a data set's configurations are.

    Attributes:
        revision: commit of the repository.
        splits: by split, the path of its file; `{name}` stands for the configuration.
        reader: name of the module of `datasets` that reads such files.
        options: of the reader.
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
    """Return a task's configuration that names the files of its splits, if its data set is read so."""
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


def fetched(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's configuration with local copies of its files, which are downloaded once.

    Raises:
        ConnectionError: the hub cannot be reached, or is left alone.
        DataError: the repository has no such file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    copies: dict[str, str] = {}
    with _without_bars():
        for split, (repository, revision, path) in _places(config).items():
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


def source(config: Mapping[str, Any]) -> str:
    """Return the repository from which a task's files are fetched, else the path that `datasets` loads."""
    path = config.get("dataset_path") or "named by the task's own code"
    return next((repository for repository, *_ in _places(config).values()), str(path))


def kept(config: Mapping[str, Any]) -> bool | None:
    """Return whether all files of a task were downloaded before; None if it is not read file by file."""
    from huggingface_hub import try_to_load_from_cache

    places = _places(config)
    if not places:
        return None
    copies = (
        try_to_load_from_cache(repository, path, revision=revision, repo_type="dataset")
        for repository, revision, path in places.values()
    )
    return all(isinstance(copy, str) for copy in copies)


def _places(config: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """By split, the repository, the commit and the path of its file on the hub."""
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    if not isinstance(files, Mapping):
        return {}
    found = {split: _ADDRESS.fullmatch(file) for split, file in files.items() if isinstance(file, str)}
    return {split: (match[1], match[2], match[3]) for split, match in found.items() if match}


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
