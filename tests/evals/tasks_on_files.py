"""Tasks of this package over small files in a data set's own form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.metrics import register
from evals.preparation import prepare
from evals.registry import Entry, Suite


def task_on_files(folder: Path, name: str, source: str, metric: str, **entry: Any) -> Any:
    """A task as lm-eval runs it, over the files that lie in `folder`/data."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    register()
    datasets.disable_progress_bars()
    entries = (Entry(task=name, source=source, metric=metric, **entry),)
    suite = Suite(name="few", about="A few items.", tasks=entries)
    ready, left_out = prepare([(suite, "full")], folder / "data", folder / "cache", offline=True)
    assert not left_out, left_out[0].why
    return ConfigurableTask(config=ready[0].config)


def prompts(task: Any) -> list[str]:
    """What the model reads of every item, the examples before it included."""
    return [task.fewshot_context(doc, num_fewshot=task.config.num_fewshot or 0) for doc in task.eval_docs]


def chosen(task: Any, choices: Sequence[int]) -> dict[str, float]:
    """Scores if of each item's choices the one with a number is the likeliest."""
    answers = [
        [(-1.0 if place == choice else -2.0, False) for place in range(len(task.doc_to_choice(doc)))]
        for doc, choice in zip(task.eval_docs, choices, strict=True)
    ]
    return _scores(task, answers)


def written(task: Any, texts: Sequence[str]) -> dict[str, float]:
    """Scores if the model writes a text for each item."""
    return _scores(task, [[text] for text in texts])


def _scores(task: Any, answers: Sequence[Any]) -> dict[str, float]:
    found = [task.process_results(doc, answer) for doc, answer in zip(task.eval_docs, answers, strict=True)]
    return {name: task.aggregation()[name]([values[name] for values in found]) for name in found[0]}
