"""The request of a sweep of two settings with two levels each, for tests of its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt.sweep.factors import Factor
from cpt.sweep.state import SweepRequest

FACTORS = (
    Factor(key="pretrain.schedule.peak", levels=(1e-4, 3e-4)),
    Factor(key="corpus.heldout", levels=(0.02, 0.1)),
)

HOUR = 3600.0


def request(recipe_file: Path, **changes: Any) -> SweepRequest:
    given = {"name": "sweep", "recipe": str(recipe_file), "factors": FACTORS, "seeds": (17,)} | changes
    return SweepRequest(**given)
