"""Find and read task files: lm-eval's own, and those of this package."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.errors import DataError
from evals.registry import TASKS

_NAME = re.compile(rb"""^["']?task["']?[ ]*:[ ]*["']?([^"'\s\[{#]+)""", re.MULTILINE)


@functools.cache
def task_files() -> Mapping[str, Path]:
    """Return the file of every task, by name; a task of this package has precedence over lm-eval's.

    Only names are read, which takes a third of the time of lm-eval's own index.
    """
    files: dict[str, Path] = {}
    for folder in (TASKS, _built_in()):
        for file in _yaml_files(folder):
            for name in _NAME.findall(file.read_bytes()):
                files.setdefault(name.decode(), file)
    return files


def _yaml_files(folder: Path) -> list[Path]:
    """Return the files below a folder, in order; `rglob` is slow on lm-eval's fourteen thousand."""
    found = (f"{place}/{name}" for place, _, names in os.walk(folder) for name in names)
    return [Path(file) for file in sorted(found) if file.endswith(".yaml")]


def task_config(name: str) -> dict[str, Any]:
    """Return a task's configuration, with its included files and its functions.

    A file of this package may name one of lm-eval's, as a path below its folder of tasks: `extends:
    pubmedqa/pubmedqa.yaml`. Its own settings have precedence over that file's.

    Raises:
        KeyError: There is no such task.
        DataError: The task needs a library that is not installed, or its own code fails.
    """
    file = task_files()[name]
    config = _loaded(file)
    extended = config.pop("extends", None)
    return config if extended is None else {**_loaded(_built_in() / extended), **config}


def _loaded(file: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: dict[str, Any] = load_yaml(file)
    except Exception as error:  # the code of a task may raise anything when it is imported
        raise DataError(f"the task cannot be loaded: {_first_cause(error)}") from None
    return config


def _first_cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _first_cause(error.__cause__)


def metrics(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics that a task reports."""
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    declared = config.get("metric_list")
    if declared is None:
        return list(DEFAULT_METRIC_REGISTRY[config.get("output_type", "generate_until")])
    return [_metric_name(metric["metric"]) for metric in declared]


def aggregation(config: Mapping[str, Any], metric: str) -> str:
    """Return the name of the aggregation that makes a task's score of a metric's values.

    A function of the task's own has its own name, as in `aggregation_name`.
    """
    import lm_eval.api.metrics  # noqa: F401  fills the registries
    from lm_eval.api.registry import get_metric_aggregation

    for declared in config.get("metric_list") or ():
        if _metric_name(declared["metric"]) == metric and "aggregation" in declared:
            named = declared["aggregation"]
            return named if isinstance(named, str) else aggregation_name(named)
    return aggregation_name(get_metric_aggregation(metric))


def aggregation_name(function: Any) -> str:
    """Return the name of an aggregating function in lm-eval, else the function's own.

    Where a task names no function, lm-eval takes the mean.
    """
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    if function is None:
        return "mean"
    registered = (name for name in AGGREGATION_REGISTRY if AGGREGATION_REGISTRY[name] is function)
    return next(registered, None) or _own_name(function)


def _own_name(function: Any) -> str:
    if isinstance(function, functools.partial):
        return _own_name(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _metric_name(metric: Any) -> str:
    return metric if isinstance(metric, str) else str(metric.__name__)


def _built_in() -> Path:
    package = importlib.util.find_spec("lm_eval")
    if package is None or package.origin is None:
        raise ImportError("lm_eval is not installed")
    return Path(package.origin).parent / "tasks"
