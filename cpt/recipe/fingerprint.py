"""The fingerprint of a stage's result: equal fingerprints mean that the stage need not run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cpt.recipe.schema import Step
from cpt.stages.base import StageConfig


def config_data(config: StageConfig) -> dict[str, Any]:
    """Settings that bear on the result: not the stage's name, nor `from`, which only chooses inputs."""
    beside = {"name", "from_", *config.beside_the_result}
    return config.model_dump(mode="json", by_alias=True, exclude=beside)


def fingerprint(step: Step, seed: int, inputs: Mapping[str, str], references: Mapping[str, str]) -> str:
    """SHA-256 (hex) over everything that the stage's result depends on.

    Args:
        inputs: role -> fingerprint of the artifact that plays it.
        references: data reference as written -> fingerprint of its content.
    """
    facts = {
        "stage": step.kind,
        "contract": step.stage.contract,
        "config": config_data(step.config),
        "seed": seed,
        "inputs": dict(inputs),
        "references": dict(references),
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
