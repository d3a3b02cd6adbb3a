"""Read the files that a run has written so far, as report facts and as the state of the run."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cpt.errors import CptError, UsageError
from cpt.monitor.gates import verdict
from cpt.recipe.journal import FILE, Run, look_up
from cpt.recipe.store import Record
from cpt.report.facts import RunRecord, gather
from cpt.report.page import LiveStage, LiveState, StageProgress
from cpt.report.schema import Facts
from cpt.stages.report import ReportConfig, read_run
from cpt.watch.training_log import FILES, TrainingLog, stage_record


class RunWatcher:
    """Reader of one run that can be called repeatedly. It writes nothing and reads only new rows."""

    def __init__(self, root: Path, name: str | None = None) -> None:
        """Watch a run, which may begin later.

        Args:
            root: Folder that holds all runs.
            name: Name or folder of the run; None for the newest run at each call.
        """
        self._root, self._name = root, name
        self._logs: dict[Path, TrainingLog] = {}
        self._finished: tuple[list[str], RunRecord] | None = None

    def run(self) -> Run | None:
        """Return the current run; None before it begins."""
        try:
            return look_up(self._root, self._name)
        except UsageError:
            return None

    def version(self) -> str:
        """Return a text that changes whenever `snapshot` may change. Cheap: it reads file times and sizes."""
        run = self.run()
        if run is None:
            return "none"
        folders = [run.store.work_folder(name, stage["fingerprint"]) for name, stage in run.stages.items()]
        files = [run.folder / FILE, *(folder / name for folder in folders for name in FILES)]
        seen = [str(run.folder), run.state, *map(_stamp, files)]
        return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]

    def snapshot(self) -> tuple[Facts | None, LiveState]:
        """Return the facts so far (None without any) and the state of the run."""
        version, run = self.version(), self.run()
        if run is None:
            return None, LiveState(self._name or "the next run", version, "waiting")
        if run.problem:
            problem = f"{run.folder / FILE}: {run.problem}"
            return None, LiveState(run.name, version, run.state, problem=problem)
        live = _live(run, version)
        begun = _begun(run)
        try:
            record = self._finished_record(run)
            if begun is None:
                return _facts(run, record), live
            log = self._log(run, begun)
            judged = log.judge_gates(begun, live.steps_of(begun.name))
            elapsed = run.store.elapsed(begun.name, begun.fingerprint)
            stages = [*record.stages, stage_record(begun, elapsed)]
            earlier = [*record.earlier, *([record.training] if record.training else [])]
            training = log.record(begun, judged)
            record = dataclasses.replace(record, stages=stages, training=training, earlier=earlier)
            return _facts(run, record), live._replace(verdict=verdict(judged))
        except (CptError, ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
            return None, live._replace(problem=f"no report can be made of it: {error}")

    def _log(self, run: Run, begun: Record) -> TrainingLog:
        folder = run.store.work_folder(begun.name, begun.fingerprint)
        if folder not in self._logs:
            self._logs = {folder: TrainingLog(folder)}
        return self._logs[folder]

    def _finished_record(self, run: Run) -> RunRecord:
        """Return the record of the finished stages, read again only after another stage has finished."""
        stages = [record for record in _finished(run) if "report" not in record.kinds]
        recipe: dict[str, Any] = run.data.get("recipe") or {"name": run.name}
        made = [str(run.folder), *(stage.fingerprint for stage in stages)]
        if self._finished is None or self._finished[0] != made:
            self._finished = made, read_run(ReportConfig(title=_title(recipe)), stages, recipe)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return dataclasses.replace(self._finished[1], created=now)


def _facts(run: Run, record: RunRecord) -> Facts:
    """Return the facts; planned stages do not count as absent."""
    facts, planned = gather(record), {stage["kind"] for stage in run.stages.values()}
    return facts.model_copy(update={"absent": [kind for kind in facts.absent if kind not in planned]})


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "-"
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"


def _finished(run: Run) -> list[Record]:
    found = [run.store.find(name, stage["fingerprint"]) for name, stage in run.stages.items()]
    return [record for record in found if record is not None]


def _begun(run: Run) -> Record | None:
    """Return the unfinished training; None without one."""
    made = {record.name for record in _finished(run)}
    left = [(name, stage["fingerprint"]) for name, stage in run.stages.items() if name not in made]
    found = [run.store.begun(name, fingerprint) for name, fingerprint in left]
    trainings = [record for record in found if record is not None and record.stage == "pretrain"]
    return trainings[-1] if trainings else None


def _title(recipe: Mapping[str, Any]) -> str | None:
    """Return the title of the recipe's report stage."""
    stages: Sequence[Any] = recipe.get("stages") or ()
    reports = [stage["report"] for stage in stages if isinstance(stage, Mapping) and "report" in stage]
    return (reports[-1] or {}).get("title") if reports else None


def _live(run: Run, version: str) -> LiveState:
    state = run.state
    return LiveState(
        name=run.name,
        version=version,
        state=state,
        stages=[
            LiveStage(name, state if stage["state"] == "running" else stage["state"], stage.get("seconds"))
            for name, stage in run.stages.items()
        ],
        advance=_advance(run.data.get("progress"), running=state == "running"),
        problem=str(run.data.get("error") or "") if state == "failed" else "",
    )


def _advance(progress: Mapping[str, Any] | None, *, running: bool) -> StageProgress | None:
    if not progress:
        return None
    return StageProgress(
        stage=progress["stage"],
        done=progress["done"],
        total=progress["total"],
        unit=progress["unit"],
        seconds_left=progress.get("seconds_left") if running else None,
        tokens_per_second=progress.get("facts", {}).get("tokens_per_second") if running else None,
    )
