"""Every setting of a recipe under the key that an override would use, and where recipes differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cpt.recipe.fingerprint import config_data
from cpt.recipe.flat import flat
from cpt.recipe.load import Registry
from cpt.recipe.schema import RecipeFile
from cpt.report.comparison.schema import Setting

TOP = ("name", "base", "seed")


@dataclass(frozen=True)
class StageSettings:
    """One stage's settings: as written, and all that they come to, by key ("schedule.peak")."""

    written: Mapping[str, Any]
    all: Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """A recipe's settings; stages by name, in the recipe's order."""

    top: Mapping[str, Any]
    stages: Mapping[str, StageSettings]


def settings_of(
    recipe: Mapping[str, Any], registry: Registry, ran: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """The settings of a recipe's data, those included that it leaves at their defaults.

    A stage of a kind that there is no longer, or that this version refuses, is taken as written.

    Args:
        ran: by stage, the settings with which it ran; another version may have had other defaults.
    """
    stages = {}
    for item in recipe.get("stages") or []:
        kind, written = _item(item)
        name = str(written.get("name") or kind)
        known = (ran or {}).get(name)
        effective = _effective(kind, written, registry) if known is None else _as_ran(known, written)
        stages[name] = StageSettings(written, flat(effective))
    seed = RecipeFile.model_fields["seed"].default
    return Settings({"seed": seed} | {key: recipe[key] for key in TOP if key in recipe}, stages)


def differing(recipes: Mapping[str, Settings]) -> list[Setting]:
    """What recipes do not all say alike, in the order of the recipes.

    A stage that not all of them have is one setting, under its name, with what is written for it.
    """
    found = [_setting(key, {run: each.top.get(key) for run, each in recipes.items()}) for key in TOP]
    for stage in in_order(*(each.stages for each in recipes.values())):
        owners = {run: each.stages[stage] for run, each in recipes.items() if stage in each.stages}
        if len(owners) < len(recipes):
            found.append(Setting(key=stage, values={run: dict(own.written) for run, own in owners.items()}))
        for key in in_order(*(own.all for own in owners.values())):
            values = {run: own.all[key] for run, own in owners.items() if key in own.all}
            found.append(_setting(f"{stage}.{key}", values, len(owners)))
    orders = {
        run: [stage for stage in each.stages if _shared(stage, recipes)] for run, each in recipes.items()
    }
    found.append(_setting("stages", orders))
    return [setting for setting in found if setting is not None]


def in_order(*lists: Iterable[str]) -> list[str]:
    """All names, each list's own order kept as far as the lists agree: new ones follow the one before."""
    found: list[str] = []
    for names in lists:
        at = 0
        for name in names:
            if name in found:
                at = found.index(name) + 1
            else:
                found.insert(at, name)
                at += 1
    return found


def _item(item: Any) -> tuple[str, Mapping[str, Any]]:
    """Kind and settings of an item under `stages:`, which may be a bare word."""
    if isinstance(item, str):
        return item, {}
    kind, written = next(iter(item.items()))
    return kind, written or {}


def _effective(kind: str, written: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    if kind in registry:
        with suppress(ValidationError):
            return _as_ran(config_data(registry[kind].Config.model_validate(written)), written)
    return {key: value for key, value in written.items() if key != "name"}


def _as_ran(config: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's settings with the choice of its inputs, which is no part of its result's configuration."""
    return {**config, **{key: value for key, value in written.items() if key == "from"}}


def _shared(stage: str, recipes: Mapping[str, Settings]) -> bool:
    return all(stage in each.stages for each in recipes.values())


def _setting(key: str, values: dict[str, Any], of: int | None = None) -> Setting | None:
    """The setting, if not all have it or not all have it alike."""
    alike = len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) == 1
    return None if alike and len(values) == (of or len(values)) else Setting(key=key, values=values)
