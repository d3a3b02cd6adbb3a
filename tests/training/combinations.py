"""Features of a training, and the runs that show that each works on one process, on replicas, and sharded.

`docs/several_processes.py` writes a table of the documentation from them, `test_combinations.py` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpt.training.settings import Settings


@dataclass(frozen=True)
class Case:
    """A run that has some features.

    Attributes:
        features: What it shows, in words.
        settings: Settings of the run, as JSON data.
        rounding: Largest relative difference of its losses from those on one process.
        weights: Largest difference of its weights.
        gated: True if it reads probes that forget.
        teacher: "aligned" (another tokenizer) or "same", if an objective needs one.
        spoilt: Step whose loss is NaN.
        half: Step in which it is interrupted, to go on with another number of processes.
        hybrid: True if four processes, two replicas of two shards (HSDP), go on with it, too.
        sharded: What it shows where weights are sharded; recipes are refused that ask for it elsewhere.
    """

    features: tuple[str, ...]
    settings: dict[str, Any]
    rounding: float = 1e-5
    weights: float = 2e-4
    gated: bool = False
    teacher: str = ""
    spoilt: int | None = None
    half: int = 3
    hybrid: bool = False
    sharded: tuple[str, ...] = ()


SHORT = {"steps": 4}
NEW = {"new_tokens": [5, 290]}
GATED = {"steps": 12, "checkpoint": {"every": 3}}
BOUND = {"limit": "general <= +0.12", "after": 0.4}

CASES = {
    "adamw": Case(
        ("AdamW", "compiled layers", "gradient checkpointing", "EMA", "L2-SP", "input noise"),
        SHORT
        | {
            "compile": True,
            "gradient_checkpointing": True,
            "average": {"kind": "ema", "decay": 0.7},
            "l2_sp": {"strength": 20},
            "input_noise": 0.3,
            "ordinary_tokens": list(range(2, 280)),
        },
        hybrid=True,
    ),
    "muon": Case(
        ("Muon", "chosen layers", "rows of new tokens at their own rate", "self-constraint"),
        SHORT
        | NEW
        | {
            "micro_batch": 1,
            "optimizer": {"kind": "muon"},
            "trainable": {
                "kind": "layers",
                "layers": "0",
                "embeddings": "new-tokens",
                "rates": {"new_tokens": 2},
            },
            "objective": {"kind": "self-constraint", "weight": 0.5},
            "gradient_sync": "last",
        },
        rounding=1e-4,
        weights=2e-3,
        hybrid=True,
        sharded=("`gradient_sync: last`",),
    ),
    "galore": Case(
        ("GaLore", "LAWA", "roll-back of anomalies"),
        SHORT
        | {
            "optimizer": {"kind": "galore", "rank": 4, "gap": 2},
            "average": {"kind": "lawa", "every": 1, "last": 2},
            "anomalies": {"not_finite": "roll-back", "snapshot_every": 2},
        },
        spoilt=2,
        hybrid=True,
    ),
    "apollo": Case(
        ("APOLLO", "self-distillation"),
        SHORT
        | {
            "optimizer": {"kind": "apollo", "rank": 4, "gap": 2},
            "objective": {"kind": "self-distillation", "teacher": "base"},
        },
        teacher="same",
    ),
    "apollo-mini": Case(
        ("APOLLO-Mini", "rows of new tokens first"),
        SHORT
        | NEW
        | {
            "optimizer": {"kind": "apollo-mini", "gap": 2},
            "trainable": {"kind": "all", "embeddings_first": 0.5},
        },
    ),
    "frugal": Case(
        ("FRUGAL", "block expansion"),
        SHORT | {"optimizer": {"kind": "frugal", "gap": 2}, "trainable": {"kind": "expansion", "every": 2}},
        weights=0.02,  # a sign turns where a gradient is zero but for rounding
    ),
    "adamw-8bit": Case(
        ("8-bit AdamW", "ALM (a teacher with another tokenizer)"),
        SHORT
        | {
            "micro_batch": 1,
            "optimizer": {"kind": "adamw-8bit"},
            "objective": {"kind": "alm", "teacher": "base", "cross_entropy": 0.1},
        },
        teacher="aligned",
        weights=1e-3,
    ),
    "dora": Case(
        ("LoRA, rsLoRA, DoRA", "rows of new tokens beside an adapter"),
        SHORT
        | NEW
        | {"trainable": {"kind": "lora", "rank": 2, "variant": "dora", "embeddings": "new-tokens"}},
        hybrid=True,
    ),
    "adalora": Case(
        ("AdaLoRA",),
        {"steps": 6, "trainable": {"kind": "lora", "rank": 2, "variant": "adalora"}},
        half=5,
        hybrid=True,
    ),
    "rounded": Case(
        ("stochastic rounding",),
        SHORT | {"dtype": "bfloat16", "master_weights": "stochastic-rounding"},
        rounding=5e-4,
        weights=0.03,
        hybrid=True,
    ),
    "fp8": Case(
        ("fp8",),
        SHORT | {"precision": "fp8", "micro_batch": 1},  # a factor is that of a micro batch
        hybrid=True,
    ),
    "stop": Case(("gates that stop",), GATED | {"gates": [BOUND | {"action": "stop"}]}, gated=True, half=5),
    "back": Case(
        ("gates that roll back",),
        GATED | {"gates": [BOUND | {"action": "roll-back"}]},
        gated=True,
        half=5,
        hybrid=True,
    ),
}
"""Runs by name."""

WHERE = ("one process", "replicas", "FSDP2", "HSDP")


def settings_of(case: Case | dict[str, Any]) -> Settings:
    """The settings of a run."""
    import several
    from tiny_runs import SETTINGS

    changes = case.settings if isinstance(case, Case) else case
    return SETTINGS.with_changes(**several.changed(changes))


def table() -> str:
    """The table in Markdown: largest relative difference of a loss from that on one process."""
    lines = [f"| | {' | '.join(WHERE)} |", "|---" * (1 + len(WHERE)) + "|"]
    for case in CASES.values():
        within = f"±{case.rounding:g}"
        hybrid = within if case.hybrid else "not tested"
        lines += [f"| {feature} | yes | {within} | {within} | {hybrid} |" for feature in case.features]
        lines += [f"| {feature} | refused | refused | {within} | {hybrid} |" for feature in case.sharded]
    return "\n".join(lines) + "\n"
