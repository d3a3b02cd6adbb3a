"""`cpt eval contamination`: which items of an evaluation occur in the training text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.inputs import (
    corpus_folder,
    documents_of,
    file_of,
    leaving_hub_alone,
    training_documents,
)
from cpt.cli.evaluating.options import DEFAULT_RESULTS, Data, Offline, Results
from cpt.cli.evaluating.progress import Shown, shown
from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.cli.tokenizer.report import short
from cpt.errors import UsageError
from cpt.recipe.files import write_json

if TYPE_CHECKING:
    from evals.contamination import Contamination, Part
    from evals.preparation import Prepared
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
            "--text", metavar="[NAME=]FILE", help="Other text that the model has read. May be repeated."
        ),
    ] = None,
    data: Data = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", metavar="FILE", help="A suite of one's own that was evaluated."),
    ] = None,
    ngram: Annotated[
        int | None,
        typer.Option(
            "--ngram",
            metavar="N",
            min=2,
            help="Words that must be shared; by each task's items, 8 to 13, if left out.",
        ),
    ] = None,
    offline: Offline = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Look for the items of an evaluation in a training text, and score those that it has not apart.

    An item that shares N words in a row with the text is dirty. The result is kept beside the evaluation's
    (contamination.json); cpt eval compare --clean CONTAMINATION leaves dirty items out.

    Example: cpt eval contamination medical-1a2b3c4d --corpus runs/medical --data DIR
    """
    from cpt.cli.evaluating.folders import find_folder
    from evals.contamination import FILE
    from evals.result_files import load_results

    if not corpus and not text:
        raise UsageError("there is no text to look in", hint="Name a run by --corpus, or files by --text.")
    folder = find_folder(evaluation, results)
    corpora = [corpus_folder(place) for place in corpus or ()]
    with shown(kept=False) as view, leaving_hub_alone(offline):
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
) -> tuple[list[Prepared], dict[str, str]]:
    """The evaluation's tasks over the very data that they were scored on, and why others cannot be read.

    Args:
        files: suites of the user's own.
    """
    from evals.caches import data_cache
    from evals.catalogue import select, suites
    from evals.preparation import prepare

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
    prepared: Sequence[Prepared],
    reasons: dict[str, str],
    documents: Iterable[tuple[str, str, str]],
    ngram: int | None,
    view: Shown,
) -> Contamination:
    from evals.contamination import contaminated
    from evals.documents import item_texts
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
    return contaminated(evaluation, overlaps, counted, reasons)


def _documents(
    corpora: Sequence[Path], texts: Mapping[str, str], view: Shown
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
    from evals.contamination import sources

    searched = ", ".join(f"{name} ({count:,} documents)" for name, count in found.text.items())
    console.print(Text.assemble((found.model, "bold"), f"  looked for in {searched}"), soft_wrap=True)
    table = rows("suite", "task", "N#", "all#", "clean#", "dirty#", "too short#", "unknown#", "found in")
    for task in found.tasks:
        parts = (_part(part) for part in (task.all, task.clean, task.dirty, task.short))
        where = ", ".join(f"{short(name)} {count:,}" for name, count in sources(task).most_common())
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


def _part(part: Part) -> str:
    """Score, error and number of items."""
    if part.score is None:
        return ""
    error = "" if part.stderr is None else f" ±{part.stderr:.3f}"
    return f"{part.score:.3f}{error} ({part.n:,})"
