"""Plan what a run does, stage by stage, and why.

The store is only read, but for a note on files that were found right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cpt import references
from cpt.errors import Problem, RecipeError, UsageError, did_you_mean
from cpt.recipe.diff import (
    StageDescription,
    describe_record,
    describe_step,
    differs_only_in,
    explain_change,
)
from cpt.recipe.fingerprint import Identity, identify, unfingerprinted_data
from cpt.recipe.load import heldout_problems, joined, stage_problems
from cpt.recipe.schema import Recipe, Step
from cpt.recipe.sharing import find_beside
from cpt.recipe.store import Record, Store
from cpt.stages.base import BASE, Artifact

Action = Literal["run", "cached", "stale", "skipped"]
"""run: never made, or forced. cached: made already. stale: made, but something changed.
skipped: not selected on the command line, and not made."""

_NAMED = 3
"""Largest number of damaged files that a message names."""

_UNCHECKED = "made before results had checksums, its files are not checked"


@dataclass(frozen=True)
class Selection:
    """The stages that a command selects.

    Attributes:
        from_: First stage. until: Last stage. only: The one stage.
        force: Names of stages to run again, or "all".
    """

    from_: str | None = None
    until: str | None = None
    only: str | None = None
    force: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """The plan for one stage.

    Attributes:
        inputs: Role -> fingerprint.
        references: Data reference -> fingerprint of its content.
        continues: Whether an interrupted attempt left work to resume.
        resumes: Fingerprint of that attempt, if it began with other settings.
        artifact: The finished result with this fingerprint, if there is one, of this run or of another one.
        again: Whether the result is made again although it exists.
    """

    step: Step
    fingerprint: str
    inputs: dict[str, str]
    references: dict[str, str]
    action: Action
    why: str
    selected: bool = True
    continues: bool = False
    resumes: str = ""
    artifact: Record | None = None
    forecast: str = ""
    again: bool = False

    @property
    def to_run(self) -> bool:
        """Return True if the stage will run."""
        return self.action in ("run", "stale")

    def state(self) -> dict[str, Any]:
        """Return how the stage stands before the run begins, for `run.json`."""
        made = self.artifact
        return {
            "kind": self.step.kind,
            "fingerprint": self.fingerprint,
            "action": self.action,
            "state": "waiting" if self.to_run else self.action,
            "seconds": made.seconds if made else None,
            "gate": made.gate if made else "",
            "gate_verdict": made.gate_verdict if made and made.gate else "",
        }

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain data for `--json`."""
        return {
            "stage": self.step.name,
            "kind": self.step.kind,
            "action": self.action,
            "why": self.why,
            "continues": self.continues,
            "forecast": self.forecast,
            "fingerprint": self.fingerprint,
            "inputs": self.step.inputs,
            "folder": str(self.artifact.folder) if self.artifact else None,
        }


@dataclass(frozen=True)
class Plan:
    """The plan of a run: one entry for each stage, in order."""

    recipe: Recipe
    base_fingerprint: str
    entries: tuple[Entry, ...]

    @property
    def to_run(self) -> tuple[Entry, ...]:
        """The entries of the stages that will run."""
        return tuple(entry for entry in self.entries if entry.to_run)

    @property
    def artifacts(self) -> dict[str, Record]:
        """The existing results by name of their stage."""
        return {entry.step.name: entry.artifact for entry in self.entries if entry.artifact}

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        """The state of every stage before the run begins, by name."""
        return {entry.step.name: entry.state() for entry in self.entries}

    @property
    def needs_base(self) -> bool:
        """Return True if a stage that will run reads the base model."""
        return any(BASE in entry.step.inputs.values() for entry in self.to_run)


@dataclass
class _Draft:
    """State while the entries are made in order.

    Attributes:
        shared: Stages for which results of other runs are used: those up to the last selected one.
        rerun: Stages whose existing result is made again.
        damaged: Problems of damaged results, by stage.
    """

    fingerprints: dict[str, str]
    shared: frozenset[str]
    artifacts: dict[str, Record] = field(default_factory=dict)
    rerun: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    damaged: dict[str, Problem] = field(default_factory=dict)


def make_plan(
    recipe: Recipe, store: Store, selection: Selection | None = None, *, shared: bool = True
) -> Plan:
    """Decide for every stage whether it runs.

    Args:
        recipe: The recipe.
        store: The run's folder.
        selection: The stages that the command selects.
        shared: Whether results of other runs beside this one are used.

    Raises:
        UsageError: The selection names no stage of the recipe, contradicts itself, or starts at a stage whose
            inputs are not made yet.
        RecipeError: A stage that would run finds a problem in existing inputs, or a needed result is damaged.
        ReferenceUnavailable: The content of the base model or of a data file cannot be identified.
    """
    selection = selection or Selection()
    chosen = _chosen([step.name for step in recipe.steps], selection)
    base = references.fingerprint(recipe.base)
    names = [step.name for step in recipe.steps]
    read_by_chosen = names[: 1 + max(map(names.index, chosen))] if shared else []
    draft = _Draft({BASE: base}, frozenset(read_by_chosen))
    entries = [_entry(recipe, step, store, selection, step.name in chosen, draft) for step in recipe.steps]
    to_run = [entry.step for entry in entries if entry.to_run]
    selected = [entry.step for entry in entries if entry.step.name in chosen]
    read = {source for step in selected for source in step.inputs.values()}
    # damage of a result that no selected stage makes or reads may wait
    draft.problems += [each for name, each in draft.damaged.items() if name in chosen or name in read]
    if not read & draft.damaged.keys():
        _require_inputs(entries, selection)
    problems = joined(draft.problems, heldout_problems(recipe, to_run, draft.artifacts))
    if problems:
        raise RecipeError(problems)
    return Plan(recipe, base, tuple(entries))


def _entry(
    recipe: Recipe, step: Step, store: Store, selection: Selection, chosen: bool, draft: _Draft
) -> Entry:
    inputs, contents, own = identify(step, recipe.seed, draft.fingerprints)
    draft.fingerprints[step.name] = own
    artifact = store.find(step.name, own)
    entry = Entry(step, own, inputs, contents, "cached", "nothing changed", chosen, artifact=artifact)
    again = sorted(draft.rerun & set(step.inputs.values())) if chosen else []
    forced = chosen and _forced(step.name, selection)
    if not again and not forced:
        problem = damage_problem(store, step.name, own, "" if chosen else f"--from {step.name} ")
        if problem is not None:
            draft.damaged[step.name] = problem
            action: Action = "run" if chosen else "skipped"
            return replace(entry, action=action, why="its artifact is damaged", artifact=None)
    if chosen and artifact and not again and not forced:
        draft.artifacts[step.name] = artifact
        return entry if artifact.has_checksums else replace(entry, why=f"{entry.why}; {_UNCHECKED}")
    shareable = step.name in draft.shared and step.stage.shareable and not (artifact or again or forced)
    unfingerprinted = unfingerprinted_data(step.config)
    if shareable and (taken := find_beside(store, step.name, own, unfingerprinted)):
        draft.artifacts[step.name] = taken
        return replace(entry, why=f"made by the run {taken.folder.parent.name}", artifact=taken)
    if not chosen:
        if artifact:
            draft.artifacts[step.name] = artifact
            return replace(entry, why="made already")
        return replace(entry, action="skipped", why="not selected, and not made yet")
    if forced:
        entry = replace(entry, action="run", why="asked for with --force", again=True)
    elif again and artifact:
        entry = replace(entry, action="run", why=f"made from {', '.join(again)}, run again", again=True)
    else:
        entry = replace(_missing(entry, store, recipe.seed), again=bool(again))
    if artifact or forced or again:
        draft.rerun.add(step.name)
    partial = store.has_partial(step.name, own)
    if not partial and not artifact:
        entry = _with_attempt(entry, store, recipe.seed)
    available: Mapping[str, Artifact] = {
        role: draft.artifacts[source] for role, source in step.inputs.items() if source in draft.artifacts
    }
    problems = stage_problems(recipe.document, step, available) if available else []
    draft.problems += problems
    upstream = {role: recipe.upstream(step, role) for role in step.inputs}
    forecast = "" if problems else step.stage.forecast(step.located, available, upstream)
    return replace(entry, continues=partial or bool(entry.resumes), forecast=forecast)


def damage_problem(store: Store, stage: str, fingerprint: str, options: str = "") -> Problem | None:
    """Return the problem of damaged files of a finished result, with the command that makes it again.

    Args:
        options: Command-line options needed besides `--force STAGE`.
    """
    found = store.damage(stage, fingerprint)
    if not found:
        return None
    more = f"; and {len(found) - _NAMED} more files" if len(found) > _NAMED else ""
    return Problem(
        f"the finished result is damaged: {'; '.join(found[:_NAMED])}{more}",
        file=str(store.artifact_folder(stage, fingerprint)),
        key=stage,
        hint=f"`cpt run RECIPE {options}--force {stage}` makes it again.",
    )


def _missing(entry: Entry, store: Store, seed: int) -> Entry:
    if store.damaged(entry.step.name, entry.fingerprint):
        return replace(entry, action="run", why="its artifact is damaged")
    earlier = store.artifacts(entry.step.name)
    if not earlier:
        return replace(entry, action="run", why="not made yet")
    why = explain_change(describe_record(earlier[-1]), _describe(entry, seed))
    return replace(entry, action="stale", why=why)


def _with_attempt(entry: Entry, store: Store, seed: int) -> Entry:
    """Add to an entry whether it resumes an interrupted attempt that began with other settings."""
    attempt = store.attempt(entry.step.name)
    if attempt is None:
        return entry
    before, now = describe_record(attempt), _describe(entry, seed)
    found = explain_change(before, now)
    if differs_only_in(before, now, entry.step.config.resumable_fields):
        return replace(entry, why=f"{entry.why}; changed on the way: {found}", resumes=attempt.fingerprint)
    return replace(entry, why=f"{entry.why}; the unfinished {attempt.folder.name} is left behind: {found}")


def _describe(entry: Entry, seed: int) -> StageDescription:
    identity = Identity(entry.inputs, entry.references, entry.fingerprint)
    return describe_step(entry.step, seed, identity)


def _forced(name: str, selection: Selection) -> bool:
    return name in selection.force or "all" in selection.force


def _chosen(names: list[str], selection: Selection) -> list[str]:
    """Return the names of the stages that the selection allows to run."""
    if selection.only and (selection.from_ or selection.until):
        raise UsageError("--only cannot be combined with --from or --until")
    force = [name for name in selection.force if name != "all"]
    for option, name in [
        ("--from", selection.from_),
        ("--until", selection.until),
        ("--only", selection.only),
        *(("--force", name) for name in force),
    ]:
        if name is not None and name not in names:
            raise UsageError(f"{option}: the recipe has no stage `{name}`", hint=did_you_mean(name, names))
    first = names.index(selection.only or selection.from_ or names[0])
    last = names.index(selection.only or selection.until or names[-1])
    if first > last:
        raise UsageError(
            f"--from {selection.from_} comes after --until {selection.until}: nothing is left to run"
        )
    return names[first : last + 1]


def _require_inputs(entries: Iterable[Entry], selection: Selection) -> None:
    by_name = {entry.step.name: entry for entry in entries}
    for entry in by_name.values():
        if not entry.to_run:
            continue
        for source in dict.fromkeys(entry.step.inputs.values()):
            if source != BASE and by_name[source].action == "skipped":
                option = f"--only {selection.only}" if selection.only else f"--from {selection.from_}"
                message = f"{option}: {entry.step.name} needs the result of {source}, which is not made yet"
                raise UsageError(message, hint=f"Start earlier: --from {source}, or run without {option}.")
