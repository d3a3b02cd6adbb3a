"""Finished runs on the disk, as far as a mixture law reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cpt.laws.rows import Row

FINGERPRINT = "ab" * 32
PARAMETERS = 1_000


def write_run(
    root: Path,
    name: str,
    rows: Sequence[Row],
    *,
    stages: Sequence[str] = ("pretrain",),
    sequences: int = 1_000,
    warmup: int = 0,
    ended: int | None = None,
    actions: Sequence[dict[str, Any]] = (),
    config: dict[str, Any] | None = None,
) -> Path:
    """Write a run whose pretrain stages have read the rows, one reading a step.

    Readings after the first see a part of the text, whose own level is 0.1 higher; their rise is the rows'.
    """
    folder = root / name
    folder.mkdir(parents=True)
    for stage in stages:
        artifact = folder / f"{stage}-{FINGERPRINT[:12]}"
        (artifact / "training").mkdir(parents=True)
        (artifact / "model").mkdir()
        save_file({"a": np.zeros((30, 30)), "b": np.zeros(100)}, artifact / "model" / "model.safetensors")
        record = {"name": stage, "stage": "pretrain", "kinds": ["model", "training"]}
        write(artifact / "artifact.json", record | {"fingerprint": FINGERPRINT, "config": config or {}})
        training = artifact / "training"
        lines = [line for step, row in enumerate(rows) for line in readings(step, row, rows[0])]
        write_lines(training / "probes.jsonl", lines)
        write_lines(training / "actions.jsonl", actions)
        domain = round(rows[-1].share * sequences)
        write(
            training / "ledger.json",
            {"domain": {"sequences": domain}, "replay": {"sequences": sequences - domain}},
        )
        phases = [{"name": "warmup", "first": 0}] if warmup else []
        phases.append({"name": "cosine", "first": warmup})
        summary = {"schedule": {"unit": "steps", "phases": phases}, "ended": None}
        write(training / "summary.json", summary | ({"ended": {"result_step": ended}} if ended else {}))
    states = {
        stage: {"kind": "pretrain", "fingerprint": FINGERPRINT, "state": "finished"} for stage in stages
    }
    write(folder / "run.json", {"name": name, "state": "finished", "stages": states})
    return folder


def readings(step: int, row: Row, first: Row) -> list[dict[str, Any]]:
    found = []
    for text in ("domain", "general"):
        value, start = getattr(row, f"{text}_loss"), getattr(first, f"{text}_loss")
        level = value + 0.1 if step else value
        found.append(
            {"step": step, "tokens": row.tokens, "probe": text, "value": level, "rise": value - start}
        )
    return [*found, {"step": step, "tokens": row.tokens, "probe": "weights", "value": 0.1, "rise": 0.1}]


def write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
