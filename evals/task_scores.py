"""From what lm-eval leaves of a task to its score with an error, and to the value of every item."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.metrics import AGGREGATIONS, aggregate, standard_error
from evals.results import Items, TaskScore
from evals.task_files import aggregation_name

if TYPE_CHECKING:
    from evals.preparation import PreparedTask

_EXACT = 1e-9
_OPTION = re.compile(r"\W*\w\W*")

NAN_MEAN = "nanmean"
"""lm-eval's name for the mean of those items whose value is a number."""


@dataclass(frozen=True)
class TaskOutput:
    """A task that lm-eval has run.

    Attributes:
        task: lm-eval's object.
        results: scores by "metric,filter".
        samples: for every filter and item a dict with the item (`doc`), the `filter` and metrics' values.
    """

    task: Any
    results: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]


def sample_indices(total: int, count: int | None, seed: int) -> list[int]:
    """Which of a task's items to take, in ascending order: a sample drawn with the seed, or all.

    Fewer of the same seed are among more, so that a smaller level is part of a larger one.
    """
    return sorted(np.random.default_rng(seed).permutation(total)[:count].tolist())


def limit_items(task: Any, count: int | None, seed: int) -> None:
    """Let a task have only so many of its items."""
    documents = task.eval_docs
    chosen = [documents[place] for place in sample_indices(len(documents), count, seed)]
    # the items stand in for the split: lm-eval asks for it anew at every step, and would read all of it
    name = "test_docs" if task.has_test_docs() else "validation_docs"
    setattr(task, name, lambda: chosen)


def task_score(prepared: PreparedTask, scored: TaskOutput, cut: int) -> tuple[TaskScore, Items]:
    """A task's score and its items.

    Args:
        cut: requests that lost their beginning.

    Raises:
        ValueError: the task has no such metric, none of its items has a value, or `evals.metrics` aggregates
            the values differently.
    """
    entry = prepared.entry
    metric, chosen_filter = _metric(entry.metric, scored)
    samples = [sample for sample in scored.samples if sample["filter"] == chosen_filter]
    with_value = [sample for sample in samples if metric in sample]
    aggregation = aggregation_name(scored.task.aggregation().get(metric))
    if aggregation == NAN_MEAN:
        with_value = [sample for sample in with_value if not math.isnan(sample[metric])]
        aggregation = "mean"
    if not with_value:
        raise ValueError(f"none of its {len(samples):,} items has a value of {metric}")
    values = tuple(_plain(sample[metric]) for sample in with_value)
    score, theirs = aggregate(aggregation, values), float(scored.results[f"{metric},{chosen_filter}"])
    if not math.isclose(score, theirs, rel_tol=_EXACT, abs_tol=_EXACT):
        raise ValueError(f"{aggregation} of {metric} is {score!r} here, {theirs!r} in lm-eval")
    clusters = None if entry.cluster is None else tuple(_hash(s["doc"][entry.cluster]) for s in with_value)
    found = TaskScore(
        task=entry.task,
        suite=prepared.suite,
        group=entry.group or entry.task,
        metric=entry.metric,
        higher_is_better=bool(scored.task.higher_is_better().get(metric, True)),
        n=len(values),
        score=score,
        stderr=standard_error(aggregation, values, clusters),
        chance=entry.chance,
        majority=_majority(scored.task, with_value, values),
        fewshot=int(scored.task.get_config("num_fewshot") or 0),
        version=str(scored.task.VERSION),
        data=prepared.data,
        others=_others(scored.results, f"{metric},{chosen_filter}"),
        note=_note(entry.note, cut, len(samples) - len(values)),
    )
    ids = item_ids([sample["doc"] for sample in with_value])
    return found, Items(ids=ids, values=values, aggregation=aggregation, clusters=clusters)


def _majority(task: Any, samples: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> float | None:
    """Share of the most frequent gold label, which one answer for everything scores; None without labels.

    Labels are answers that recur: choices that are the same in every item, or texts of which each comes four
    times on average. The letters of options are none, as their order says nothing.
    """
    if not set(values) <= {0.0, 1.0}:
        return None
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = {tuple(str(continuation) for _, continuation in s["arguments"]) for s in samples}
        if len(choices) != 1 or all(_OPTION.fullmatch(choice) for choice in next(iter(choices))):
            return None
    counts = Counter(str(sample["target"]) for sample in samples)
    return max(counts.values()) / len(samples) if 4 * len(counts) <= len(samples) else None


def _metric(wanted: str, scored: TaskOutput) -> tuple[str, str]:
    """The metric and the filter whose answers it takes: the first that has it, unless named after a comma."""
    metric, _, chosen = wanted.partition(",")
    filters = dict.fromkeys(
        key.partition(",")[2] for key in scored.results if key.partition(",")[0] == metric
    )
    if not filters or (chosen and chosen not in filters):
        known = sorted(key for key in scored.results if "," in key and "_stderr" not in key)
        raise ValueError(f"it has no metric {wanted}; it has {', '.join(known)}")
    return metric, chosen or next(iter(filters))


def is_unsupported_aggregation(aggregation: str) -> bool:
    """Return True if scores cannot be computed from resamples of items that are aggregated so."""
    return aggregation != NAN_MEAN and aggregation not in AGGREGATIONS


def _plain(value: Any) -> Any:
    """A value as numbers, texts and tuples of them."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_plain(part) for part in value)
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return float(value)
    return str(value)


def _others(results: Mapping[str, Any], counted: str) -> dict[str, float]:
    """The scores by other metrics; the filter is named unless it is the only one."""
    keys = [key for key in results if "," in key and "_stderr," not in key and key != counted]
    names = {key: key.removesuffix(",none") for key in keys}
    return {
        names[key]: float(results[key]) for key in keys if isinstance(results[key], (int, float, np.number))
    }


def _note(said: str | None, cut: int, without: int) -> str | None:
    parts = [said.removesuffix(".")] if said else []
    if cut:
        parts.append(f"{cut:,} requests are longer than the model reads and lost their beginning")
    if without:
        parts.append(f"{without:,} items have no value of this metric and do not count")
    return "; ".join(parts) or None


def item_ids(documents: Sequence[Any]) -> tuple[str, ...]:
    """Hashes of the items' content; an item that occurs again is numbered."""
    seen: Counter[str] = Counter()
    ids: list[str] = []
    for each in map(_hash, documents):
        seen[each] += 1
        ids.append(each if seen[each] == 1 else f"{each}-{seen[each]}")
    return tuple(ids)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
