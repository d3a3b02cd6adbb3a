"""Evaluations made up for the tests of what is made of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.results import Items, Results, TaskScore


def made_results(model: str, tasks: Mapping[str, Sequence[Any]], **changes: Any) -> Results:
    """An evaluation of tasks named SUITE/GROUP/TASK with these values; items are numbered."""
    scores, items = [], {}
    for name, values in tasks.items():
        suite, group, task = name.split("/")
        right = np.array(values, dtype=float)
        scores.append(
            TaskScore(
                task=task,
                suite=suite,
                group=group,
                metric="acc",
                higher_is_better=True,
                n=len(right),
                score=float(right.mean()),
                stderr=float(right.std(ddof=1) / len(right) ** 0.5) if len(right) > 1 else None,
            )
        )
        items[task] = Items(ids=tuple(map(str, range(len(right)))), values=tuple(right.tolist()))
    made = Results(
        model=model,
        fingerprint=model * 2,
        suites={name.split("/")[0]: "quick" for name in tasks},
        settings={"precision": "fp32"},
        versions={"lm-eval": "0.4.13"},
        when="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        tasks=tuple(scores),
        items=items,
    )
    return made.model_copy(update=changes)


def with_task(results: Results, task: str, **changes: Any) -> Results:
    """The evaluation with one task's score changed."""
    tasks = tuple(
        score.model_copy(update=changes) if score.task == task else score for score in results.tasks
    )
    return results.model_copy(update={"tasks": tasks})


def with_items(results: Results, task: str, **changes: Any) -> Results:
    """The evaluation with one task's items changed."""
    changed = results.items[task].model_copy(update=changes)
    return results.model_copy(update={"items": {**results.items, task: changed}})


def right_and_wrong(
    generator: np.random.Generator, n: int, won: float, lost: float, share: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Answers of two models, [n] 0 or 1 each: B alone right on a share `won`, A alone on a share `lost`."""
    drawn = generator.random(n)
    both = (drawn - won - lost) / (1 - won - lost) < share
    a = np.where(drawn < won, 0, np.where(drawn < won + lost, 1, both))
    b = np.where(drawn < won, 1, np.where(drawn < won + lost, 0, both))
    return a.astype(float), b.astype(float)
