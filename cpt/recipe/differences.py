"""What differs between two runs, two recipes, or a run and a recipe; and what follows from what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt import references
from cpt.errors import ReferenceUnavailable
from cpt.recipe.changes import as_text
from cpt.recipe.fingerprint import identify
from cpt.recipe.journal import Run
from cpt.recipe.load import Registry, load
from cpt.recipe.schema import Recipe
from cpt.recipe.settings import Settings, differing, in_order, settings_of
from cpt.recipe.store import Record
from cpt.report.comparison.gather import finished
from cpt.report.comparison.schema import Setting
from cpt.stages.base import BASE


@dataclass(frozen=True)
class StageSide:
    """What is known of one stage on one side.

    fingerprint: of its result; None where the content of its data could not be identified.
    seed, contract, sources, references: what the fingerprint was made of (`Record`); None where unknown.
    base: fingerprint of the base model, if the stage reads it.
    """

    kind: str
    fingerprint: str | None
    seed: int | None = None
    contract: int | None = None
    sources: Mapping[str, str] | None = None
    references: Mapping[str, str] | None = None
    base: str | None = None


@dataclass(frozen=True)
class Side:
    """A run or a recipe; `versions` are those of the run's last command."""

    name: str
    what: str
    settings: Settings
    stages: Mapping[str, StageSide]
    versions: Mapping[str, str] = field(default_factory=dict)
    unknown: str = ""


@dataclass(frozen=True)
class StageDifference:
    """How one stage of both sides compares.

    state: same | differs | only in a | only in b | unknown.
    why: what differs in the stage itself. follows: earlier stages that differ and that it is made from.
    """

    stage: str
    state: str
    a: str | None
    b: str | None
    why: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceDifference:
    """A data reference whose content differs, or that one side alone reads (then the other is None)."""

    stage: str
    reference: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Differences:
    """Everything in which two sides differ. `settings` are by "a" and "b"."""

    settings: list[Setting]
    stages: list[StageDifference]
    sources: list[SourceDifference]
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def first(self) -> StageDifference | None:
        """The first stage whose result is not the same."""
        return next((stage for stage in self.stages if stage.state not in ("same", "unknown")), None)


def side_of_run(run: Run, name: str, registry: Registry) -> Side:
    """A run, as its last command ran it."""
    records = finished(run)
    ran = {stage: record.config for stage, record in records.items()}
    stages = {
        stage: _made(records[stage]) if stage in records else StageSide(facts["kind"], facts["fingerprint"])
        for stage, facts in run.stages.items()
    }
    settings = settings_of(run.data.get("recipe") or {}, registry, ran)
    return Side(name, "run", settings, stages, run.data.get("versions") or {})


def side_of_recipe(file: Path, registry: Registry) -> Side:
    """A recipe file, as it would run now.

    Raises:
        RecipeError: it has mistakes.
    """
    recipe = load(file, registry=registry)
    settings = settings_of(recipe.data, registry)
    try:
        return Side(str(file), "recipe", settings, _planned(recipe))
    except ReferenceUnavailable as error:
        stages = {step.name: StageSide(step.kind, None) for step in recipe.steps}
        return Side(str(file), "recipe", settings, stages, unknown=error.message)


def differences(a: Side, b: Side) -> Differences:
    """Compare two sides, a before b."""
    settings = differing({"a": a.settings, "b": b.settings})
    names = in_order(a.stages, b.stages)
    stages: list[StageDifference] = []
    for name in names:
        own = [setting for setting in settings if setting.key.startswith(f"{name}.")]
        differ = {each.stage for each in stages if each.state not in ("same", "unknown")}
        stages.append(_stage(name, a.stages.get(name), b.stages.get(name), own, differ))
    packages = dict.fromkeys([*a.versions, *b.versions]) if a.versions and b.versions else {}
    return Differences(
        settings=settings,
        stages=stages,
        sources=[each for name in names for each in _sources(name, a.stages.get(name), b.stages.get(name))],
        versions={
            package: (a.versions.get(package), b.versions.get(package))
            for package in packages
            if a.versions.get(package) != b.versions.get(package)
        },
    )


def _made(record: Record) -> StageSide:
    base = next((record.parents.get(role) for role, source in record.sources.items() if source == BASE), None)
    return StageSide(
        record.stage,
        record.fingerprint,
        record.seed,
        record.contract,
        record.sources,
        record.references,
        base,
    )


def _planned(recipe: Recipe) -> dict[str, StageSide]:
    known = {BASE: references.fingerprint(recipe.base)}
    stages = {}
    for step in recipe.steps:
        inputs, contents, own = identify(step, recipe.seed, known)
        known[step.name] = own
        base = next((inputs[role] for role, source in step.inputs.items() if source == BASE), None)
        stages[step.name] = StageSide(
            step.kind, own, recipe.seed, step.stage.contract, step.inputs, contents, base
        )
    return stages


def _stage(
    name: str, a: StageSide | None, b: StageSide | None, settings: list[Setting], differ: set[str]
) -> StageDifference:
    """One stage.

    Args:
        settings: of this stage that differ. differ: earlier stages that differ.
    """
    if a is None or b is None:
        state = "only in b" if a is None else "only in a"
        return StageDifference(name, state, a.fingerprint if a else None, b.fingerprint if b else None)
    why = (*(_in_words(setting, name) for setting in settings), *_beside_settings(a, b, differ))
    sources = [*(a.sources or {}).values(), *(b.sources or {}).values()]
    follows = tuple(source for source in dict.fromkeys(sources) if source in differ)
    if a.fingerprint is None or b.fingerprint is None:
        state = "differs" if why or follows else "unknown"
    else:
        state = "same" if a.fingerprint == b.fingerprint else "differs"
    return StageDifference(name, state, a.fingerprint, b.fingerprint, why, follows)


def _in_words(setting: Setting, stage: str) -> str:
    key = setting.key.removeprefix(f"{stage}.")
    if "a" not in setting.values:
        return f"{key} = {as_text(setting.values['b'])} is new"
    if "b" not in setting.values:
        return f"{key} = {as_text(setting.values['a'])} is gone"
    return f"{key} {as_text(setting.values['a'])} → {as_text(setting.values['b'])}"


def _beside_settings(a: StageSide, b: StageSide, differ: set[str]) -> Iterator[str]:
    """What differs in a stage itself, other than its settings; only what both sides know."""
    if a.kind != b.kind:
        yield f"a {a.kind} stage → a {b.kind} stage"
    if None not in (a.seed, b.seed) and a.seed != b.seed:
        yield f"seed {a.seed} → {b.seed}"
    if None not in (a.contract, b.contract) and a.contract != b.contract:
        yield f"{b.kind} works differently (contract {a.contract} → {b.contract})"
    if None not in (a.base, b.base) and a.base != b.base:
        yield "the base model is another"
    contents = (a.references or {}, b.references or {})
    for reference in contents[0]:
        if contents[0][reference] != contents[1].get(reference, contents[0][reference]):
            yield f"the content of {reference} changed"
    for role, source in (a.sources or {}).items():
        other = (b.sources or {}).get(role, source)
        if source != other and not {source, other} & differ:
            yield f"{role} comes from {source} → {other}"


def _sources(name: str, a: StageSide | None, b: StageSide | None) -> Iterator[SourceDifference]:
    """References of one stage whose content is not the same on both sides; none where a side is unknown."""
    if (a and a.references is None) or (b and b.references is None):
        return
    before: Mapping[str, Any] = a.references or {} if a else {}
    after: Mapping[str, Any] = b.references or {} if b else {}
    for reference in dict.fromkeys([*before, *after]):
        if before.get(reference) != after.get(reference):
            yield SourceDifference(name, reference, before.get(reference), after.get(reference))
