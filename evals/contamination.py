"""Items of an evaluation that the model may have seen in training: which, and the scores without them."""

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


class Part(Record):
    """The score on some of a task's items; None if there are none."""

    n: int
    score: float | None
    stderr: float | None


class DirtyItem(Record):
    """An item that shares an N-gram with the text.

    Attributes:
        words: of the item; `covered` of them lie in shared N-grams, `longest` of these in one stretch.
        found_in: a document for each source of the text that has one.
    """

    words: int
    covered: int
    longest: int
    found_in: dict[str, str]


class TaskContamination(Record):
    """A task's score on the items that the text shares N-grams with, and on the others.

    Attributes:
        ngram: words of an N-gram.
        short: items of fewer words, of which nothing can be said.
        unknown: items that the data no longer have.
        items: the dirty ones by id.
    """

    task: str
    suite: str
    metric: str
    ngram: int
    all: Part
    clean: Part
    dirty: Part
    short: Part
    unknown: int
    items: dict[str, DirtyItem]


class Contamination(Record):
    """An evaluation held against a text.

    Attributes:
        text: documents by source of the text.
        not_searched: tasks of the evaluation whose items could not be read, with the reason.
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
    """Scores of an evaluation on clean and on dirty items.

    Args:
        overlaps: by task, what `evals.overlap.find_overlaps` found of its items.
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
        UsageError: it is not there, or damaged.
    """
    place = file / FILE if file.is_dir() else file
    try:
        return Contamination.model_validate_json(place.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no contamination.json"
        raise UsageError(f"{place}: {reason}", hint="cpt eval contamination RESULTS makes one.") from error


def drop_dirty_items(results: Results, found: Contamination) -> Results:
    """The evaluation as if it had never had the dirty items; a task with none left is gone.

    The dirty items of one model's training text are taken out of another's results too, so that both are
    compared on the same items.
    """
    dirty = {task.task: frozenset(task.items) for task in found.tasks}
    items = {
        name: kept
        for name, each in results.items.items()
        if (kept := _chosen(each, [id not in dirty.get(name, ()) for id in each.ids])).ids
    }
    tasks = tuple(_again(score, items[score.task]) for score in results.tasks if score.task in items)
    return results.model_copy(update={"tasks": tasks, "items": items, "averages": averages(tasks)})


def sources(task: TaskContamination) -> Counter[str]:
    """How many of a task's dirty items each source of the text has."""
    return Counter(source for item in task.items.values() for source in item.found_in)


def _task(score: TaskScore, items: Items, overlaps: TaskOverlaps) -> TaskContamination:
    found = overlaps.items
    verdicts = [found[id].verdict if id in found else None for id in items.ids]
    parts = {
        verdict: _part(_chosen(items, [each == verdict for each in verdicts]))
        for verdict in ("clean", "dirty", "short")
    }
    dirty = {id: each for id, each in found.items() if each.verdict == "dirty"}
    return TaskContamination(
        task=score.task,
        suite=score.suite,
        metric=score.metric,
        ngram=overlaps.n,
        all=Part(n=score.n, score=score.score, stderr=score.stderr),
        **parts,
        unknown=verdicts.count(None),
        items={
            id: DirtyItem(
                words=each.words, covered=each.covered, longest=each.longest, found_in=dict(each.found_in)
            )
            for id, each in dirty.items()
        },
    )


def _part(items: Items) -> Part:
    if not items.ids:
        return Part(n=0, score=None, stderr=None)
    return Part(
        n=len(items.ids),
        score=aggregate(items.aggregation, items.values),
        stderr=standard_error(items.aggregation, items.values, items.clusters),
    )


def _again(score: TaskScore, items: Items) -> TaskScore:
    """A task's score on some of its items; its other metrics are not known of them."""
    if len(items.ids) == score.n:
        return score
    part = _part(items)
    return score.model_copy(update={"n": part.n, "score": part.score, "stderr": part.stderr, "others": {}})


def _chosen(items: Items, choice: Sequence[bool]) -> Items:
    """The chosen ones of a task's items, with all that is said of each."""
    per_item = {name: value for name, value in items if isinstance(value, tuple)}
    return items.model_copy(
        update={
            name: tuple(each for each, wanted in zip(value, choice, strict=True) if wanted)
            for name, value in per_item.items()
        }
    )
