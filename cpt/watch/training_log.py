"""Read the log files of an unfinished training, while another process writes them."""

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
    """Complete rows of a growing JSON-lines file; each call reads only new rows.

    A resumed run truncates its log to the last checkpoint and appends. The last row reveals this: it contains
    elapsed seconds and is never written twice. If it is gone, the file is read again.
    """

    def __init__(self, path: Path, shape: Any = dict[str, Any]) -> None:
        """Follow a file.

        Args:
            path: File to follow, which may not exist yet.
            shape: Shape of its rows (`cpt.json_file`).
        """
        self._path, self._shape = path, shape
        self._forget()

    def rows(self) -> list[dict[str, Any]]:
        """Return all complete rows; empty without a file. A partly written row is left for later.

        Raises:
            DamagedFile: A row is not JSON or has another shape.
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
    """Log files in the work folder of an unfinished training stage; each call reads only new rows."""

    def __init__(self, folder: Path) -> None:
        shapes = (StepRow, ProbeRow, ActionRow)
        self._steps, self._probes, self._actions = map(Tail, (folder / name for name in FILES), shapes)

    def judge_gates(self, begun: Record, steps: int) -> list[Judgement]:
        """Return the verdict on every gate's limit, as the training judged it at its last reading.

        After a gate has ended the training, the verdicts are those of the result.

        Args:
            begun: Record of the unfinished stage, with its settings.
            steps: Number of steps in the whole training; 0 if unknown.
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
        """Return the record of the training so far, for a report."""
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
        """Return all readings; up to the result's step if a gate has ended the training."""
        ended = self._ended()
        last = ended["result_step"] if ended else math.inf
        return [Reading.from_json(row) for row in self._probes.rows() if row["step"] <= last]

    def _ended(self) -> dict[str, Any] | None:
        """Return the end of the training by a gate in the form of its summary; None without one."""
        for row in self._actions.rows():
            if row["action"] in ("stop", "fail"):
                result = row["step"] if row["to"] is None else int(row["to"])
                found = {key: row[key] for key in ("step", "action", "why")}
                return found | {"result_step": result, "result": row.get("result", "")}
        return None


def stage_record(begun: Record, seconds: float) -> StageRecord:
    """Return the record of an unfinished stage, for a report.

    Args:
        begun: Record of the stage, with its settings.
        seconds: Time spent on the stage so far.
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
    """Return the tokens by source; the complete ledger is written at the end."""
    sources = steps[-1].get("sources") or {} if steps else {}
    return {source: {"tokens": tokens} for source, tokens in sources.items()}
