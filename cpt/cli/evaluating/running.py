"""`cpt eval run`: models through suites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.inputs import leaving_hub_alone
from cpt.cli.evaluating.options import (
    DEFAULT_RESULTS,
    Data,
    Models,
    Offline,
    Precision,
    Suites,
    check_choice,
    check_precision,
)
from cpt.cli.evaluating.progress import Shown, shown
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.errors import StageFailed, UsageError
from cpt.formatting import duration
from cpt.references import resolve_model

if TYPE_CHECKING:
    from evals.preparation import Prepared
    from evals.results import LeftOut, Results

SEED = 1234
"""That of `evals.harness`, which takes long to import."""


def run(
    models: Models,
    suite: Suites,
    data: Data = None,
    output: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Each model's results go to a folder of its own in this."),
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
        str, typer.Option("--backend", metavar="NAME", help="What computes: hf, or vllm (an extra).")
    ] = "hf",
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch-tokens", metavar="N", min=1, help="Tokens that the model reads at once."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Of the items that a level takes, and of examples.")
    ] = SEED,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Score models on suites: the same items for every model, each score with its standard error.

    What a model has answered is kept, so that an interrupted evaluation continues and a repeated one is fast.
    Results of other suites, of the same model with the same settings, stay in its folder.

    Example: cpt eval run HuggingFaceTB/SmolLM2-135M --suite medical:smoke --suite general:smoke --data DIR
    """
    check_precision(precision)
    from evals.models.backends import Backend

    check_choice("--backend", backend, get_args(Backend))
    settings = {
        "precision": precision,
        "start_token": None if start_token == "none" else start_token,
        "chat": chat,
        "backend": backend,
        "batch_tokens": batch_tokens,
        "seed": seed,
    }
    with shown(kept=True) as view, leaving_hub_alone(offline):
        tasks = _prepared(suite, data, offline)
        for model in models:
            resolve_model(model, view)  # a mistake is told before hours of work
        found = [_evaluated(model, tasks, settings, output, view) for model in models]
    if as_json:
        facts = [as_facts(results, folder) for folder, results in found]
        return print_json(facts[0] if len(facts) == 1 else {"models": facts})
    for folder, results in found:
        print_results(out(), results, folder)
    return None


@dataclass(frozen=True)
class _Tasks:
    prepared: list[Prepared]
    left_out: list[LeftOut]


def _prepared(suites: Sequence[str], data: Path | None, offline: bool) -> _Tasks:
    from evals.caches import data_cache
    from evals.catalogue import select
    from evals.preparation import prepare

    prepared, left_out = prepare(select(suites), data, data_cache(), offline=offline)
    if not prepared:
        reasons = "\n".join(f"  {each.task}: {each.why}" for each in left_out)
        raise UsageError(
            f"none of the tasks can run\n{reasons}", hint="Name the folder of the data by --data."
        )
    local = [each.data != "hub" for each in prepared if each.entry.source is not None]
    if data is not None and local and not any(local):
        raise UsageError(
            f"{data} holds the data of none of the tasks",
            hint="cpt eval suites NAME --data DIR --offline says what is looked for; without --data it comes "
            "from the hub.",
        )
    return _Tasks(prepared, left_out)


def _evaluated(
    model: str, tasks: _Tasks, settings: dict[str, Any], output: Path, view: Shown
) -> tuple[Path, Results]:
    """A model's results, and the folder where they now lie together with those of other suites."""
    from cpt.cli.evaluating.folders import with_earlier
    from evals.caches import answer_cache
    from evals.evaluation import evaluate
    from evals.result_files import save_results

    view.message(f"{model}: {len(tasks.prepared)} tasks, {len(tasks.left_out)} left out")
    results = evaluate(
        model,
        tasks.prepared,
        tasks.left_out,
        cache=answer_cache(),
        on_progress=lambda done, total: view.update(done, total, "requests"),
        on_message=view.message,
        **settings,
    )
    if not results.tasks:
        raise StageFailed(f"{model}: none of the tasks could be scored, for the reasons above")
    folder, joined = with_earlier(results, output)
    save_results(joined, folder)
    return folder, results


def as_facts(results: Results, folder: Path) -> dict[str, Any]:
    """Results as `--json` prints them: without the items, which lie in the folder."""
    facts = results.model_dump(mode="json", exclude={"items", "tasks"})
    tasks = {task.task: task.model_dump(mode="json", exclude={"task"}) for task in results.tasks}
    return {**facts, "tasks": tasks, "folder": str(folder)}


def print_results(console: Console, results: Results, folder: Path) -> None:
    """A model's scores as a table, then what was left out."""
    console.print(
        Text.assemble(
            (results.model, "bold"), (f"  {results.fingerprint[:8]}  {duration(results.seconds)}", "dim")
        )
    )
    table = rows("suite", "task", "metric", "score#", "±#", "chance#", "n#", "")
    for suite, level in results.suites.items():
        for task in (task for task in results.tasks if task.suite == suite):
            chance = "" if task.chance is None else f"{task.chance:.3f}"
            figures = f"{task.score:.4f}", _error(task.stderr), chance, f"{task.n:,}"
            table.add_row("", suite, task.task, task.metric, *figures, Text(task.note or "", style="dim"))
        average = results.averages.get(suite)
        if average is not None:
            heading = Text(f"{suite}:{level}", style="bold"), Text("macro average", style="bold")
            score = Text(f"{average.score:.4f}", style="bold")
            averaged = [task for task in results.tasks if task.suite == suite and task.higher_is_better]
            lacking = sum(each.suite == suite for each in results.left_out) + len(average.apart)
            over = f"over {average.groups} groups, {len(averaged)} of {len(averaged) + lacking} tasks"
            table.add_row("", *heading, "", score, _error(average.stderr), "", "", Text(over, style="dim"))
    console.print(table)
    for each in results.left_out:
        console.print(Text(f"  left out: {each.suite} {each.task}: {each.why}", style="dim"), soft_wrap=True)
    console.print(str(folder), soft_wrap=True)


def _error(stderr: float | None) -> str:
    return "" if stderr is None else f"{stderr:.4f}"
