"""Search merge weights: measure merges on texts and tasks, write the chosen one, report the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.monitor.gates.gate import UNITS
from cpt.monitor.gates.judge import gate_key
from cpt.monitor.noise import needed_items
from cpt.progress import Progress
from cpt.sources import DOMAIN, GENERAL
from cpt.stages.gates import require_held
from cpt.stages.merge.config import MergeGate, MergeSearch, SearchObjective
from cpt.stages.merge.evaluation import Material, MergeEvaluation
from cpt.stages.merge.objective import OBJECTIVE
from cpt.stages.merge.objective import described as described_objective

if TYPE_CHECKING:
    from merging.candidates import Candidate
    from merging.request import MergeRequest
    from merging.run import MergeReport
    from merging.search import SearchResult, Trial

LOG = "merge_search.jsonl"
"""File in a merged model with every trial of the search."""


def find_weights(
    request: MergeRequest,
    candidates: Sequence[Candidate],
    settings: MergeSearch,
    gates: Sequence[MergeGate],
    material: Material,
    work: Path,
    log: Path,
    progress: Progress,
) -> SearchResult:
    """Search the weights that a request leaves open.

    Args:
        request: Request with a base, from which changes are measured.
        candidates: Inputs of the merge, as `merging.plan.read_inputs` returns them.
        settings: Settings of the search.
        gates: Limits.
        material: Texts to measure on.
        work: Scratch folder.
        log: File with every trial; a search that was killed continues from it.
        progress: Listener for messages.

    Raises:
        CannotMerge: Nothing is open, or the log is of another search.
        StageFailed: A task's data cannot be had.
    """
    from merging.plan import plan
    from merging.search import Goal, Limit, search, search_space

    space = search_space(
        request, candidates, bounds=settings.bounds, density=settings.density, groups=settings.groups
    )
    maximised = DOMAIN if settings.objective is None else OBJECTIVE
    limits = tuple(dict.fromkeys(Limit(g.limit.probe, g.limit.allowed) for g in gates))
    goal = Goal(maximised, GENERAL, limits)
    evaluation = MergeEvaluation(
        plan(space.request_at(space.centre), candidates), settings, material, work, progress
    )

    def say(tried: Trial, count: int) -> None:
        progress.message(f"{count} of at most {settings.points}: {described(tried, space.dimensions)}")
        progress.update(count, settings.points, "merges")

    return search(
        space,
        candidates,
        goal,
        evaluation,
        points=settings.points,
        seed=material.seed,
        log=log,
        on_point=say,
    )


def search_and_write(
    request: MergeRequest,
    candidates: Sequence[Candidate],
    settings: MergeSearch,
    gates: Sequence[MergeGate],
    material: Material,
    work: Path,
    log: Path,
    output: Path,
    progress: Progress,
    *,
    shard_bytes: int,
    command: Callable[[MergeRequest], str] | None = None,
) -> tuple[SearchResult, MergeRequest, MergeReport]:
    """Search the weights that a request leaves open, and write the merge with the chosen ones.

    Args:
        output: New folder for the merged model.
        shard_bytes: Size at which a new weight file begins.
        command: Returns the command that makes the same merge again, for the model card.

    Returns:
        The search's result, the request with the chosen weights, and the report on the merge.

    The other arguments and errors are those of `find_weights`.
    """
    from merging.plan import plan
    from merging.run import run

    found = find_weights(request, candidates, settings, gates, material, work, log, progress)
    chosen = found.space.request_at(found.chosen.values)
    progress.message(f"merging tensor by tensor: {chosen.method}")
    report = run(
        plan(chosen, candidates),
        output,
        shard_bytes=shard_bytes,
        command=None if command is None else command(chosen),
        chosen=chosen_sentence(found, settings.objective),
        progress=lambda done, total: progress.update(done, total, "bytes"),
    )
    return found, chosen, report


def described(tried: Trial, dimensions: Sequence[Any]) -> str:
    """Return a trial in one line: "weight of law 0.5: domain -0.0312, general +0.0021"."""
    values = ", ".join(f"{dim.name} {value:.4g}" for dim, value in zip(dimensions, tried.values, strict=True))
    changes = ", ".join(f"{name} {change.value:+.4f}" for name, change in tried.changes.items())
    return f"{values}: {changes}"


def search_metrics(
    found: SearchResult, gates: Sequence[MergeGate], tasks: Sequence[str], stage: str | None
) -> dict[str, Any]:
    """Return a search's result as plain data: `search`, `search_points`, `gates`.

    Args:
        found: Result of the search.
        gates: Limits.
        tasks: Names of the tasks, which are measured in accuracy.
        stage: Name of the stage; see `require_limits`.
    """
    names = [dimension.name for dimension in found.space.dimensions]
    single = names[0] if len(names) == 1 and names[0].startswith("weight") else None

    def point(tried: Trial) -> dict[str, Any]:
        place: dict[str, Any] = {"weight": tried.values[0]} if single else {}
        if found.goal.gain == OBJECTIVE:
            place["objective_gain"] = found.goal.gain_of(tried)
        return {
            "domain_gain": -tried.changes[DOMAIN].value,
            "general_rise": found.goal.rise_of(tried),
            **place,
            "values": dict(zip(names, tried.values, strict=True)),
            "by": tried.by,
            "changes": {name: change.as_json() for name, change in tried.changes.items()},
            "front": tried in found.front,
            "chosen": tried is found.chosen,
        }

    return {
        "search": {
            "chosen": dict(zip(names, found.chosen.values, strict=True)),
            "why": found.choice.why,
            "holds": found.choice.holds,
            "points": len(found.trials),
            "arrived": found.arrived,
            "at_bounds": [asdict(each) for each in found.at_bounds],
        },
        "search_points": [point(tried) for tried in found.trials],
        "gates": [
            _judged(
                gate,
                found.chosen,
                gate.limit.probe in tasks,
                "--limit" if stage is None else gate_key(stage, number),
            )
            for number, gate in enumerate(gates)
        ],
    }


def _judged(gate: MergeGate, chosen: Trial, task: bool, key: str) -> dict[str, Any]:
    """Return the verdict on a limit at the chosen trial, in the form of a training's gates.

    It is held if the upper bound of the rise is within it, broken if the lower bound exceeds it.
    """
    limit, change = gate.limit, chosen.changes[gate.limit.probe]
    sign = -1 if limit.falls else 1
    scale, unit = (100, " points") if task else (1, "")
    value, allowed, most = (
        f"{scale * sign * each:+.4g}{unit}" for each in (change.value, limit.allowed, change.upper)
    )
    why = f"{value} from the base, of {allowed} allowed"
    verdict = "not shown"
    if not change.known:
        why += "; its noise is not known"
    elif change.upper <= limit.allowed:
        verdict = "held"
    elif change.lower > limit.allowed:
        verdict = "broken"
    else:
        on = f", on {change.items} {'questions' if task else 'documents'}" if change.items else ""
        why += f"; {most} is possible{on}"
    return {
        "key": key,
        "limit": limit.text,
        "probe": limit.probe,
        "allowed": sign * limit.allowed,
        "unit": UNITS["task" if task else "text"],
        "action": gate.action,
        "verdict": verdict,
        "value": sign * change.value,
        "error": change.error if change.known else None,
        "items": change.items,
        "needed_items": needed_items(limit.allowed, change.error, change.items or 0),
        "why": why,
    }


def require_limits(metrics: Mapping[str, Any], stage: str | None) -> None:
    """Raise if the chosen weights are not shown to keep the limits, unless their gates only warn.

    Args:
        metrics: Result of `search_metrics`.
        stage: Name of the stage in the recipe; None for the command, whose flags are then named.

    Raises:
        GateFailed: A limit is broken; the message names all of them.
        GateNotShown: A limit is not shown to be held; the message names all of them.
    """
    measured = {gate["probe"]: gate["unit"] for gate in metrics["gates"]}

    def setting(probe: str) -> str:
        task = measured[probe] == UNITS["task"]
        if stage is None:
            return f"--task {probe}=ITEMS" if task else "--tokens"
        return f"{stage}.search.tasks.{probe}.items" if task else f"{stage}.search.tokens"

    require_held(
        metrics,
        setting,
        remedy="Search smaller weights or more points",
        kept="The best compromise is kept.",
        lead="no weights that were tried are shown to keep the limit: ",
    )


def chosen_sentence(found: SearchResult, objective: SearchObjective | None = None) -> str:
    """Return a sentence on the choice of the weights, for the model card."""
    names = [dimension.name for dimension in found.space.dimensions]
    values = ", ".join(f"{name} {value:.6g}" for name, value in zip(names, found.chosen.values, strict=True))
    changes = ", ".join(f"{name} {change.value:+.4f}" for name, change in found.chosen.changes.items())
    limits = ", ".join(f"{limit.name} +{limit.most:g}" for limit in found.goal.limits)
    kept = f" Limit (worse than the base by at most, 95% sure): {limits}." if limits else ""
    edges = "".join(f" {each.says[0].upper()}{each.says[1:]}." for each in found.at_bounds)
    units = "bits per byte, or share of wrong answers"
    by = ""
    if objective is not None:
        by = f" by {described_objective(objective)}, on one half of the items"
        units += " or probability of wrong choices" if objective.measure == "p_gold" else ""
    return (
        f"Chosen by a search over {len(found.trials)} merges{by} ({found.choice.why}): {values}.{edges}"
        f"{kept} Changes from the base there (less is better; {units}): {changes}."
    )
