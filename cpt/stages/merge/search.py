"""Search merge weights: measure merges on texts and tasks, write the chosen one, report the result."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.monitor.gates.gate import UNITS
from cpt.monitor.gates.judge import gate_key
from cpt.monitor.noise import needed_items
from cpt.monitor.reading import Items
from cpt.progress import Progress
from cpt.sources import DOMAIN, GENERAL
from cpt.stages.gates import require_held
from cpt.stages.merge.config import MergeGate, MergeSearch

if TYPE_CHECKING:
    from cpt.models.bits_per_byte import TokenisedText
    from cpt.models.shared_windows import WindowBytes
    from cpt.monitor.probes.base import Probe
    from merging.candidates import Candidate
    from merging.plan import Plan
    from merging.request import MergeRequest
    from merging.run import MergeReport
    from merging.search import SearchResult, Trial

LOG = "merge_search.jsonl"
"""File in a merged model with every trial of the search."""


@dataclass(frozen=True)
class Material:
    """Texts that merges are measured on.

    Attributes:
        texts: Documents by name; `domain` is to improve, `general` must not become worse.
        start_token: Returns the token before every document for the tokenizer of a folder.
        seed: Seed of the samples.
    """

    texts: Mapping[str, Sequence[str]]
    start_token: Callable[[Path], str | None]
    seed: int


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
        gates: Budgets.
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
    goal = Goal(DOMAIN, GENERAL, tuple(dict.fromkeys(Limit(g.budget.probe, g.budget.limit) for g in gates)))
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
        chosen=chosen_sentence(found),
        progress=lambda done, total: progress.update(done, total, "bytes"),
    )
    return found, chosen, report


class MergeEvaluation:
    """An evaluation by bits per byte of texts and accuracy on tasks, of the base and of merges in memory."""

    def __init__(
        self, plan: Plan, settings: MergeSearch, material: Material, work: Path, progress: Progress
    ) -> None:
        """Prepare the texts.

        Args:
            plan: Any of the merges; the others have the same vocabulary.
            settings: Settings of the search.
            material: Texts to measure on.
            work: Scratch folder.
            progress: Listener for messages.
        """
        from cpt.corpus.texts import whole_documents

        assert plan.request.base is not None
        self._base, self._settings, self._material = plan.request.base.folder, settings, material
        self._progress = progress
        self._shape = _without_weights(plan, work / "shape")
        folders = (self._base, self._shape)
        self._texts = {
            name: whole_documents(texts, folders, settings.tokens, material.seed)
            for name, texts in material.texts.items()
        }
        self._starts = {folder: material.start_token(folder) for folder in folders}
        self._tokenised, self._windows = self._in_shared_windows(folders)
        self._model: Any = None
        self._probes: list[Probe] = []

    @property
    def key(self) -> Mapping[str, Any]:
        """Identity of the texts, tasks and settings of the measurement."""
        return {
            "texts": {
                name: sha256("\0".join(texts).encode()).hexdigest() for name, texts in self._texts.items()
            },
            "tasks": {name: task.items for name, task in self._settings.tasks.items()},
            "window": self._settings.window,
            "windows": {name: held.as_json() for name, held in self._windows.items()},
            "precision": self._settings.precision,
            "start_tokens": list(self._starts.values()),
        }

    def base(self) -> dict[str, Items]:
        """Measure the base."""
        from cpt.models.packed_model import load_model, resolve_precision

        self._progress.message("measuring the base")
        model = load_model(self._base, resolve_precision(self._settings.precision))
        readings = self._read(model, self._probes_of(self._base))
        del model
        gc.collect()
        return readings

    def merged(self, plan: Plan) -> dict[str, Items]:
        """Measure a merge."""
        from cpt.models.packed_model import empty_model, resolve_precision
        from merging.run import merge_into

        if self._model is None:
            self._model = empty_model(self._shape, resolve_precision(self._settings.precision))
            self._probes = self._probes_of(self._shape)
        merge_into(self._model, plan)
        return self._read(self._model, self._probes)

    def restore(self, data: Mapping[str, Any]) -> Items:
        """Return a measurement from the log."""
        return Items.from_json(data)

    def _in_shared_windows(
        self, folders: Sequence[Path]
    ) -> tuple[dict[Path, dict[str, TokenisedText]], dict[str, WindowBytes]]:
        """Cut the texts into windows that hold the same bytes for the base and for merges."""
        from cpt.models.shared_windows import Reader, tokenise_shared
        from cpt.models.tokenizer import load_tokenizer
        from cpt.stages.corpus.checks import window_for

        longest = self._settings.window
        readers = [
            Reader.of(load_tokenizer(folder), window_for(folder, longest), start)
            for folder, start in self._starts.items()
        ]
        shared = {name: tokenise_shared(readers, texts) for name, texts in self._texts.items()}
        tokenised = {
            folder: {name: each.texts[which] for name, each in shared.items()}
            for which, folder in enumerate(folders)
        }
        return tokenised, {name: each.bytes for name, each in shared.items()}

    def _probes_of(self, folder: Path) -> list[Probe]:
        """Return the probes in one tokenizer."""
        from cpt.monitor.probes.task import TaskProbe
        from cpt.monitor.probes.text import TextProbe
        from cpt.monitor.schedule import Regular
        from evals.scorer import make_scorer

        settings, start, once = self._settings, self._starts[folder], Regular(1)
        probes: list[Probe] = [TextProbe(name, text, once) for name, text in self._tokenised[folder].items()]
        for name, task in settings.tasks.items():
            items, grade, _ = make_scorer(name, task.items, settings.data, folder, start, self._material.seed)
            probes.append(TaskProbe(name, items, grade, once))
        return probes

    def _read(self, model: Any, probes: Sequence[Probe]) -> dict[str, Items]:
        """Read bits of text and wrong answers; less is better."""
        from cpt.models.packed_model import PackedLanguageModel, best_device
        from cpt.monitor.probes.base import ModelView

        model.to(best_device())
        subject = ModelView(PackedLanguageModel(model), {})
        readings = {}
        for probe in probes:
            items = probe.read(subject, 1.0)
            wrong = Items(items.denominators - items.numerators, items.denominators)
            readings[probe.name] = wrong if probe.kind == "task" else items
        return readings


def _without_weights(plan: Plan, folder: Path) -> Path:
    """Write configuration and tokenizer of a merge's result, without weights."""
    from merging.writer import write_settings

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_settings(plan, folder)
    return folder


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
        gates: Budgets.
        tasks: Names of the tasks, which are measured in accuracy.
        stage: Name of the stage; see `require_budgets`.
    """
    names = [dimension.name for dimension in found.space.dimensions]
    single = names[0] if len(names) == 1 and names[0].startswith("weight") else None

    def point(tried: Trial) -> dict[str, Any]:
        place: dict[str, Any] = {"weight": tried.values[0]} if single else {}
        return {
            "domain_gain": found.goal.gain_of(tried),
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
                gate.budget.probe in tasks,
                "--budget" if stage is None else gate_key(stage, number),
            )
            for number, gate in enumerate(gates)
        ],
    }


def _judged(gate: MergeGate, chosen: Trial, task: bool, key: str) -> dict[str, Any]:
    """Return the verdict on a budget at the chosen trial, in the form of a training's gates.

    The budget is held if the upper bound of the rise is within the limit, broken if the lower bound exceeds
    it.
    """
    budget, change = gate.budget, chosen.changes[gate.budget.probe]
    sign = -1 if budget.falls else 1
    scale, unit = (100, " points") if task else (1, "")
    value, allowed, most = (
        f"{scale * sign * each:+.4g}{unit}" for each in (change.value, budget.limit, change.upper)
    )
    why = f"{value} from the base, of {allowed} allowed"
    verdict = "not shown"
    if not change.known:
        why += "; its noise is not known"
    elif change.upper <= budget.limit:
        verdict = "held"
    elif change.lower > budget.limit:
        verdict = "broken"
    else:
        on = f", on {change.items} {'questions' if task else 'documents'}" if change.items else ""
        why += f"; {most} is possible{on}"
    return {
        "key": key,
        "budget": budget.text,
        "probe": budget.probe,
        "limit": sign * budget.limit,
        "unit": UNITS["task" if task else "text"],
        "action": gate.action,
        "verdict": verdict,
        "value": sign * change.value,
        "error": change.error if change.known else None,
        "items": change.items,
        "needed_items": needed_items(budget.limit, change.error, change.items or 0),
        "why": why,
    }


def require_budgets(metrics: Mapping[str, Any], stage: str | None) -> None:
    """Raise if the chosen weights are not shown to keep the budgets, unless their gates only warn.

    Args:
        metrics: Result of `search_metrics`.
        stage: Name of the stage in the recipe; None for the command, whose flags are then named.

    Raises:
        GateFailed: A budget is broken; the message names all of them.
        GateNotShown: A budget is not shown to be held; the message names all of them.
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
        lead="no weights that were tried are shown to keep the budget: ",
    )


def chosen_sentence(found: SearchResult) -> str:
    """Return a sentence on the choice of the weights, for the model card."""
    names = [dimension.name for dimension in found.space.dimensions]
    values = ", ".join(f"{name} {value:.6g}" for name, value in zip(names, found.chosen.values, strict=True))
    changes = ", ".join(f"{name} {change.value:+.4f}" for name, change in found.chosen.changes.items())
    limits = ", ".join(f"{limit.name} +{limit.most:g}" for limit in found.goal.limits)
    budget = f" Budget (worse than the base by at most, 95% sure): {limits}." if limits else ""
    edges = "".join(f" {each.says[0].upper()}{each.says[1:]}." for each in found.at_bounds)
    return (
        f"Chosen by a search over {len(found.trials)} merges ({found.choice.why}): {values}.{edges}{budget} "
        f"Changes from the base there (less is better; bits per byte, or share of wrong answers): {changes}."
    )
