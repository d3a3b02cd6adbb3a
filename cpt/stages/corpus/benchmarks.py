"""Read the items of benchmarks that a recipe names, and remove them from training text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import DataError, Problem, StageFailed
from cpt.references import resolve_file, unchanged
from cpt.stages.base import Context
from cpt.stages.corpus.config import Decontamination
from cpt.stages.evaluate.suites import suite_problems, suite_references

if TYPE_CHECKING:
    from cpt.corpus.examples import Example
    from cpt.corpus.index import SourceCounts
    from cpt.progress import Progress
    from evals.answered_questions import AnsweredQuestions
    from evals.item_search import ItemSearch
    from evals.preparation import PreparedTask
    from evals.registry import Entry
    from evals.results import LeftOut

Items = dict[str, dict[str, tuple[str, ...]]]
"""Texts of items by id, by task: prompt and right answers, or the texts in a line of a file."""

_MOST_PROBLEMS = 10

_NAMED = 3
"""Number of tasks that a message names; all are in `artifact.json`. A suite can lack dozens."""


def benchmark_references(wanted: Decontamination) -> list[str]:
    """Return the files and the folder that items are read from."""
    return [*wanted.files, *suite_references(wanted.suites, wanted.data)]


def benchmark_problems(wanted: Decontamination) -> list[Problem]:
    """Return the problems of suites, tasks and files, as far as files tell."""
    problems = suite_problems(wanted.suites, wanted.data)
    if wanted.tasks:
        from evals.task_files import task_files

        known = task_files()
        for place, name in enumerate(wanted.tasks):
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"Did you mean `{near[0]}`?" if near else None
                problems.append(Problem(f"there is no task `{name}`", key=f"tasks.{place}", hint=hint))
    for place, reference in enumerate(wanted.files):
        if Path(reference).is_file() or Path(reference).is_dir():
            found = (each for each in _read_file(Path(reference)) if isinstance(each, Problem))
            problems += [replace(problem, key=f"files.{place}") for problem in found]
    return [replace(problem, key=f"decontaminate.{problem.key}") for problem in problems]


@dataclass(frozen=True)
class Benchmarks:
    """The items of benchmarks that a recipe names.

    Attributes:
        tasks: Items of suites and tasks.
        files: Items of files, by the files' references.
        not_searched: Reason why a task's items could not be read, by task.
    """

    tasks: Items
    files: Items
    not_searched: Mapping[str, str]

    def questions(self) -> AnsweredQuestions:
        """Return the items' questions with their answers."""
        from evals.answered_questions import AnsweredQuestions

        return AnsweredQuestions({**self.tasks, **self.files})

    def search(self, ngram: int) -> ItemSearch:
        """Return a search for n-grams of the items."""
        from evals.item_search import ItemSearch

        joined = {
            task: {id: "\n".join(texts) for id, texts in items.items()}
            for task, items in {**self.tasks, **self.files}.items()
        }
        return ItemSearch(joined, ngram, without_prompt=frozenset(self.files))


def read_benchmarks(wanted: Decontamination, context: Context) -> Benchmarks:
    """Read the items of benchmarks, and report the tasks whose items are not at hand."""
    files = _file_items(wanted, context)
    tasks, not_searched = _task_items(wanted)
    for why in dict.fromkeys(not_searched.values()):
        alike = [task for task, reason in not_searched.items() if reason == why]
        more = f" and {len(alike) - _NAMED:,} more" if len(alike) > _NAMED else ""
        context.progress.message(
            f"benchmark items not searched for: {', '.join(alike[:_NAMED])}{more}: {why}"
        )
    return Benchmarks(tasks, files, not_searched)


def remove_benchmarks(
    benchmarks: Benchmarks,
    wanted: Decontamination,
    corpus: Path,
    sources: Mapping[str, SourceCounts],
    progress: Progress,
) -> tuple[dict[str, Any], list[Example]]:
    """Remove the items from the training text of a corpus; write `contamination.jsonl`.

    Args:
        sources: Counts of each source, changed here.

    Returns:
        Counts for `artifact.json`, with the tasks whose items are not at hand, and examples.

    Raises:
        StageFailed: No item of any benchmark could be read, or all are too short.
    """
    from cpt.corpus.decontamination import decontaminate

    search = benchmarks.search(wanted.ngram)
    for task, short in search.short.items():
        if short:
            progress.message(
                f"benchmark items not searched for: {task}: {short:,} of {search.items[task]:,} have fewer "
                f"than {wanted.ngram} words"
            )
    if search.short == search.items:
        raise StageFailed(
            "decontaminate: there is no benchmark item to search for, for the reasons above",
            hint="Name the folder of the data sets (`data`), or lower `ngram`.",
        )
    progress.message(f"searching training text for {sum(search.items.values()):,} benchmark items")
    found, examples = decontaminate(corpus, sources, search, wanted.action, progress)
    facts = {
        "action": wanted.action.kind,
        **found.facts(search),
        "not_searched": dict(benchmarks.not_searched),
    }
    return facts, [example for each in examples for example in each]


def _task_items(wanted: Decontamination) -> tuple[Items, dict[str, str]]:
    """Return the items of suites and tasks, and why those of other tasks cannot be read."""
    if not (wanted.suites or wanted.tasks):
        return {}, {}
    from evals.harness import all_items

    prepared, left_out = _prepare(wanted)
    reasons = {each.task: each.why for each in left_out}
    return all_items(prepared, reasons), reasons


def _prepare(wanted: Decontamination) -> tuple[list[PreparedTask], list[LeftOut]]:
    from evals.local_data import data_cache
    from evals.preparation import prepare
    from evals.registry import Level, Suite, select

    chosen: list[tuple[Suite, Level]] = select(wanted.suites)
    of_suites = {entry.task for suite, level in chosen for entry in suite.at(level)}
    single = tuple(_entry(name) for name in dict.fromkeys(wanted.tasks) if name not in of_suites)
    if single:
        chosen.append((Suite(name="tasks", about="Single tasks.", tasks=single), "full"))
    return prepare(chosen, None if wanted.data is None else Path(wanted.data), data_cache())


def _entry(name: str) -> Entry:
    """Return a task as a suite has it, with its data in their local form; else as lm-eval has it."""
    from evals.registry import Entry, suites
    from evals.task_files import metrics, task_config

    for suite in suites().values():
        for entry in suite.tasks:
            if entry.task == name:
                return entry
    try:
        metric = next(iter(metrics(task_config(name))), "acc")
    except DataError:
        metric = "acc"  # the task is left out with this error's message when it is prepared
    return Entry(task=name, metric=metric)


def _file_items(wanted: Decontamination, context: Context) -> Items:
    """Return the items of files by line, by the files' references.

    Raises:
        DataError: A file has lines that are no items, or changed since the stage was planned.
    """
    from cpt.corpus.documents import data_error

    items: Items = {}
    with unchanged(wanted.files, context.contents):
        for reference in wanted.files:
            found = list(_read_file(resolve_file(reference, context.progress)))
            problems = [each for each in found if isinstance(each, Problem)]
            if problems:
                raise data_error(problems)
            items[reference] = dict(each for each in found if not isinstance(each, Problem))
    return items


def _read_file(file: Path) -> Iterator[tuple[str, tuple[str, ...]] | Problem]:
    """Yield the line number and the texts of each item of a file, or its problems, ten at most."""
    try:
        yield from _read_items(file)
    except OSError as error:  # that of a damaged compressed file does not name it
        yield Problem(f"cannot be read: {error.strerror or error}", file=str(file))


def _read_items(file: Path) -> Iterator[tuple[str, tuple[str, ...]] | Problem]:
    from cpt.corpus.readers.files import decode, open_bytes, read_lines

    problems = items = 0
    with open_bytes(file) as stream:
        for number, raw in enumerate(read_lines(stream, file), start=1):
            line = decode(raw, file, number)
            if isinstance(line, str) and not line.strip():
                continue
            found = line if isinstance(line, Problem) else _item(line)
            if isinstance(found, Problem):
                yield replace(found, file=str(file), line=number)
                problems += 1
                if problems == _MOST_PROBLEMS:
                    return
            else:
                items += 1
                yield str(number), found
    if not items and not problems:
        yield Problem("holds no items", file=str(file))


def _item(line: str) -> tuple[str, ...] | Problem:
    try:
        texts = tuple(_texts(json.loads(line)))
    except (ValueError, RecursionError) as error:
        return Problem(f"not valid JSON: {error}")
    if not any(text.strip() for text in texts):
        return Problem("an item is a JSON object with text in some field")
    return texts


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in an object and in what it holds, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
