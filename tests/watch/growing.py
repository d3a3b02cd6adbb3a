"""A run that grows: its files as the runner and the training write them, moment by moment."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cpt.json_file import write_json
from cpt.recipe.store import Record, Store

FINGERPRINT = "ab" * 32
STEPS, TOKENS = 100, 1000
GATE = {"limit": "general <= +0.02", "action": "warn"}


class GrowingRun:
    """A run with one training stage of `STEPS` steps."""

    def __init__(self, root: Path, name: str = "medical") -> None:
        self.store = Store(root / name)
        self.work = self.store.work_folder("pretrain", FINGERPRINT)
        self.data: dict[str, Any] = {
            "name": name,
            "recipe": {"name": name, "base": "base/model", "stages": [{"pretrain": {}}, {"report": {}}]},
            "state": "running",
            "started": "2026-03-01T09:00:00+00:00",
            "error": None,
            "progress": None,
            "stages": {
                "pretrain": {"kind": "pretrain", "fingerprint": FINGERPRINT, "state": "running"},
                "report": {"kind": "report", "fingerprint": "cd" * 32, "state": "waiting"},
            },
        }

    def begin(self, **config: Any) -> GrowingRun:
        """The stage starts; `config` is its settings."""
        self.work.mkdir(parents=True)
        self.store.begin(self.record(config))
        self.tell()
        return self

    def record(self, config: dict[str, Any] | None = None) -> Record:
        return Record(
            name="pretrain",
            stage="pretrain",
            kinds=("model", "training"),
            fingerprint=FINGERPRINT,
            folder=self.work,
            config={"monitor": {"tolerance": 0.001}, "gates": [GATE]} | (config or {}),
        )

    def train(self, first: int, last: int, rise: float = 0.0) -> GrowingRun:
        """Steps are logged; every tenth is probed, where general text has risen by up to `rise`."""
        for step in range(first, last + 1):
            self._add("steps.jsonl", step_row(step))
            if step == 1 or step % 10 == 0:
                for probe in ("domain", "general"):
                    self.add_reading(probe, step, rise)
        self.tell(
            progress={
                "stage": "pretrain",
                "done": last,
                "total": STEPS,
                "unit": "step",
                "facts": {"loss": 2.0, "tokens_per_second": 500.0},
                "seconds_left": 2.0 * (STEPS - last),
            }
        )
        return self

    def act(self, step: int, action: str, to: float = 0.2) -> None:
        """The controller acts."""
        why = {"limit": "general <= +0.02", "probe": "general", "why": "it rose", "value": 0.01}
        change = {"from": 0.1, "to": to, "error": 0.001}
        self._add("actions.jsonl", {"step": step, "tokens": step * TOKENS, "action": action} | why | change)

    def add_reading(self, probe: str, step: int, rise: float) -> None:
        """A probe is read of the weights of a step."""
        self._add("probes.jsonl", reading(probe, step, rise))

    def cut(self, step: int) -> None:
        """Cut the logs back to a checkpoint, as a run that continues does."""
        for name in ("steps.jsonl", "probes.jsonl"):
            rows = [json.loads(line) for line in (self.work / name).read_text().splitlines()]
            kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= step]
            (self.work / name).write_text("".join(kept))

    def finish(self) -> None:
        """The stage's result is put in place, and the run ends."""
        with self.store.writing("pretrain", FINGERPRINT) as aside:
            (aside / "model").mkdir()
            training = aside / "training"
            training.mkdir()
            for name in ("steps.jsonl", "probes.jsonl"):
                (training / name).write_bytes((self.work / name).read_bytes())
            (training / "ledger.json").write_text("{}")
            (training / "summary.json").write_text(json.dumps({"steps": STEPS, "tokens": STEPS * TOKENS}))
            self.store.finish(self.record().model_copy(update={"folder": aside}))
        self.data["stages"]["pretrain"] |= {"state": "finished", "seconds": 200.0}
        self.tell(state="finished", progress=None)

    def tell(self, **facts: Any) -> None:
        """Write `run.json`."""
        self.data |= facts
        write_json(self.store.folder / "run.json", self.data)

    def _add(self, name: str, row: dict[str, Any]) -> None:
        with (self.work / name).open("a") as file:
            file.write(json.dumps(row) + "\n")


def step_row(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "tokens": step * TOKENS,
        "loss_nats": 2 + math.exp(-step / 20),
        "lr": 1e-4,
        "seconds": 2.0 * step,
        "tokens_per_second": 500.0,
        "sources": {"domain": 900 * step, "replay": 100 * step},
    }


def reading(probe: str, step: int, rise: float) -> dict[str, Any]:
    up = -0.3 * (1 - math.exp(-step / 20)) if probe == "domain" else rise * min(1.0, step / 20)
    return {
        "step": step,
        "tokens": step * TOKENS,
        "probe": probe,
        "kind": "text",
        "unit": "bits per byte",
        "value": 1.0 + up,
        "standard_error": 0.01,
        "rise": up,
        "rise_error": 0.0005,
        "share": 1.0,
        "seconds": 0.5,
        "detail": None,
    }
