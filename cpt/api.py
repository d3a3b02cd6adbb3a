"""Run recipes from Python: `cpt.run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.recipe.events import Listener, null_listener
from cpt.recipe.load import load
from cpt.recipe.plan import Selection
from cpt.recipe.runner import run as run_plan


@dataclass(frozen=True)
class StageResult:
    """The result of one stage.

    Attributes:
        name: Name of the stage in the recipe.
        kind: Kind of the stage: "corpus", "pretrain".
        action: "run" or "stale" if it ran, "cached" if an earlier result was used, else "skipped".
        folder: Folder of its artifact, with one subfolder per kind of content: `folder / "model"`.
        metrics: Metrics of the stage as plain data.
        gate: Message of its limits that are not held; empty if all are.
    """

    name: str
    kind: str
    action: str
    folder: Path | None
    metrics: Mapping[str, Any]
    gate: str = ""


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        exit_code: 0, or 3 if a limit is broken, else 4 if one is not shown to be held.
        folder: Folder of the run.
        stages: Results by name of the stage, in the recipe's order.
        report: The report page; None if the recipe has no report stage.
    """

    exit_code: int
    folder: Path
    stages: Mapping[str, StageResult]
    report: Path | None

    @property
    def held(self) -> bool:
        """Return True if every limit is shown to be held."""
        return self.exit_code == 0


def run(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    runs: str | Path = "runs",
    force: Sequence[str] = (),
    listener: Listener = null_listener,
) -> RunResult:
    """Run a recipe in this process, as `cpt run` does: finished stages are reused, interrupted ones continue.

    Example:
        >>> import cpt
        >>> result = cpt.run("recipe.yaml", overrides=["report.title=First try"], runs="runs")
        >>> result.stages["pretrain"].folder / "model"  # a Hugging Face folder
        >>> result.stages["evaluate"].metrics
        >>> result.report

    Args:
        recipe: Path of the recipe file.
        overrides: Settings `key=value`, as on the command line.
        runs: Folder of all runs; this one's is `runs/<name of the recipe>`.
        force: Names of stages to run again, or "all".
        listener: Receiver of the run's events (`cpt.recipe.events`).

    Raises:
        RecipeError: The recipe or an input has problems; all of them are in `problems`.
        UsageError: Another process holds the run, or `force` names no stage.
        CptError: A stage could not finish.
    """
    loaded = load(Path(recipe), overrides)
    summary = run_plan(loaded, Path(runs), Selection(force=tuple(force)), listener)
    stages = {}
    for entry in summary.plan.entries:
        name = entry.step.name
        made = summary.artifacts.get(name)
        stages[name] = StageResult(
            name=name,
            kind=entry.step.kind,
            action=entry.action,
            folder=made.folder if made else None,
            metrics=made.metrics if made else {},
            gate=summary.gates.get(name, ""),
        )
    return RunResult(summary.exit_code, summary.folder, stages, summary.report)
