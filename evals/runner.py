"""Run multiple-choice tasks through lm-eval, offline, on items that lie in local files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from evals.multiple_choice import Item, write_items

TEMPLATE = Path(__file__).parent / "tasks" / "multiple_choice.yaml"


@dataclass(frozen=True)
class ItemScores:
    """Whether a model got each item right, in the items' order.

    Attributes:
        acc: [items] 0 or 1; the choice with the highest likelihood is taken.
        acc_norm: the same with likelihoods per character, so that short choices have no advantage.
    """

    acc: np.ndarray
    acc_norm: np.ndarray


def task_config(name: str, items_file: Path, cache: Path) -> dict[str, Any]:
    """lm-eval's configuration of a task over a file of items; `cache` receives its copy of the data."""
    config: dict[str, Any] = YAML(typ="safe").load(TEMPLATE)
    data = {"data_files": {"test": str(items_file.absolute())}, "cache_dir": str(cache.absolute())}
    return {**config, "task": name, "dataset_kwargs": data}


def score_items(lm: Any, tasks: Mapping[str, Sequence[Item]], work: Path) -> dict[str, ItemScores]:
    """Scores of a model on tasks.

    Args:
        lm: an lm-eval model.
        tasks: items by the task's name.
        work: scratch folder.
    """
    if not tasks:
        return {}
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    work.mkdir(parents=True, exist_ok=True)
    configs = []
    for name, items in tasks.items():
        write_items(items, work / f"{name}.jsonl")
        configs.append(task_config(name, work / f"{name}.jsonl", work / "cache"))
    loaded = TaskManager(include_defaults=False).load(configs)
    results = evaluate(lm, loaded, bootstrap_iters=0, log_samples=True)
    return {name: _item_scores(results["samples"][name]) for name in tasks}


def _item_scores(samples: Sequence[Mapping[str, Any]]) -> ItemScores:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    acc, acc_norm = (
        np.array([float(sample[metric]) for sample in ordered]) for metric in ("acc", "acc_norm")
    )
    return ItemScores(acc, acc_norm)
