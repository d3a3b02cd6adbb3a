"""A JSON-lines file that another process is writing.

A training that has not finished, from the files that it writes on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cpt.json_file import parse_rows
from cpt.monitor.gates import Gate, Judgement, judge
from cpt.monitor.reading import Reading
from cpt.monitor.stability import stability
from cpt.recipe.store import Record
from cpt.report.facts import StageRecord, TrainingRecord
from cpt.report.facts.records import ActionRow, ProbeRow, StepRow


class Tail:
    """The file's whole rows so far; only what is new is read.

    A run that continues cuts its log back to the last checkpoint and writes on. That is noticed by the last
    row, which tells seconds and so is never written twice alike: where it is gone, all is read again.
    """

    def __init__(self, path: Path, shape: Any = dict[str, Any]) -> None:
        """Follow a file whose rows have a shape (`cpt.json_file`)."""
        self._path, self._shape = path, shape
        self._forget()

    def rows(self) -> list[dict[str, Any]]:
        """All rows; none while there is no file. A row that is still being written is left for later.

        Raises:
            DamagedFile: A row is no JSON or has another shape.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._end - len(self._last))
                if file.read(len(self._last)) != self._last:
                    self._forget()
                    file.seek(0)
                self._take(file.read())
        except FileNotFoundError:
            self._forget()
        return self._rows

    def _forget(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._end, self._last, self._lines = 0, b"", 0

    def _take(self, new: bytes) -> None:
        whole = new[: new.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        if lines:
            first = self._lines + 1
            self._rows.extend(parse_rows(whole, self._shape, self._path, first_line=first))
            self._lines += len(lines)
            self._end, self._last = self._end + len(whole), lines[-1]


FILES = ("steps.jsonl", "probes.jsonl", "actions.jsonl")


class TrainingLog:
    """The files in the scratch folder of an unfinished training stage; only what is new is read."""

    def __init__(self, folder: Path) -> None:
        shapes = (StepRow, ProbeRow, ActionRow)
        self._steps, self._probes, self._actions = map(Tail, (folder / name for name in FILES), shapes)

    def judged(self, begun: Record, steps: int) -> list[Judgement]:
        """How every gate's budget stands, as the training judged it at its last reading.

        Once a gate has ended the training, how it stands for the result.

        Args:
            begun: what the stage is to make, with its settings.
            steps: of the whole training; 0 if that is not known.
        """
        gates = TypeAdapter(list[Gate]).validate_python(begun.config.get("gates") or [])
        readings = self._readings()
        if self._ended():
            return judge(gates, readings, 1.0, _tolerance(begun), stage=begun.name)
        last = readings[-1].step if readings else 0
        went_back = (row["step"] for row in self._actions.rows() if row["action"] == "roll-back")
        since = max((step for step in went_back if step < last), default=0)
        progress = last / steps if steps else 0.0
        return judge(gates, readings, progress, _tolerance(begun), since, begun.name)

    def record(self, begun: Record, judged: Sequence[Judgement]) -> TrainingRecord:
        """What a report says of the training so far."""
        steps = self._steps.rows()
        gaps = stability(self._readings(), _tolerance(begun))
        return TrainingRecord(
            stage=begun.name,
            summary={
                "stability": {name: asdict(gap) for name, gap in gaps.items()},
                "gates": [judgement.as_json() for judgement in judged],
                "ended": self._ended(),
            }
            | _pace(steps),
            steps=steps,
            probes=self._probes.rows(),
            actions=self._actions.rows(),
            ledger=_ledger(steps),
        )

    def _readings(self) -> list[Reading]:
        """Those of the result, and of what led to it, where a gate has ended the training."""
        ended = self._ended()
        last = ended["result_step"] if ended else math.inf
        return [Reading.from_json(row) for row in self._probes.rows() if row["step"] <= last]

    def _ended(self) -> dict[str, Any] | None:
        """Why and where a gate has ended the training, as its summary will say it."""
        for row in self._actions.rows():
            if row["action"] in ("stop", "fail"):
                result = row["step"] if row["to"] is None else int(row["to"])
                found = {key: row[key] for key in ("step", "action", "why")}
                return found | {"result_step": result, "result": row.get("result", "")}
        return None


def stage_record(begun: Record, seconds: float) -> StageRecord:
    """An unfinished stage, as a report names it.

    Args:
        seconds: spent on it so far.
    """
    return StageRecord(
        name=begun.name,
        kind=begun.stage,
        fingerprint=begun.fingerprint,
        seconds=seconds,
        config=begun.config,
        versions=begun.versions,
    )


def _tolerance(begun: Record) -> float:
    return float(begun.config["monitor"]["tolerance"])


def _pace(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {"tokens_per_second": steps[-1]["tokens"] / steps[-1]["seconds"]} if steps else {}


def _ledger(steps: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Tokens by source; the whole ledger is written at the end."""
    sources = steps[-1].get("sources") or {} if steps else {}
    return {source: {"tokens": tokens} for source, tokens in sources.items()}
