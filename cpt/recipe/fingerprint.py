"""Compute the fingerprint of a stage's result: with an equal fingerprint the stage need not run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cpt import references
from cpt.recipe.schema import Step
from cpt.stages.base import StageConfig


def config_data(config: StageConfig) -> dict[str, Any]:
    """Return the settings that affect the result.

    The stage's name does not, nor does `from`, which only chooses inputs.
    """
    left_out = {"name", "from_", *config.not_fingerprinted}
    return config.model_dump(mode="json", by_alias=True, exclude=_by_level(left_out))


def unfingerprinted_data(config: StageConfig) -> dict[str, Any]:
    """Return the settings that affect only what is kept beside the result, or how it is made."""
    if not config.not_fingerprinted:
        return {}
    return config.model_dump(mode="json", by_alias=True, include=_by_level(config.not_fingerprinted))


def _by_level(keys: Iterable[str]) -> dict[str, Any]:
    """Return dotted keys as nested ones: {"workers": True, "study": {"write": {"timeout": True}}}."""
    levels: dict[str, Any] = {}
    for key in keys:
        *path, last = key.split(".")
        level = levels
        for name in path:
            level = level.setdefault(name, {})
        level[last] = True
    return levels


class Identity(NamedTuple):
    """The fingerprint of a stage's result, and the artifacts and data that it depends on.

    Attributes:
        inputs: Role -> fingerprint.
        references: Data reference as written -> fingerprint of its content.
    """

    inputs: dict[str, str]
    references: dict[str, str]
    fingerprint: str


def identify(step: Step, seed: int, known: Mapping[str, str]) -> Identity:
    """Compute the fingerprint of a stage's result from those of its inputs and data.

    Args:
        known: Fingerprints of the base model and of all earlier stages, by name.

    Raises:
        ReferenceUnavailable: The content of a data file cannot be identified.
    """
    inputs = {role: known[source] for role, source in step.inputs.items()}
    contents = {written: references.fingerprint(located) for written, located in step.references.items()}
    return Identity(inputs, contents, fingerprint(step, seed, inputs, contents))


def fingerprint(step: Step, seed: int, inputs: Mapping[str, str], contents: Mapping[str, str]) -> str:
    """Compute the SHA-256 (hex) of everything that the stage's result depends on.

    Args:
        inputs: Role -> fingerprint of the artifact that plays it.
        contents: Data reference as written -> fingerprint of its content.
    """
    facts = {
        "stage": step.kind,
        "contract": step.stage.contract,
        "config": config_data(step.config),
        "seed": seed,
        "inputs": dict(inputs),
        "references": dict(contents),
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
