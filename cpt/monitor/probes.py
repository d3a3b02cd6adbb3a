"""Probes: small texts whose bits per byte are measured again and again during training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from cpt.monitor.bits_per_byte import TokenisedText, score
from cpt.monitor.stability import Point, StabilityGap, stability_gap
from cpt.packed.model import PackedLanguageModel


@dataclass(frozen=True)
class Reading:
    """One probe at one moment of the training."""

    step: int
    tokens: int
    probe: str
    bits_per_byte: float
    standard_error: float

    def as_json(self) -> dict[str, Any]:
        """Plain data; an unknown standard error (one document) is null."""
        data = asdict(self)
        if math.isnan(self.standard_error):
            data["standard_error"] = None
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Reading:
        """The inverse of `as_json`."""
        error = data["standard_error"]
        return cls(**{**data, "standard_error": math.nan if error is None else error})


def read_probes(
    model: PackedLanguageModel, probes: dict[str, TokenisedText], step: int, tokens: int
) -> list[Reading]:
    """Measure every probe now."""
    readings = []
    for name, text in probes.items():
        scores = score(model, text)
        readings.append(Reading(step, tokens, name, scores.bits_per_byte, scores.standard_error))
    return readings


def probe_steps(total: int, every: int) -> list[int]:
    """Steps after which probes are read: dense at first, where the gap is, then regular.

    0, 1, 2, 4, 8, … up to `every`, then every `every` steps, and the last step.
    """
    dense = [0]
    step = 1
    while step < min(every, total):
        dense.append(step)
        step *= 2
    return sorted({*dense, *range(every, total, every), total})


def stability(readings: list[Reading], tolerance: float) -> dict[str, StabilityGap]:
    """The stability gap of every probe that was read."""
    curves: dict[str, list[Point]] = {}
    for reading in readings:
        curves.setdefault(reading.probe, []).append(
            Point(reading.step, reading.tokens, reading.bits_per_byte)
        )
    return {name: stability_gap(curve, tolerance) for name, curve in curves.items()}
