"""`cpt eval run` scores models on suites; `cpt eval suites` lists the suites and what of them can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.inputs import (
    DEFAULT_RESULTS,
    Data,
    Models,
    Offline,
    Precision,
    Suites,
    check_choice,
    check_precision,
    offline_if,
)
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import ProgressBar, show_progress
from cpt.formatting import duration
from cpt.references import resolve_model
from evals.registry import LEVELS, SEED

if TYPE_CHECKING:
    from evals.preparation import PreparedTask
    from evals.registry import Entry, Level, Suite
    from evals.results import LeftOut, Results


def run(
    models: Models,
    suite: Suites,
    data: Data = None,
    output: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder that receives a folder of results for each model."),
    ] = DEFAULT_RESULTS,
    precision: Precision = "auto",
    start_token: Annotated[
        str,
        typer.Option(
            "--start-token",
            metavar="TOKEN",
            help="Token before every prompt; auto for the tokenizer's own, none for nothing.",
        ),
    ] = "auto",
    chat: Annotated[
        bool, typer.Option("--chat", metavar="", help="Put prompts into the model's chat template.")
    ] = False,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="Library that computes: hf, or vllm (an extra).")
    ] = "hf",
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch-tokens", metavar="N", min=1, help="Tokens that go through the model at once."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", help="Seed of the items that a level takes, and of examples."),
    ] = SEED,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Score models on suites: the same items for every model, each score with its standard error.

    Answers are kept, so that an interrupted evaluation continues and a repeated one is fast. Results of other
    suites, of the same model with the same settings, stay in its folder.

    Example: cpt eval run HuggingFaceTB/SmolLM2-135M --suite medical:smoke --suite general:smoke --data DIR
    """
    from evals.evaluation import prepare_suites
    from evals.models.backends import Backend

    check_precision(precision)
    check_choice("--backend", backend, get_args(Backend))
    settings = {
        "precision": precision,
        "start_token": None if start_token == "none" else start_token,
        "chat": chat,
        "backend": backend,
        "batch_tokens": batch_tokens,
        "seed": seed,
    }
    with show_progress(resumable=True) as view, offline_if(offline):
        prepared, left_out = prepare_suites(suite, data, offline=offline)
        for model in models:
            resolve_model(model, view)  # a wrong name is reported before hours of work
        found = [_evaluate(model, prepared, left_out, settings, output, view) for model in models]
    if as_json:
        facts = [as_facts(results, folder) for folder, results in found]
        return print_json(facts[0] if len(facts) == 1 else {"models": facts})
    for folder, results in found:
        print_results(out(), results, folder)
    return None


def _evaluate(
    model: str,
    prepared: Sequence[PreparedTask],
    left_out: Sequence[LeftOut],
    settings: dict[str, Any],
    output: Path,
    view: ProgressBar,
) -> tuple[Path, Results]:
    """Return a model's results and the folder that now holds them, together with those of other suites."""
    from evals.evaluation import evaluate_tasks, require_scores
    from evals.models.request_cache import answer_cache
    from evals.result_folders import save_combined

    view.message(f"{model}: {len(prepared)} tasks, {len(left_out)} left out")
    results = evaluate_tasks(
        model,
        prepared,
        left_out,
        cache=answer_cache(),
        on_progress=lambda done, total: view.update(done, total, "requests"),
        on_message=view.message,
        **settings,
    )
    require_scores(results)
    return save_combined(results, output), results


def as_facts(results: Results, folder: Path) -> dict[str, Any]:
    """Return results as `--json` prints them: without the items, which the folder holds."""
    facts = results.model_dump(mode="json", exclude={"items", "tasks"})
    tasks = {task.task: task.model_dump(mode="json", exclude={"task"}) for task in results.tasks}
    return {**facts, "tasks": tasks, "folder": str(folder)}


def print_results(console: Console, results: Results, folder: Path) -> None:
    """Print a model's scores as a table, then the tasks left out."""
    console.print(
        Text.assemble(
            (results.model, "bold"), (f"  {results.fingerprint[:8]}  {duration(results.seconds)}", "dim")
        )
    )
    table = rows("suite", "task", "metric", "score#", "±#", "chance#", "n#", "")
    for suite, level in results.suites.items():
        for task in (task for task in results.tasks if task.suite == suite):
            chance = "" if task.chance is None else f"{task.chance:.3f}"
            figures = f"{task.score:.4f}", _stderr(task.stderr), chance, f"{task.n:,}"
            table.add_row("", suite, task.task, task.metric, *figures, Text(task.note or "", style="dim"))
        average = results.averages.get(suite)
        if average is not None:
            heading = Text(f"{suite}:{level}", style="bold"), Text("macro average", style="bold")
            score = Text(f"{average.score:.4f}", style="bold")
            averaged = [task for task in results.tasks if task.suite == suite and task.higher_is_better]
            lacking = sum(each.suite == suite for each in results.left_out) + len(average.excluded)
            over = f"over {average.groups} groups, {len(averaged)} of {len(averaged) + lacking} tasks"
            table.add_row("", *heading, "", score, _stderr(average.stderr), "", "", Text(over, style="dim"))
    console.print(table)
    for each in results.left_out:
        console.print(Text(f"  left out: {each.suite} {each.task}: {each.why}", style="dim"), soft_wrap=True)
    console.print(str(folder), soft_wrap=True)


def _stderr(stderr: float | None) -> str:
    return "" if stderr is None else f"{stderr:.4f}"


def suites(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Suites to show task by task.")
    ] = None,
    data: Data = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """List the suites. List the tasks of named suites with data and licence, and say which can run here.

    Example: cpt eval suites medical --data DIR --offline
    """
    from evals.registry import select
    from evals.registry import suites as all_suites

    chosen = [suite for suite, _ in select(names)] if names else list(all_suites().values())
    if names or as_json:
        found = [_facts(suite, data, offline) for suite in chosen]
        return print_json(found) if as_json else _print_tasks(out(), found)
    return _print_suites(out(), chosen)


def _facts(suite: Suite, data: Path | None, offline: bool) -> dict[str, Any]:
    from evals.local_data import DataFolder, data_cache
    from evals.preparation import prepare

    prepared, left_out = prepare([(suite, "full")], data, data_cache(), offline=offline)
    origins = {each.entry.task: each.data for each in prepared}
    reasons = {each.task: each.why for each in left_out}
    folder = None if data is None else DataFolder(data)
    return {
        "name": suite.name,
        "about": suite.about,
        "levels": {level: _level(suite, level) for level in LEVELS},
        "tasks": [
            {
                **entry.model_dump(),
                "runs": entry.task in origins,
                "data": origins.get(entry.task),
                "why_not": reasons.get(entry.task),
                **_data(entry, folder),
            }
            for entry in suite.tasks
        ],
    }


def _level(suite: Suite, level: Level) -> dict[str, int | None]:
    """Count the tasks of a level and the most items that they take together; None for all items."""
    items = [entry.items(level) for entry in suite.at(level)]
    return {"tasks": len(items), "items": sum(n for n in items if n is not None) if level != "full" else None}


def _data(entry: Entry, folder: Any) -> dict[str, Any]:
    """Return the data set in its local form: title, licence, origin, and the files with their checksums."""
    from evals.local_data import file_checksum
    from evals.preparation import source_of

    local = source_of(entry)
    if local is None:
        return {"title": None, "licence": None, "origin": None, "files": {}, "looked_for": []}
    source, part = local
    files = folder.find(source, part).files.values() if folder is not None else ()
    return {
        "title": source.title,
        "licence": source.licence,
        "origin": source.origin,
        "files": {str(file): file_checksum(file) for file in files},
        "looked_for": list(source.endings(part).values()),
    }


def _print_suites(console: Console, chosen: Sequence[Suite]) -> None:
    table = rows("suite", *(f"{level}#" for level in LEVELS), "about")
    for suite in chosen:
        table.add_row("", suite.name, *(_size(_level(suite, level)) for level in LEVELS), suite.about)
    console.print(table)
    console.print("Items/tasks of each level. `cpt eval suites NAME --data DIR` shows the tasks.")


def _size(level: Mapping[str, int | None]) -> str:
    return f"{level['tasks']}" if level["items"] is None else f"{level['items']:,}/{level['tasks']}"


def _print_tasks(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    for suite in found:
        console.print(Text.assemble((suite["name"], "bold"), f"  {suite['about']}"), soft_wrap=True)
        table = rows("task", "metric", "group", "smoke#", "quick#", "data", "licence")
        for task in suite["tasks"]:
            sizes = ("" if task[level] is None else f"{task[level]:,}" for level in ("smoke", "quick"))
            data = Text(task["data"]) if task["runs"] else Text("left out", style="yellow")
            table.add_row(
                "", task["task"], task["metric"], task["group"] or "", *sizes, data, task["licence"] or ""
            )
        console.print(table)
        reasons: dict[str, list[str]] = {}
        for task in suite["tasks"]:
            if not task["runs"]:
                reasons.setdefault(task["why_not"], []).append(task["task"])
        for why, tasks in reasons.items():
            console.print(Text(f"  left out: {', '.join(tasks)}: {why}", style="dim"), soft_wrap=True)
