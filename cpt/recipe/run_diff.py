"""Compare runs and recipes: their settings, their stages, their sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cpt import references
from cpt.errors import ReferenceUnavailable
from cpt.recipe.diff import (
    TOP,
    StageDescription,
    StageDifference,
    compare_stages,
    describe_record,
    describe_step,
    flat,
    in_order,
)
from cpt.recipe.fingerprint import config_data, identify
from cpt.recipe.journal import Run
from cpt.recipe.load import Registry, load
from cpt.recipe.schema import Recipe, RecipeFile
from cpt.stages.base import BASE


@dataclass(frozen=True)
class StageSettings:
    """Settings of one stage: as written, and all of them with defaults by dotted key ("schedule.peak")."""

    written: Mapping[str, Any]
    all: Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """Settings of a recipe; stages by name, in the recipe's order."""

    top: Mapping[str, Any]
    stages: Mapping[str, StageSettings]


@dataclass(frozen=True)
class SettingDifference:
    """A setting in which recipes differ: values by recipe; a recipe that lacks it is left out."""

    key: str
    values: dict[str, Any]


def settings_of(
    recipe: Mapping[str, Any], registry: Registry, ran: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Return the settings of a recipe's data, including those that it leaves at their defaults.

    A stage of a kind that no longer exists, or that this version refuses, is taken as written.

    Args:
        ran: By stage, the settings with which it ran; another version may have had other defaults.
    """
    stages = {}
    for item in recipe.get("stages") or []:
        kind, written = _item(item)
        name = str(written.get("name") or kind)
        known = (ran or {}).get(name)
        effective = _effective(kind, written, registry) if known is None else _with_from(known, written)
        stages[name] = StageSettings(written, flat(effective))
    seed = RecipeFile.model_fields["seed"].default
    return Settings({"seed": seed} | {key: recipe[key] for key in TOP if key in recipe}, stages)


def differing(recipes: Mapping[str, Settings]) -> list[SettingDifference]:
    """Return the settings in which recipes differ, in the order of the recipes.

    A stage that not all of them have is one setting, under its name, with its settings as written.
    """
    found = [_difference(key, {run: each.top.get(key) for run, each in recipes.items()}) for key in TOP]
    for stage in in_order(*(each.stages for each in recipes.values())):
        owners = {run: each.stages[stage] for run, each in recipes.items() if stage in each.stages}
        if len(owners) < len(recipes):
            written = {run: dict(own.written) for run, own in owners.items()}
            found.append(SettingDifference(stage, written))
        for key in in_order(*(own.all for own in owners.values())):
            values = {run: own.all[key] for run, own in owners.items() if key in own.all}
            found.append(_difference(f"{stage}.{key}", values, len(owners)))
    shared = {stage for each in recipes.values() for stage in each.stages}
    shared = {stage for stage in shared if all(stage in each.stages for each in recipes.values())}
    orders = {run: [stage for stage in each.stages if stage in shared] for run, each in recipes.items()}
    found.append(_difference("stages", orders))
    return [setting for setting in found if setting is not None]


def _item(item: Any) -> tuple[str, Mapping[str, Any]]:
    """Return kind and settings of an item under `stages:`, which may be a bare word."""
    if isinstance(item, str):
        return item, {}
    kind, written = next(iter(item.items()))
    return kind, written or {}


def _effective(kind: str, written: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    if kind in registry:
        with suppress(ValidationError):
            return _with_from(config_data(registry[kind].Config.model_validate(written)), written)
    return {key: value for key, value in written.items() if key != "name"}


def _with_from(config: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """Add the choice of the stage's inputs, which is no part of its result's configuration."""
    return {**config, **{key: value for key, value in written.items() if key == "from"}}


def _difference(key: str, values: dict[str, Any], count: int | None = None) -> SettingDifference | None:
    """Return the setting, unless `count` recipes have it and have it alike."""
    alike = len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) == 1
    return None if alike and len(values) == (count or len(values)) else SettingDifference(key, values)


@dataclass(frozen=True)
class Side:
    """A run or a recipe that is compared.

    Attributes:
        what: "run" or "recipe".
        versions: Versions of packages in the run's last command.
        unknown: Reason why the results of a recipe cannot be identified; may be empty.
    """

    name: str
    what: str
    settings: Settings
    stages: Mapping[str, StageDescription]
    versions: Mapping[str, str] = field(default_factory=dict)
    unknown: str = ""


@dataclass(frozen=True)
class SourceDifference:
    """A data reference whose content differs, or that only one side reads (the other is None)."""

    stage: str
    reference: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Differences:
    """Everything in which two sides differ. Values of settings are by "a" and "b"."""

    settings: list[SettingDifference]
    stages: list[StageDifference]
    sources: list[SourceDifference]
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def first(self) -> StageDifference | None:
        """The first stage whose results differ."""
        return next((stage for stage in self.stages if stage.state not in ("same", "unknown")), None)


def side_of_run(run: Run, name: str, registry: Registry) -> Side:
    """Describe a run, as its last command ran it."""
    records = run.finished()
    ran = {stage: record.config for stage, record in records.items()}
    settings = settings_of(run.data.get("recipe") or {}, registry, ran)
    stages = {}
    for stage, facts in run.stages.items():
        known = settings.stages[stage].all if stage in settings.stages else {}
        if stage in records:
            stages[stage] = describe_record(records[stage], known)
        else:
            stages[stage] = StageDescription(facts["kind"], facts["fingerprint"], known)
    return Side(name, "run", settings, stages, run.data.get("versions") or {})


def side_of_recipe(file: Path, registry: Registry) -> Side:
    """Describe a recipe file, as it would run now.

    Raises:
        RecipeError: The recipe has mistakes.
    """
    recipe = load(file, registry=registry)
    settings = settings_of(recipe.data, registry)
    try:
        return Side(str(file), "recipe", settings, _planned(recipe, settings))
    except ReferenceUnavailable as error:
        stages = {
            step.name: StageDescription(step.kind, None, settings.stages[step.name].all)
            for step in recipe.steps
        }
        return Side(str(file), "recipe", settings, stages, unknown=error.message)


def differences(a: Side, b: Side) -> Differences:
    """Compare two sides, a before b."""
    names = in_order(a.stages, b.stages)
    stages: list[StageDifference] = []
    for name in names:
        changed = {each.stage for each in stages if each.state not in ("same", "unknown")}
        stages.append(compare_stages(name, a.stages.get(name), b.stages.get(name), changed))
    packages = dict.fromkeys([*a.versions, *b.versions]) if a.versions and b.versions else {}
    return Differences(
        settings=differing({"a": a.settings, "b": b.settings}),
        stages=stages,
        sources=[each for name in names for each in _sources(name, a.stages.get(name), b.stages.get(name))],
        versions={
            package: (a.versions.get(package), b.versions.get(package))
            for package in packages
            if a.versions.get(package) != b.versions.get(package)
        },
    )


def _planned(recipe: Recipe, settings: Settings) -> dict[str, StageDescription]:
    known = {BASE: references.fingerprint(recipe.base)}
    stages = {}
    for step in recipe.steps:
        identity = identify(step, recipe.seed, known)
        known[step.name] = identity.fingerprint
        stages[step.name] = describe_step(step, recipe.seed, identity, settings.stages[step.name].all)
    return stages


def _sources(name: str, a: StageDescription | None, b: StageDescription | None) -> Iterator[SourceDifference]:
    """Yield references of one stage whose content differs; none where a side is unknown."""
    if (a and a.references is None) or (b and b.references is None):
        return
    before: Mapping[str, Any] = a.references or {} if a else {}
    after: Mapping[str, Any] = b.references or {} if b else {}
    for reference in dict.fromkeys([*before, *after]):
        if before.get(reference) != after.get(reference):
            yield SourceDifference(name, reference, before.get(reference), after.get(reference))
