"""Score an evaluation with and without the items that occur in a training text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from cpt.errors import UsageError
from evals.metrics import aggregate, standard_error
from evals.overlap import TaskOverlaps
from evals.results import Items, Record, Results, TaskScore, averages

FILE = "contamination.json"


class PartScore(Record):
    """Score on some of a task's items; None if there are none."""

    n: int
    score: float | None
    stderr: float | None


class DirtyItem(Record):
    """An item that shares an N-gram with the text.

    Attributes:
        words: Number of words of the item.
        covered: Number of its words in shared N-grams.
        longest: Number of words of the longest shared stretch.
        found_in: Document that shares an N-gram, by source of the text.
    """

    words: int
    covered: int
    longest: int
    found_in: dict[str, str]


class TaskContamination(Record):
    """A task's score on the items that share N-grams with the text, and on the others.

    Attributes:
        ngram: Number of words of an N-gram.
        short: Score on items of fewer words, which may be dirty or clean.
        unknown: Number of items that the data no longer have.
        items: Dirty items by id.
    """

    task: str
    suite: str
    metric: str
    ngram: int
    all: PartScore
    clean: PartScore
    dirty: PartScore
    short: PartScore
    unknown: int
    items: dict[str, DirtyItem]


class Contamination(Record):
    """Contamination of an evaluation by a text.

    Attributes:
        text: Number of documents by source of the text.
        not_searched: Reason why a task's items could not be read, by task.
    """

    model: str
    fingerprint: str
    text: dict[str, int]
    tasks: tuple[TaskContamination, ...]
    not_searched: dict[str, str]


def score_contamination(
    results: Results,
    overlaps: Mapping[str, TaskOverlaps],
    text: Mapping[str, int],
    not_searched: Mapping[str, str],
) -> Contamination:
    """Score an evaluation on clean and on dirty items.

    Args:
        results: Evaluation.
        overlaps: Overlaps of the items with the text (`evals.overlap.find_overlaps`), by task.
        text: Number of documents by source of the text.
        not_searched: Reason why a task's items could not be read, by task.
    """
    return Contamination(
        model=results.model,
        fingerprint=results.fingerprint,
        text=dict(text),
        tasks=tuple(
            _task(score, results.items[score.task], overlaps[score.task])
            for score in results.tasks
            if score.task in overlaps
        ),
        not_searched={
            **not_searched,
            **{
                score.task: "the data have none of the items that were evaluated"
                for score in results.tasks
                if score.task not in overlaps and score.task not in not_searched
            },
        },
    )


def read_contamination(file: Path) -> Contamination:
    """Read the result of `cpt eval contamination`; a folder stands for the file in it.

    Raises:
        UsageError: It does not exist, or is damaged.
    """
    place = file / FILE if file.is_dir() else file
    try:
        return Contamination.model_validate_json(place.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no contamination.json"
        raise UsageError(f"{place}: {reason}", hint="cpt eval contamination RESULTS makes one.") from error


def drop_dirty_items(results: Results, found: Contamination) -> Results:
    """Return an evaluation without its dirty items; a task with none left is dropped.

    The dirty items of one model's training text are dropped from another's results too, so that both are
    compared on the same items.
    """
    dirty = {task.task: frozenset(task.items) for task in found.tasks}
    items = {
        name: kept
        for name, each in results.items.items()
        if (kept := _select(each, [id not in dirty.get(name, ()) for id in each.ids])).ids
    }
    tasks = tuple(_rescore(score, items[score.task]) for score in results.tasks if score.task in items)
    return results.model_copy(update={"tasks": tasks, "items": items, "averages": averages(tasks)})


def dirty_by_source(task: TaskContamination) -> Counter[str]:
    """Count a task's dirty items by source of the text."""
    return Counter(source for item in task.items.values() for source in item.found_in)


def _task(score: TaskScore, items: Items, overlaps: TaskOverlaps) -> TaskContamination:
    found = overlaps.items
    verdicts = [found[id].verdict if id in found else None for id in items.ids]
    parts = {
        verdict: _part(_select(items, [each == verdict for each in verdicts]))
        for verdict in ("clean", "dirty", "short")
    }
    dirty = {id: each for id, each in found.items() if each.verdict == "dirty"}
    return TaskContamination(
        task=score.task,
        suite=score.suite,
        metric=score.metric,
        ngram=overlaps.n,
        all=PartScore(n=score.n, score=score.score, stderr=score.stderr),
        **parts,
        unknown=verdicts.count(None),
        items={
            id: DirtyItem(
                words=each.words, covered=each.covered, longest=each.longest, found_in=dict(each.found_in)
            )
            for id, each in dirty.items()
        },
    )


def _part(items: Items) -> PartScore:
    if not items.ids:
        return PartScore(n=0, score=None, stderr=None)
    return PartScore(
        n=len(items.ids),
        score=aggregate(items.aggregation, items.values),
        stderr=standard_error(items.aggregation, items.values, items.clusters),
    )


def _rescore(score: TaskScore, items: Items) -> TaskScore:
    """Score a task on some of its items; its other metrics are unknown for them."""
    if len(items.ids) == score.n:
        return score
    part = _part(items)
    return score.model_copy(update={"n": part.n, "score": part.score, "stderr": part.stderr, "others": {}})


def _select(items: Items, choice: Sequence[bool]) -> Items:
    """Return some of a task's items, with all their fields."""
    per_item = {name: value for name, value in items if isinstance(value, tuple)}
    return items.model_copy(
        update={
            name: tuple(each for each, wanted in zip(value, choice, strict=True) if wanted)
            for name, value in per_item.items()
        }
    )
