"""Tasks as lm-eval defines them: its own, and those that this package adds to them."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.errors import DataError
from evals.suite import TASKS

_NAME = re.compile(rb"""^["']?task["']?[ ]*:[ ]*["']?([^"'\s\[{#]+)""", re.MULTILINE)


@functools.cache
def task_files() -> Mapping[str, Path]:
    """The file of every task, by the task's name; a task of this package goes before one of lm-eval's.

    Only names are read, which takes a third of the time of lm-eval's own index.
    """
    files: dict[str, Path] = {}
    for folder in (TASKS, _built_in()):
        for file in _yaml_files(folder):
            for name in _NAME.findall(file.read_bytes()):
                files.setdefault(name.decode(), file)
    return files


def _yaml_files(folder: Path) -> list[Path]:
    """Files below a folder, in order; lm-eval has fourteen thousand, which `rglob` takes long to find."""
    found = (f"{place}/{name}" for place, _, names in os.walk(folder) for name in names)
    return [Path(file) for file in sorted(found) if file.endswith(".yaml")]


def task_config(name: str) -> dict[str, Any]:
    """A task's configuration, with what it includes and with its functions.

    Raises:
        KeyError: there is no such task.
        DataError: the task needs a library that is not there.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: dict[str, Any] = load_yaml(task_files()[name])
    except ImportError as error:
        raise DataError(f"the task cannot be loaded: {error}") from None
    return config


def metrics(config: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that a task reports."""
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    declared = config.get("metric_list")
    if declared is None:
        return list(DEFAULT_METRIC_REGISTRY[config.get("output_type", "generate_until")])
    names = (metric["metric"] for metric in declared)
    return [name if isinstance(name, str) else name.__name__ for name in names]


def _built_in() -> Path:
    package = importlib.util.find_spec("lm_eval")
    if package is None or package.origin is None:
        raise ImportError("lm_eval is not installed")
    return Path(package.origin).parent / "tasks"
