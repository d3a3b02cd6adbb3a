"""Runs to compare: the example run with other changes on domain and general text."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from medical_run import PROBED, SCORES, TOKENS_PER_STEP, level, medical_run

from cpt.report.comparison.facts import ReportedRun
from cpt.report.comparison.schema import Setting
from cpt.report.facts import gather
from cpt.report.schema import Facts

NOISE = 0.01
"""Half the width of every interval of a change."""

TEXTS = {"domain": "d0" * 32, "general": "9e" * 32}
"""Fingerprints of the held-out text that the runs share."""

STARTS = {"domain": 1.1, "general": 0.991}


def a_run(
    name: str,
    domain: float,
    general: float,
    *,
    noise: float = NOISE,
    depth: float = 0.05,
    texts: dict[str, str] | None = None,
    **changed: Any,
) -> ReportedRun:
    """A run by its two changes in bits per byte.

    Args:
        changed: facts that are otherwise.
    """
    facts = the_facts(name, {"domain": domain, "general": general}, noise, depth)
    return ReportedRun(
        name=name,
        facts=facts.model_copy(update=changed),
        folder=f"runs/{name}",
        page=f"{name}/report.html",
        texts=TEXTS if texts is None else texts,
    )


def the_facts(name: str, ends: dict[str, float], noise: float, depth: float) -> Facts:
    run = medical_run()
    assert run.training is not None
    dips = {"domain": 0.0, "general": depth}
    curves = {probe: [curve_at(step, end, dips[probe]) for step in PROBED] for probe, end in ends.items()}
    rows = [
        reading(probe, step, STARTS[probe] + rise)
        for probe, rises in curves.items()
        for step, rise in zip(PROBED, rises, strict=True)
    ]
    gaps = {probe: gap_of(STARTS[probe], rises) for probe, rises in curves.items()}
    scores = {probe: score_of(SCORES["bits_per_byte"][probe], end, noise) for probe, end in ends.items()}
    summary = {**run.training.summary, "stability": gaps}
    return gather(
        dataclasses.replace(
            run,
            recipe={**run.recipe, "name": name},
            training=dataclasses.replace(run.training, probes=rows, summary=summary),
            scores={**SCORES, "bits_per_byte": scores},
        )
    )


def reading(probe: str, step: int, value: float) -> dict[str, Any]:
    tokens = step * TOKENS_PER_STEP
    return {
        "step": step,
        "tokens": tokens,
        "probe": probe,
        "value": value,
        "kind": "text",
        "unit": "bits per byte",
        "standard_error": 0.01,
    }


def curve_at(step: int, end: float, dip: float) -> float:
    """Rise over the start: a dip that passes, and an end that stays."""
    return end * (1 - math.exp(-step / 13)) + dip * (step / 7) * math.exp(1 - step / 7)


def gap_of(start: float, rises: list[float]) -> dict[str, Any]:
    worst = max(range(len(rises)), key=lambda index: rises[index])
    back = next((i for i in range(worst + 1, len(rises)) if rises[i] <= 0), None)
    return {
        "before": start,
        "end": start + rises[-1],
        "depth": rises[worst],
        "trough_step": PROBED[worst],
        "trough_tokens": PROBED[worst] * TOKENS_PER_STEP,
        "recovery_step": None if back is None else PROBED[back],
        "recovery_tokens": None if back is None else PROBED[back] * TOKENS_PER_STEP,
        "area": 1000 * max(0.0, *rises),
        "permanent": rises[-1],
    }


def score_of(score: dict[str, Any], change: float, noise: float) -> dict[str, Any]:
    before = score["before"]["value"]
    return score | {
        "after": level(before + change, before + change - 0.02, before + change + 0.02),
        "difference": level(change, change - noise, change + noise),
    }


FOUR = (
    a_run("replay-0", -0.31, 0.09, depth=0.14, tokens={"domain": 122_880}),
    a_run("replay-25", -0.26, 0.01, depth=0.07),
    a_run("replay-50", -0.2, -0.005, depth=0.03, tokens={"domain": 61_440, "replay": 61_440}),
    a_run("slow", -0.18, 0.05, depth=0.02, tokens_per_second=310.0),
)
"""The first three are on the front; the last is beaten by the second and the third."""

SETTINGS = [
    Setting(
        key="pretrain.replay", values={"replay-0": 0.0, "replay-25": 0.25, "replay-50": 0.5, "slow": 0.25}
    ),
    Setting(
        key="pretrain.schedule.peak",
        values={"replay-0": 3e-4, "replay-25": 3e-4, "replay-50": 3e-4, "slow": 5e-5},
    ),
    Setting(key="vocabulary", values={"slow": {"extend": {"tokens": 256}}}),
]
