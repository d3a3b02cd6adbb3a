"""Turn lm-eval's output of a task into its score with an error, and into the value of every item."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.halves import left_out_of, restrict
from evals.measures import label_names, measure
from evals.metrics import AGGREGATIONS, aggregate, standard_error
from evals.results import Items, TaskScore
from evals.task_files import aggregation_name

if TYPE_CHECKING:
    from evals.preparation import PreparedTask

_EXACT = 1e-9

NAN_MEAN = "nanmean"
"""lm-eval's name for the mean of the items whose value is a number."""


@dataclass(frozen=True)
class TaskOutput:
    """lm-eval's output of a task.

    Attributes:
        task: lm-eval's object.
        results: Scores by "metric,filter".
        samples: Dict with the item (`doc`), the `filter` and metrics' values, for every filter and item.
    """

    task: Any
    results: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]


def sample_indices(total: int, count: int | None, seed: int) -> list[int]:
    """Return the indices of a sample of a task's items, or of all, in ascending order.

    A smaller sample of the same seed is part of a larger one, so that a smaller level is part of a larger.

    Args:
        total: Number of items of the task.
        count: Most items; None for all.
        seed: Seed of the sample.
    """
    return sorted(np.random.default_rng(seed).permutation(total)[:count].tolist())


def limit_items(task: Any, count: int | None, seed: int) -> None:
    """Restrict a task to a sample of at most `count` items."""
    documents = task.eval_docs
    restrict(task, [documents[place] for place in sample_indices(len(documents), count, seed)])


def task_score(prepared: PreparedTask, output: TaskOutput, truncated: int) -> tuple[TaskScore, Items]:
    """Compute a task's score and the values of its items.

    Args:
        prepared: Task of a suite.
        output: lm-eval's output of the task.
        truncated: Number of requests that lost their beginning.

    Raises:
        ValueError: The task has no such metric, none of its items has a value, or `evals.metrics` aggregates
            the values differently.
    """
    entry = prepared.entry
    metric, chosen_filter = _metric(entry.metric, output)
    samples = [sample for sample in output.samples if sample["filter"] == chosen_filter]
    with_value = [sample for sample in samples if metric in sample]
    aggregation = aggregation_name(output.task.aggregation().get(metric))
    if aggregation == NAN_MEAN:
        with_value = [sample for sample in with_value if not math.isnan(sample[metric])]
        aggregation = "mean"
    if not with_value:
        raise ValueError(f"none of its {len(samples):,} items has a value of {metric}")
    values = tuple(_plain(sample[metric]) for sample in with_value)
    score, theirs = aggregate(aggregation, values), float(output.results[f"{metric},{chosen_filter}"])
    if not math.isclose(score, theirs, rel_tol=_EXACT, abs_tol=_EXACT):
        raise ValueError(f"{aggregation} of {metric} is {score!r} here, {theirs!r} in lm-eval")
    clusters = None if entry.cluster is None else tuple(_hash(s["doc"][entry.cluster]) for s in with_value)
    measured = measure(output.task, with_value, clusters)
    left_out = left_out_of(output.task)
    found = TaskScore(
        task=entry.task,
        suite=prepared.suite,
        group=entry.group or entry.task,
        metric=entry.metric,
        higher_is_better=bool(output.task.higher_is_better().get(metric, True)),
        n=len(values),
        score=score,
        stderr=standard_error(aggregation, values, clusters),
        chance=entry.chance,
        majority=_majority(output.task, with_value, values),
        fewshot=int(output.task.get_config("num_fewshot") or 0),
        version=str(output.task.VERSION),
        data=prepared.data,
        others=_others(output.results, f"{metric},{chosen_filter}"),
        note=_note(entry.note, truncated, len(samples) - len(values), left_out),
        left_out=left_out,
        measures=measured.task,
        labels=measured.labels,
    )
    ids = item_ids([sample["doc"] for sample in with_value])
    items = Items(ids=ids, values=values, aggregation=aggregation, clusters=clusters, measures=measured.items)
    return found, items


def _majority(task: Any, samples: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> float | None:
    """Return the share of the most frequent gold label, which a constant answer scores; None without labels.

    Labels are answers that recur: choices that are the same in every item, or texts that each occur four
    times on average. The letters of options are no labels, because their order means nothing.
    """
    if not set(values) <= {0.0, 1.0}:
        return None
    # once each: mutual information asks for them again without the question
    choices = (tuple(dict.fromkeys(str(text) for _, text in s["arguments"])) for s in samples)
    if task.OUTPUT_TYPE == "multiple_choice" and not label_names(list(choices)):
        return None
    counts = Counter(str(sample["target"]) for sample in samples)
    return max(counts.values()) / len(samples) if 4 * len(counts) <= len(samples) else None


def _metric(wanted: str, output: TaskOutput) -> tuple[str, str]:
    """Return the metric and its filter: the one named after a comma, or the first that has the metric."""
    metric, _, chosen = wanted.partition(",")
    filters = dict.fromkeys(
        key.partition(",")[2] for key in output.results if key.partition(",")[0] == metric
    )
    if not filters or (chosen and chosen not in filters):
        known = sorted(key for key in output.results if "," in key and "_stderr" not in key)
        raise ValueError(f"it has no metric {wanted}; it has {', '.join(known)}")
    return metric, chosen or next(iter(filters))


def is_unsupported_aggregation(aggregation: str) -> bool:
    """Return True if scores of resampled items cannot be computed with this aggregation."""
    return aggregation != NAN_MEAN and aggregation not in AGGREGATIONS


def _plain(value: Any) -> Any:
    """Return a value as numbers, texts and tuples of them."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_plain(part) for part in value)
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return float(value)
    return str(value)


def _others(results: Mapping[str, Any], counted: str) -> dict[str, float]:
    """Return the scores by other metrics; the filter is named unless it is the only one."""
    keys = [key for key in results if "," in key and "_stderr," not in key and key != counted]
    names = {key: key.removesuffix(",none") for key in keys}
    return {
        names[key]: float(results[key]) for key in keys if isinstance(results[key], (int, float, np.number))
    }


def _note(note: str | None, truncated: int, without: int, left_out: int) -> str | None:
    parts = [note.removesuffix(".")] if note else []
    if truncated:
        parts.append(f"{truncated:,} requests are longer than the model reads and lost their beginning")
    if without:
        parts.append(f"{without:,} items have no value of this metric and do not count")
    if left_out:
        parts.append(f"{left_out:,} items by which the model was chosen are left out")
    return "; ".join(parts) or None


def item_ids(documents: Sequence[Any]) -> tuple[str, ...]:
    """Return hashes of the items' content; an item that occurs again is numbered."""
    seen: Counter[str] = Counter()
    ids: list[str] = []
    for each in map(_hash, documents):
        seen[each] += 1
        ids.append(each if seen[each] == 1 else f"{each}-{seen[each]}")
    return tuple(ids)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
