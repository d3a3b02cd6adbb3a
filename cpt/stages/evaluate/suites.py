"""Suites in the evaluate stage: evaluate the models on the same items, and compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import Problem, StageFailed, UsageError
from cpt.progress import Progress
from cpt.stages.choosing import ChosenBy, shares_items

if TYPE_CHECKING:
    from evals.comparing.comparison import Comparison, Findings
    from evals.comparing.retention import Retention
    from evals.models.backends import Precision
    from evals.preparation import PreparedTask
    from evals.registry import Suite
    from evals.results import TaskScore

_FILES = (".yaml", ".yml")


def suite_references(suites: Sequence[str], data: str | None) -> list[str]:
    """Return the files of the user's own suites, and the folder of the data."""
    return [*(name for name in suites if name.endswith(_FILES)), *([] if data is None else [data])]


def suite_problems(suites: Sequence[str], data: str | None) -> list[Problem]:
    """Return the problems of suites as a recipe names them, and of their data, as far as files tell."""
    problems: list[Problem] = []
    for place, name in enumerate(suites):
        problems += [replace(problem, key=f"suites.{place}") for problem in _problems(name, data)]
    names = [name.rpartition(":")[0] or name for name in suites]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.append(Problem(f"named more than once: {', '.join(twice)}", key="suites"))
    return problems


def _problems(name: str, data: str | None) -> list[Problem]:
    from evals.registry import select

    if name.rpartition(":")[0].endswith(_FILES):
        return [Problem("a suite of one's own runs at its level quick", hint="Leave the level out.")]
    try:
        [(suite, _)] = select([name])
    except UsageError as error:
        message, _, hint = error.message.partition("\n  ")
        return [Problem(message, hint=hint or error.hint)]
    if data is not None and Path(data).is_dir() and not _has_any(suite, Path(data)):
        return [
            Problem(
                f"{data} holds the data of none of the tasks", hint="See cpt eval suites NAME --data DIR."
            )
        ]
    return []


def _has_any(suite: Suite, data: Path) -> bool:
    from evals.local_data import DataFolder
    from evals.preparation import source_of

    folder = DataFolder(data)
    local = (source_of(entry) for entry in suite.tasks)
    return any(folder.find(*source).complete for source in local if source is not None)


def compare_suites(
    suites: Sequence[str],
    data: str | None,
    models: Mapping[str, Path],
    folders: Mapping[str, Path],
    progress: Progress,
    *,
    precision: Precision,
    confidence: float,
    seed: int,
    chosen: Sequence[ChosenBy] = (),
) -> dict[str, dict[str, Any]]:
    """Evaluate models on suites, and compare the model `after` with each of the others.

    Args:
        suites: Suites as the recipe names them.
        data: Folder of the suites' data.
        models: Model folders by role, among them `after`.
        folders: Folders that receive each model's results, by role.
        progress: Receives messages and progress.
        precision: Precision of the weights.
        confidence: Level of the intervals.
        seed: Seed of the comparison's resamples; the items are those of `cpt eval run`.
        chosen: Tasks by half of whose items the models were chosen; the other half is compared.

    Returns:
        Plain data by role: `averages` and `retention` by suite, `groups`, `tasks` by name, `no_signal` (tasks
        that neither average nor verdict counts), `measures` (the same by further measures), `left_out`,
        `chosen` (a sentence on halves, if there are any). Tasks that have `p_gold` hold its comparison beside
        their score's.
    """
    from evals.comparing.comparison import compare
    from evals.comparing.retention import retentions
    from evals.evaluation import evaluate_tasks
    from evals.local_data import data_cache
    from evals.models.request_cache import answer_cache
    from evals.preparation import prepare
    from evals.registry import select
    from evals.result_folders import save_results

    prepared, left_out = prepare(select(suites), None if data is None else Path(data), data_cache())
    for each in left_out:
        progress.message(f"{each.suite}: {each.task} is left out: {each.why}")
    if not prepared:
        raise StageFailed("none of the suites' tasks can run", hint="Name the folder of their data: `data`.")
    prepared = _other_halves(prepared, chosen, progress)
    found = {}
    for role, model in models.items():
        progress.message(f"suites: measuring the model {role}")
        results = evaluate_tasks(
            str(model),
            prepared,
            left_out,
            cache=answer_cache(),
            precision=precision,
            on_progress=partial(progress.update, unit="requests"),
            on_message=progress.message,
        ).model_copy(update={"model": role})
        save_results(results, folders[role])
        found[role] = results
    after = found.pop("after")
    left = [each.model_dump() for each in after.left_out]
    halves = halves_sentence(after.tasks)
    if halves:
        progress.message(f"suites: {halves}")
    compared: dict[str, dict[str, Any]] = {}
    for role, results in found.items():
        comparison = compare(results, after, confidence=confidence, seed=seed)
        for note in comparison.notes:
            progress.message(note)
        facts = _facts(comparison, retentions(comparison))
        compared[role] = {**facts, "levels": after.suites, "left_out": left, "chosen": halves}
    return compared


def _other_halves(
    prepared: Sequence[PreparedTask], chosen: Sequence[ChosenBy], progress: Progress
) -> list[PreparedTask]:
    """Restrict tasks by which a model was chosen to the half of their items that it was not chosen by."""
    found = []
    for each in prepared:
        by = shares_items(each, chosen)
        if by is not None and by.data != each.data:
            progress.message(
                f"{each.entry.task}: a model was chosen by items of other data ({by.data}) than these "
                f"({each.data}), so its halves may share items: name the same `data` in all stages"
            )
        found.append(each if by is None else replace(each, half="report"))
    return found


def halves_sentence(tasks: Sequence[TaskScore]) -> str:
    """Return which tasks were compared on one half of their items; empty without any."""
    halved = [task for task in tasks if task.left_out]
    if not halved:
        return ""
    left, items = (sum(counts) for counts in zip(*((each.left_out, each.n) for each in halved), strict=True))
    names = ", ".join(task.task for task in halved)
    return (
        f"a model was chosen by half of the items of {names}: these {left:,} items are left out, and the "
        f"scores are of {items:,} items of the other half"
    )


def _facts(comparison: Comparison, scores: Sequence[Retention]) -> dict[str, Any]:
    from evals.measures import P_GOLD

    found = _findings(comparison)
    by_p_gold = comparison.measures[P_GOLD].tasks if P_GOLD in comparison.measures else ()
    likelihoods = {each.task: each.model_dump(mode="json") for each in by_p_gold}
    for name, task in [*found["tasks"].items(), *((each["task"], each) for each in found["no_signal"])]:
        task[P_GOLD] = likelihoods.get(name)
    return {
        **found,
        "measures": {name: _findings(findings) for name, findings in comparison.measures.items()},
        "retention": {each.domain: each.model_dump(mode="json") for each in scores},
        "not_compared": [each.model_dump(mode="json") for each in comparison.not_compared],
    }


def _findings(findings: Findings) -> dict[str, Any]:
    return {
        "averages": {each.suite: each.model_dump(mode="json") for each in findings.averages},
        "groups": [each.model_dump(mode="json") for each in findings.groups],
        "tasks": {each.task: each.model_dump(mode="json") for each in findings.tasks},
        "no_signal": [each.model_dump(mode="json") for each in findings.no_signal],
    }


def suite_metrics(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each suite's averages, their number of tasks, and the verdict, for `artifact.json`."""
    silent = dict.fromkeys(each["suite"] for each in found["no_signal"])
    return {
        **{suite: {"verdict": "no signal"} for suite in silent},
        **{
            suite: {
                "before": each["a"],
                "after": each["b"],
                "difference": each["difference"],
                "tasks": each["tasks"],
                "of": each["of"],
                "verdict": each["verdict"],
            }
            for suite, each in found["averages"].items()
        },
    }
