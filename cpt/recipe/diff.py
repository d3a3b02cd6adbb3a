"""Compare stages: which settings, inputs and data differ.

Everything rests on `StageDescription`: what a stage's result depends on. It is made of a finished result, an
unfinished attempt, or a recipe. `cpt plan` compares an earlier result or attempt with the recipe ("stale
because"); `cpt.recipe.run_diff` compares whole runs and recipes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cpt.recipe.fingerprint import Identity, config_data
from cpt.recipe.schema import Step
from cpt.recipe.store import Record
from cpt.stages.base import BASE

TOP = ("name", "base", "seed")
"""Settings of a recipe outside its stages."""

OLDER_VERSION = "made by another version of cpt"
"""Explains two fingerprints that differ although everything that is known is equal."""


@dataclass(frozen=True)
class StageDescription:
    """Everything that the result of a stage depends on, as far as it is known.

    Attributes:
        fingerprint: Fingerprint of the result; None if the content of its data could not be identified.
        settings: Values by dotted key, defaults included.
        inputs: Role -> name of the stage that plays it; None if unknown.
        parents: Role -> fingerprint of the artifact that plays it.
        references: Data reference -> fingerprint of its content; None if unknown.
    """

    kind: str
    fingerprint: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    contract: int | None = None
    inputs: Mapping[str, str] | None = None
    parents: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] | None = None

    @property
    def base(self) -> str | None:
        """Fingerprint of the base model, if the stage reads it."""
        inputs = (self.inputs or {}).items()
        return next((self.parents.get(role) for role, source in inputs if source == BASE), None)


@dataclass(frozen=True)
class StageDifference:
    """The comparison of one stage of two sides.

    Attributes:
        state: same | differs | only in a | only in b | unknown.
        a, b: Fingerprints of the results.
        why: Differences in the stage itself, one phrase each.
        follows: Earlier stages that differ and that its result is made from.
    """

    stage: str
    state: str
    a: str | None
    b: str | None
    why: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()


def describe_record(record: Record, settings: Mapping[str, Any] | None = None) -> StageDescription:
    """Describe a finished result or an unfinished attempt.

    Args:
        settings: Values by dotted key, if not those that its fingerprint was made of.
    """
    return StageDescription(
        kind=record.stage,
        fingerprint=record.fingerprint,
        settings=flat(record.config) if settings is None else settings,
        seed=record.seed,
        contract=record.contract,
        inputs=record.sources,
        parents=record.parents,
        references=record.references,
    )


def describe_step(
    step: Step, seed: int, identity: Identity, settings: Mapping[str, Any] | None = None
) -> StageDescription:
    """Describe a stage of a recipe.

    Args:
        settings: Values by dotted key, if not those that its fingerprint is made of.
    """
    return StageDescription(
        kind=step.kind,
        fingerprint=identity.fingerprint,
        settings=flat(config_data(step.config)) if settings is None else settings,
        seed=seed,
        contract=step.stage.contract,
        inputs=step.inputs,
        parents=identity.inputs,
        references=identity.references,
    )


def changed_inputs(a: StageDescription, b: StageDescription) -> set[str]:
    """Return the stages that both take for the same role, and whose results differ."""
    before = a.inputs or {}
    return {
        source
        for role, source in (b.inputs or {}).items()
        if before.get(role, source) == source != BASE and a.parents.get(role) != b.parents.get(role)
    }


def compare_stages(
    name: str,
    a: StageDescription | None,
    b: StageDescription | None,
    changed: Collection[str],
    most_settings: int | None = None,
) -> StageDifference:
    """Compare one stage of two sides.

    Args:
        changed: Names of earlier stages whose results differ.
        most_settings: Number of changed settings to name; the rest is counted. None: all.
    """
    if a is None or b is None:
        state = "only in b" if a is None else "only in a"
        return StageDifference(name, state, a.fingerprint if a else None, b.fingerprint if b else None)
    settings = [_setting_change(key, a.settings, b.settings) for key in _changed_keys(a.settings, b.settings)]
    if most_settings is not None and len(settings) > most_settings:
        settings = [*settings[:most_settings], f"and {len(settings) - most_settings} more settings"]
    why = (*settings, *_other_changes(a, b, changed))
    sources = [*(a.inputs or {}).values(), *(b.inputs or {}).values()]
    follows = tuple(source for source in dict.fromkeys(sources) if source in changed)
    if a.fingerprint is None or b.fingerprint is None:
        state = "differs" if why or follows else "unknown"
    else:
        state = "same" if a.fingerprint == b.fingerprint else "differs"
    return StageDifference(name, state, a.fingerprint, b.fingerprint, why, follows)


def explain_change(a: StageDescription, b: StageDescription, most_settings: int = 4) -> str:
    """Explain in one line why the result `b` is another than the earlier result `a`."""
    found = compare_stages("", a, b, (), most_settings)
    changed = changed_inputs(a, b)
    names = [source for source in dict.fromkeys((b.inputs or {}).values()) if source in changed]
    listed = ", ".join(names)
    inputs = f"its inputs {listed} change" if len(names) > 1 else f"its input {listed} changes"
    return "; ".join([*found.why, *([inputs] if names else [])]) or OLDER_VERSION


def differs_only_in(a: StageDescription, b: StageDescription, fields: Collection[str]) -> bool:
    """Return True if two descriptions are equal but for some settings.

    Args:
        fields: Names of top-level settings that may differ.
    """

    def rest(each: StageDescription) -> tuple[Any, ...]:
        settings = {key: value for key, value in each.settings.items() if key.partition(".")[0] not in fields}
        return settings, each.seed, each.contract, dict(each.parents), dict(each.references or {})

    return rest(a) == rest(b)


def _changed_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in in_order(a, b) if key not in a or key not in b or a[key] != b[key]]


def _setting_change(key: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    if key not in a:
        return f"{key} = {as_text(b[key])} is new"
    if key not in b:
        return f"{key} = {as_text(a[key])} is gone"
    return f"{key} {as_text(a[key])} → {as_text(b[key])}"


def _other_changes(a: StageDescription, b: StageDescription, changed: Collection[str]) -> Iterator[str]:
    """Yield differences in a stage other than its settings. Facts that one side lacks are not compared."""
    if a.kind != b.kind:
        yield f"a {a.kind} stage → a {b.kind} stage"
    if None not in (a.seed, b.seed) and a.seed != b.seed:
        yield f"seed {a.seed} → {b.seed}"
    before = a.references or {}
    for reference, content in (b.references or {}).items():
        if before.get(reference, content) != content:
            yield f"the content of {reference} changed"
    if None not in (a.base, b.base) and a.base != b.base:
        yield "the base model is another"
    if a.inputs is not None and b.inputs is not None:
        for role, source in a.inputs.items():
            other = b.inputs.get(role)
            if source in changed or other in changed:
                continue
            if other is None:
                yield f"{role} is no longer used"
            elif source != other:
                yield f"{role} comes from {other} instead of {source}"
    if None not in (a.contract, b.contract) and a.contract != b.contract:
        yield f"{b.kind} works differently (contract {a.contract} → {b.contract})"


def as_text(value: Any) -> str:
    """Return a setting's value for a message; the middle of a long one is left out."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested data by dotted keys: `{"a": [{"b": 1}]}` as `{"a.0.b": 1}`; plain lists stay whole."""
    if isinstance(value, dict) and value:
        items: Any = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = enumerate(value)
    else:
        return {key: value}
    found = {}
    for part, inner in items:
        found.update(flat(inner, f"{key}.{part}" if key else str(part)))
    return found


def in_order(*lists: Iterable[str]) -> list[str]:
    """Return all names once. Each list's own order is kept as far as the lists agree."""
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
