"""`cpt eval contamination` finds the items of an evaluation that occur in the training text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.inputs import (
    DEFAULT_RESULTS,
    Data,
    Offline,
    Results,
    corpus_folder,
    documents_of,
    file_of,
    offline_if,
    training_documents,
)
from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import ProgressBar, show_progress
from cpt.cli.tokenizer.report import short
from cpt.errors import UsageError
from cpt.json_file import write_json

if TYPE_CHECKING:
    from evals.contamination import Contamination, PartScore
    from evals.preparation import PreparedTask
    from evals.results import Results as Evaluation


def contamination(
    evaluation: Annotated[
        str, typer.Argument(metavar="RESULTS", help="Results of an evaluation: folder, or the model's name.")
    ],
    corpus: Annotated[
        list[Path] | None,
        typer.Option("--corpus", metavar="DIR", help="A run, or its corpus artifact. May be repeated."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", metavar="[NAME=]FILE", help="Other text that the model was trained on. May be repeated."
        ),
    ] = None,
    data: Data = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", metavar="FILE", help="Your own suite that was evaluated."),
    ] = None,
    ngram: Annotated[
        int | None,
        typer.Option(
            "--ngram",
            metavar="N",
            min=2,
            help="Number of shared words in a row; 8 to 13, by each task's items, if left out.",
        ),
    ] = None,
    offline: Offline = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Find the items of an evaluation that occur in a training text, and score the others by themselves.

    An item that shares N words in a row with the text is dirty. The result is written beside the evaluation
    (contamination.json); cpt eval compare --clean CONTAMINATION leaves dirty items out.

    Example: cpt eval contamination medical-1a2b3c4d --corpus runs/medical --data DIR
    """
    from evals.contamination import FILE
    from evals.result_folders import find_folder, load_results

    if not corpus and not text:
        raise UsageError("there is no text to look in", hint="Name a run by --corpus, or files by --text.")
    folder = find_folder(evaluation, results)
    corpora = [corpus_folder(place) for place in corpus or ()]
    with show_progress(resumable=False) as view, offline_if(offline):
        texts = named_texts(text or ())
        for reference in texts.values():
            file_of(reference, view)
        scored = load_results(folder)
        prepared, reasons = _prepared(scored, suite or (), data, offline)
        found = _search(scored, prepared, reasons, _documents(corpora, texts, view), ngram, view)
    write_json(folder / FILE, found.model_dump(mode="json"))
    if as_json:
        return print_json(found.model_dump(mode="json"))
    return _print(out(), found, folder / FILE)


def _prepared(
    evaluation: Evaluation, files: Sequence[str], data: Path | None, offline: bool
) -> tuple[list[PreparedTask], dict[str, str]]:
    """Return the evaluation's tasks over the data that they were scored on, and why others cannot be read.

    Args:
        evaluation: Evaluation.
        files: Suites of the user's own.
        data: Folder of the user's data sets.
        offline: Use of the hub only as far as it was used before.
    """
    from evals.local_data import data_cache
    from evals.preparation import prepare
    from evals.registry import select, suites

    own = select(f"{file}:full" if file.endswith((".yaml", ".yml")) else file for file in files)
    known = {**suites(), **{suite.name: suite for suite, _ in own}}
    chosen = [(known[name], "full") for name in evaluation.suites if name in known]
    prepared, left_out = prepare(chosen, data, data_cache(), offline=offline)  # type: ignore[arg-type]
    now = {each.entry.task: each.data for each in prepared}
    why_not = {each.task: each.why for each in left_out}
    reasons: dict[str, str] = {}
    for task in evaluation.tasks:
        if task.task in why_not:
            reasons[task.task] = why_not[task.task]
        elif task.task not in now:
            reasons[task.task] = f"no suite {task.suite} with this task is known; name its file by --suite"
        elif now[task.task] != task.data:
            reasons[task.task] = (
                f"it was scored on other data ({task.data}) than there are ({now[task.task]})"
            )
    return [each for each in prepared if each.entry.task not in reasons], reasons


def _search(
    evaluation: Evaluation,
    prepared: Sequence[PreparedTask],
    reasons: dict[str, str],
    documents: Iterable[tuple[str, str, str]],
    ngram: int | None,
    view: ProgressBar,
) -> Contamination:
    from evals.contamination import score_contamination
    from evals.harness import item_texts
    from evals.overlap import find_overlaps

    counted: Counter[str] = Counter()

    def counting() -> Iterator[tuple[str, str, str]]:
        for each in documents:
            counted[each[0]] += 1
            yield each

    wanted = {task: items.ids for task, items in evaluation.items.items()}
    items = item_texts(prepared, wanted, reasons)
    overlaps = find_overlaps(
        items, counting(), n=ngram, on_progress=lambda done: view.update(done, None, "documents")
    )
    return score_contamination(evaluation, overlaps, counted, reasons)


def _documents(
    corpora: Sequence[Path], texts: Mapping[str, str], view: ProgressBar
) -> Iterator[tuple[str, str, str]]:
    for corpus in corpora:
        yield from training_documents(corpus)
    for name, reference in texts.items():
        removed: dict[str, int] = {}
        for document in documents_of(reference, removed, view):
            yield name, document.id, document.text
        for reason, count in removed.items():
            view.message(f"{name}: {count:,} entries left out: {reason}")


def _print(console: Console, found: Contamination, file: Path) -> None:
    from evals.contamination import dirty_by_source

    searched = ", ".join(f"{name} ({count:,} documents)" for name, count in found.text.items())
    console.print(Text.assemble((found.model, "bold"), f"  looked for in {searched}"), soft_wrap=True)
    table = rows("suite", "task", "N#", "all#", "clean#", "dirty#", "too short#", "unknown#", "found in")
    for task in found.tasks:
        parts = (_part(part) for part in (task.all, task.clean, task.dirty, task.short))
        where = ", ".join(f"{short(name)} {count:,}" for name, count in dirty_by_source(task).most_common())
        table.add_row(
            "",
            task.suite,
            task.task,
            f"{task.ngram}",
            *parts,
            f"{task.unknown:,}" if task.unknown else "",
            where,
        )
    console.print(table)
    for task_name, why in found.not_searched.items():
        console.print(Text(f"  not searched: {task_name}: {why}", style="dim"), soft_wrap=True)
    console.print(str(file), soft_wrap=True)


def _part(part: PartScore) -> str:
    """Format score, error and number of items."""
    if part.score is None:
        return ""
    error = "" if part.stderr is None else f" ±{part.stderr:.3f}"
    return f"{part.score:.3f}{error} ({part.n:,})"
