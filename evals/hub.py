"""The hub of data sets: whether it may be asked, how it is left alone, and what it does not give."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_SCRIPTS = Path(__file__).with_name("loading_scripts.txt")
_CONVERTED = "refs/convert/parquet"
"""Branch with the hub's own Parquet form of a data set."""


def offline() -> bool:
    """Whether the environment says that the hub is to be left alone."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in _VARIABLES)


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
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


def is_refusal(error: Exception) -> bool:
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
