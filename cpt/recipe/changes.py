"""Why an earlier result no longer answers the recipe, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cpt.recipe.fingerprint import config_data
from cpt.recipe.flat import flat
from cpt.recipe.schema import Step
from cpt.recipe.store import Record
from cpt.stages.base import BASE

_SHOWN = 4
_MISSING = object()


def changes(
    old: Record, step: Step, seed: int, inputs: Mapping[str, str], references: Mapping[str, str]
) -> list[str]:
    """What differs between a stage's earlier artifact and what the recipe asks for now.

    Args:
        inputs: role -> fingerprint, as planned. references: data reference -> content fingerprint.
    """
    found = list(_settings(flat(old.config), flat(config_data(step.config))))
    if len(found) > _SHOWN:
        found = [*found[:_SHOWN], f"and {len(found) - _SHOWN} more settings"]
    if old.seed != seed:
        found.append(f"seed {old.seed} → {seed}")
    for reference, content in references.items():
        if old.references.get(reference, content) != content:
            found.append(f"the content of {reference} changed")
    found += _inputs(old, step, inputs)
    if old.contract != step.stage.contract:
        found.append(f"{step.kind} works differently now (contract {old.contract} → {step.stage.contract})")
    return found


def may_go_on(
    attempt: Record, step: Step, seed: int, inputs: Mapping[str, str], references: Mapping[str, str]
) -> bool:
    """Return whether an unfinished attempt differs from the recipe only in settings that may change.

    Args: as of `changes`.
    """

    def fixed(config: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if key not in step.config.resumable_fields}

    return (
        fixed(attempt.config) == fixed(config_data(step.config))
        and (attempt.seed, attempt.contract) == (seed, step.stage.contract)
        and (attempt.parents, attempt.references) == (dict(inputs), dict(references))
    )


def _inputs(old: Record, step: Step, inputs: Mapping[str, str]) -> Iterator[str]:
    changed: dict[str, None] = {}
    for role, content in inputs.items():
        source, before = step.inputs[role], old.sources.get(role)
        if old.parents.get(role) == content:
            continue
        if before is not None and before != source:
            yield f"{role} comes from {source} instead of {before}"
        elif source == BASE:
            yield "the base model is another"
        else:
            changed[source] = None
    if changed:
        names = ", ".join(changed)
        yield f"its inputs {names} change" if len(changed) > 1 else f"its input {names} changes"
    for role in old.parents.keys() - inputs.keys():
        yield f"{role} is no longer used"


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if before == after:
            continue
        if before is _MISSING:
            yield f"{key} = {as_text(after)} is new"
        elif after is _MISSING:
            yield f"{key} = {as_text(before)} is gone"
        else:
            yield f"{key} {as_text(before)} → {as_text(after)}"


def as_text(value: Any) -> str:
    """A setting's value in a message, its middle left out where it is long."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
