"""A run with everything that a report can show: the medical run, watched, bounded, and saved by replay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from medical_run import RECIPE, learning_rate, level, medical_run
from vector_facts import analysis

from cpt.report.facts import RunRecord, TrainingRecord

STEPS = 240
TOKENS_PER_STEP = 2048
PROBED = [0, 1, 2, 4, 8, *range(10, STEPS + 1, 10)]
SPARSE = [0, 1, 2, 4, 8, 16, *range(30, STEPS + 1, 30)]
RAISED = [(0, 0.125), (20, 0.25), (40, 0.375)]
LOWERED = (40, 0.7)
LAYERS = 30
LIMIT = 0.02


def domain(step: int) -> float:
    return 0.792 + 0.309 * math.exp(-step / 52.0)


def general(step: int) -> float:
    return 0.991 + 0.0245 * (step / 28.0) * math.exp(1 - step / 28.0) + 0.002 * step / STEPS


def instruction(step: int) -> float:
    return 1.214 + 0.031 * (1 - math.exp(-step / 30.0))


def piqa(step: int) -> float:
    return 0.664 - 0.034 * (step / 30.0) * math.exp(1 - step / 30.0) - 0.004 * step / STEPS


def arc(step: int) -> float:
    return 0.372 + 0.021 * (1 - math.exp(-step / 60.0))


def drift(step: int) -> float:
    return 0.082 * (1 - math.exp(-step / 45.0))


def early_end(step: int) -> float:
    return 5e-6 * (1 + 1.5 * (1 - math.exp(-step / 45.0)))


def reading(step: int, probe: str, kind: str, unit: str, value: float, **more: Any) -> dict[str, Any]:
    row = {"step": step, "tokens": step * TOKENS_PER_STEP, "probe": probe, "kind": kind, "unit": unit}
    row |= {"value": value, "standard_error": None, "rise": None, "rise_error": None}
    return row | {"share": 1.0, "seconds": 1.2, "detail": None} | more


def curve(
    probe: str,
    kind: str,
    unit: str,
    value: Callable[[int], float],
    steps: Sequence[int],
    errors: tuple[float, float],
) -> list[dict[str, Any]]:
    """Readings with paired rises; the error of a rise grows from 0 to its full size."""
    return [
        reading(
            step, probe, kind, unit, value(step),
            standard_error=errors[0], rise=value(step) - value(0),
            rise_error=errors[1] * min(1.0, step / 8), share=1.0 if step < 100 else 0.5,
        )
        for step in steps
    ]  # fmt: skip


def update(layer: int, step: int) -> float:
    bottom = (0.75 + 0.9 * math.exp(-step / 25.0)) * math.exp(-layer / 6.0)
    return 0.011 * (1 - math.exp(-step / 60.0)) * (1 + bottom + 0.25 * (layer == LAYERS - 1))


def weights(step: int) -> dict[str, Any]:
    updates = [update(layer, step) for layer in range(LAYERS)]
    detail: dict[str, Any] = {
        "layers": [{"layer": layer, "update": found} for layer, found in enumerate(updates)],
        "embeddings": 0.4 * updates[0],
        "head": 0.4 * updates[0],
        "bottom_top": sum(updates[:5]) / sum(updates[-5:]) if step else None,
    }
    total = float(np.mean(updates))
    return reading(step, "weights", "weights", "relative update", total, detail=detail)


def new_tokens(step: int) -> dict[str, Any]:
    norms = {
        "input": 0.72 + 0.2 * (1 - math.exp(-step / 90.0)),
        "output": 0.72 + 0.24 * (1 - math.exp(-step / 60.0)),
    }
    return reading(step, "new-tokens", "new-tokens", "norm ratio", norms["input"], detail=norms)


def probe_rows() -> list[dict[str, Any]]:
    text, accuracy = "bits per byte", "accuracy"
    return [
        *curve("domain", "text", text, domain, PROBED, (0.011, 0.0026)),
        *curve("general", "text", text, general, PROBED, (0.012, 0.0011)),
        *curve("instruction", "text", text, instruction, PROBED, (0.02, 0.0021)),
        *curve("piqa", "task", accuracy, piqa, SPARSE, (0.033, 0.008)),
        *curve("arc-easy", "task", accuracy, arc, SPARSE, (0.034, 0.009)),
        *curve("drift", "drift", "nats per token", drift, PROBED, (0.004, 0.0)),
        *curve("early-end", "early-end", "probability", early_end, PROBED, (1e-6, 4e-7)),
        *(weights(step) for step in SPARSE),
        *(new_tokens(step) for step in PROBED),
    ]


def controlled(step: int) -> tuple[float, float]:
    """Replay share and rate factor of a step."""
    share = [share for first, share in RAISED if first <= step][-1]
    return share, LOWERED[1] if step > LOWERED[0] else 1.0


def steps() -> list[dict[str, Any]]:
    noise = np.random.default_rng(3).normal(0.0, 0.06, STEPS + 1)
    tokens, rows = {"domain": 0, "replay": 0}, []
    for step in range(1, STEPS + 1):
        share, factor = controlled(step)
        tokens["replay"] += round(share * TOKENS_PER_STEP)
        tokens["domain"] += TOKENS_PER_STEP - round(share * TOKENS_PER_STEP)
        loss = 2.05 + 0.75 * math.exp(-step / 50.0) + noise[step]
        rows.append(
            {"step": step, "tokens": step * TOKENS_PER_STEP, "loss_nats": loss}
            | {"loss_parts": {"domain": loss, "kl": 0.08 * (1 - math.exp(-step / 60.0))}}
            | {"lr": factor * learning_rate(step / 4), "sources": dict(tokens)}
            | {"replay_share": share, "rate_factor": factor}
        )
    return rows


def figures(value: Callable[[int], float], worse: int, steps: Sequence[int], error: float) -> dict[str, Any]:
    rises = [worse * (value(step) - value(0)) for step in steps]
    depth = max(0.0, *rises)
    trough = rises.index(max(rises))
    recovered = next((i for i in range(trough + 1, len(steps)) if rises[i] <= 2 * error), None)
    recovery = steps[recovered] if recovered is not None and depth > 2 * error else None
    area = sum(
        (max(0.0, a) + max(0.0, b)) / 2 * (n - m) * TOKENS_PER_STEP
        for a, b, m, n in zip(rises, rises[1:], steps, steps[1:], strict=False)
    )
    return {
        "before": value(0),
        "end": value(steps[-1]),
        "depth": depth,
        "depth_error": error,
        "trough_step": steps[trough],
        "trough_tokens": steps[trough] * TOKENS_PER_STEP,
        "recovery_step": recovery,
        "recovery_tokens": None if recovery is None else recovery * TOKENS_PER_STEP,
        "area": area,
        "permanent": rises[-1],
        "permanent_error": error,
        "gap": depth > 2 * error,
        "forgotten": rises[-1] > 2 * error,
    }


GATES: list[dict[str, Any]] = [
    {
        "limit": "general <= +0.02", "probe": "general", "allowed": LIMIT, "unit": "bits per byte",
        "action": "raise-replay", "verdict": "held", "value": 0.002, "error": 0.0011,
        "why": "general rose by 0.002 ± 0.002 of 0.02 allowed",
    },
    {
        "limit": "instruction <= +0.02", "probe": "instruction", "allowed": 0.02, "unit": "bits per byte",
        "action": "warn", "verdict": "broken", "value": 0.031, "error": 0.0021,
        "why": "instruction rose by 0.031 ± 0.004, more than 0.02",
    },
    {
        "limit": "piqa >= -1 point", "probe": "piqa", "allowed": -0.01, "unit": "accuracy",
        "action": "lower-rate", "verdict": "not shown", "value": -0.0041, "error": 0.008,
        "items": 200, "needed_items": 1_250, "key": "pretrain.gates.2",
        "why": "piqa fell by 0.4 ± 1.6 points of 1 allowed",
    },
    {
        "limit": "general recovers within 80%", "probe": "general", "allowed": 0.8, "unit": "share of tokens",
        "action": "fail", "verdict": "held", "value": 0.75, "error": None,
        "why": "general came back after 75% of the tokens, of 80% allowed",
    },
]  # fmt: skip

ACTIONS: list[dict[str, Any]] = [
    {
        "step": 20, "tokens": 20 * TOKENS_PER_STEP, "limit": "general <= +0.02", "probe": "general",
        "action": "raise-replay", "value": 0.0189, "error": 0.0011, "from": 0.125, "to": 0.25,
        "why": "general rose by 0.019 ± 0.002 of 0.02 allowed",
    },
    {
        "step": 40, "tokens": 40 * TOKENS_PER_STEP, "limit": "general <= +0.02", "probe": "general",
        "action": "raise-replay", "value": 0.0218, "error": 0.0011, "from": 0.25, "to": 0.375,
        "why": "general rose by 0.022 ± 0.002, more than 0.02",
    },
    {
        "step": 40, "tokens": 40 * TOKENS_PER_STEP, "limit": "piqa >= -1 point", "probe": "piqa",
        "action": "lower-rate", "value": -0.033, "error": 0.008, "from": 1.0, "to": 0.7,
        "why": "piqa fell by 3.3 ± 1.6 points, more than 1",
    },
]  # fmt: skip

SAMPLES: list[dict[str, Any]] = [
    {
        "source": "domain",
        "prompt": "Hypertrophic cardiomyopathy: A disorder of the heart muscle in which the",
        "before": " heart muscle is not able to pump blood effectively. The heart muscle is not able to "
        "pump blood effectively. The heart muscle is",
        "after": " left ventricular wall is abnormally thick in the absence of another cause, such as "
        "hypertension or aortic stenosis, that could explain it.",
    },
    {
        "source": "general",
        "prompt": "The for statement is used to iterate over the elements of a sequence",
        "before": ' (such as a string, tuple or list):\n\n   for_stmt ::= "for" target_list',
        "after": ' (such as a string, tuple or list):\n\n   for_stmt ::= "for" target_list "in" starred_list',
    },
]


def summary() -> dict[str, Any]:
    return {
        "steps": STEPS,
        "tokens": STEPS * TOKENS_PER_STEP,
        "tokens_per_second": 394.2,
        "schedule": {
            "unit": "steps",
            "phases": [{"name": "warm-up", "first": 0}, {"name": "cosine", "first": 12}],
        },
        "stability": {
            "domain": figures(domain, 1, PROBED, 0.0026),
            "general": figures(general, 1, PROBED, 0.0011),
            "instruction": figures(instruction, 1, PROBED, 0.0021),
            "piqa": figures(piqa, -1, SPARSE, 0.008),
            "arc-easy": figures(arc, -1, SPARSE, 0.009),
        },
        "gates": GATES,
        "continual": {
            "piqa": {
                "min_acc": 0.63,
                "wc_acc": 0.641,
                "windowed_forgetting": 0.031,
                "windowed_plasticity": 0.014,
            },
            "arc-easy": {
                "min_acc": 0.372,
                "wc_acc": 0.38,
                "windowed_forgetting": 0.0,
                "windowed_plasticity": 0.01,
            },
        },
        "monitor": {
            "probe_share": 0.05,
            "work": 0.048,
            "share": 0.061,
            "probes": {
                "domain": {
                    "seconds": 19.4,
                    "work": 0.017,
                    "readings": 29,
                    "wanted": 29,
                    "smallest_share": 0.5,
                },
                "general": {
                    "seconds": 21.0,
                    "work": 0.018,
                    "readings": 29,
                    "wanted": 29,
                    "smallest_share": 0.5,
                },
                "instruction": {
                    "seconds": 9.1,
                    "work": 0.008,
                    "readings": 29,
                    "wanted": 29,
                    "smallest_share": 0.5,
                },
                "piqa": {
                    "seconds": 12.2,
                    "work": 0.003,
                    "readings": 14,
                    "wanted": 15,
                    "smallest_share": 0.35,
                },
                "weights": {
                    "seconds": 1.9,
                    "work": 0.002,
                    "readings": 14,
                    "wanted": 14,
                    "smallest_share": 1.0,
                },
            },
        },
    }


def full_run() -> RunRecord:
    """The medical run with a longer, watched training, and scores of instruction text too."""
    run = medical_run()
    assert run.scores is not None
    bits = run.scores["bits_per_byte"] | {
        "instruction": {
            "before": level(1.2140, 1.1740, 1.2540),
            "after": level(1.2412, 1.2007, 1.2817),
            "difference": level(0.0272, 0.0228, 0.0316),
            "documents": 120,
            "bytes": 41_200,
        }
    }
    trained = steps()
    tokens = trained[-1]["sources"]
    merges = [{"domain_gain": gain, "general_rise": rise, "weight": weight} for weight, gain, rise in SEARCH]
    return dataclasses.replace(
        run,
        recipe=RECIPE,
        stages=[
            dataclasses.replace(
                stage, metrics={**stage.metrics, "search_points": merges, "analysis": analysis("pretrain")}
            )
            if stage.kind == "merge"
            else stage
            for stage in run.stages
        ],
        training=TrainingRecord(
            stage="pretrain",
            summary=summary(),
            steps=trained,
            probes=probe_rows(),
            ledger={
                "domain": {"sequences": 1380, "tokens": tokens["domain"], "epochs": 0.39},
                "replay": {
                    "sequences": 540,
                    "tokens": tokens["replay"],
                    "epochs": 5.74,
                    "parts": {
                        "replay.books": {
                            "sequences": 360,
                            "tokens": tokens["replay"] - 90_000,
                            "epochs": 5.1,
                        },
                        "replay.code": {"sequences": 180, "tokens": 90_000, "epochs": 7.02},
                    },
                },
            },
            actions=ACTIONS,
            samples=SAMPLES,
        ),
        scores={**run.scores, "bits_per_byte": bits},
    )


SEARCH = [
    (0.5, 0.191, -0.006),
    (0.7, 0.252, -0.004),
    (0.9, 0.299, -0.001),
    (1.0, 0.309, 0.005),
    (1.1, 0.301, 0.017),
]
