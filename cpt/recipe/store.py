"""Keep the artifacts of one run, `runs/<name>/<stage>-<fingerprint>/`: each is complete or absent."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cpt.atomic import flush, flush_one, publish_folder
from cpt.checksums import FILE as CHECKSUMS
from cpt.checksums import Stamp, verify, write_checksums
from cpt.errors import GateFailed, StageFailed, UsageError
from cpt.json_file import read_or_none, write_json
from cpt.recipe.failures import RUNS, explain_os_error
from cpt.recipe.lock import FolderLock, is_held
from cpt.stages.base import Artifact

_ARTIFACT = re.compile(r"^(?P<stage>[a-z][a-z0-9_-]*)-(?P<fingerprint>[0-9a-f]{12})$")
_ELAPSED, _ATTEMPT, _VERIFIED = "elapsed.json", "attempt.json", ".verified.json"
_PATIENCE = 0.5
"""Seconds to wait for a lock: a process that checks whether a run is held holds it for a moment."""

MODEL = "model"
"""Link in a run's folder to its newest model."""

_STAGING, _OLD, _PARTIAL = ".tmp-", ".old-", ".partial"


class Record(Artifact):
    """An artifact with everything that its fingerprint was made of, so that a change can be explained.

    Attributes:
        sources: Role -> name of the stage that played it.
        references: Data reference -> fingerprint of its content.
        gate: Message of the limits that are not held; empty if all are.
        gate_verdict: Worst verdict of these, `broken` or `not shown`.
        checksums: Whether its files have checksums; older versions wrote none.
        unfingerprinted: Settings that are not in the fingerprint (`StageConfig.not_fingerprinted`).
    """

    contract: int = 1
    seed: int = 0
    sources: dict[str, str] = Field(default={})
    references: dict[str, str] = Field(default={})
    gate: str = ""
    gate_verdict: str = GateFailed.verdict  # all that older records name was broken
    checksums: bool = False
    unfingerprinted: dict[str, Any] = Field(default={})

    @property
    def has_checksums(self) -> bool:
        """Return True if its files have checksums, from when they were written or first used."""
        return self.checksums or (self.folder / CHECKSUMS).exists()


class Store:
    """The folder of one run. Only the holder of its lock writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: FolderLock | None = None

    def artifact_folder(self, stage: str, fingerprint: str) -> Path:
        """Return the folder of a stage's finished result."""
        return self.folder / f"{stage}-{fingerprint[:12]}"

    def work_folder(self, stage: str, fingerprint: str) -> Path:
        """Return the scratch folder of an unfinished stage.

        It survives a kill, and is removed when the stage is finished.
        """
        folder = self.artifact_folder(stage, fingerprint)
        return folder.with_name(folder.name + _PARTIAL)

    @staticmethod
    def kind_of(name: str) -> tuple[Literal["result", "attempt", "unfinished", "replaced"] | None, str]:
        """Return the kind of a folder in a run's folder, None for others, and the name of its result."""
        for start, kind in ((_STAGING, "unfinished"), (_OLD, "replaced")):
            if name.startswith(start):
                return kind, name.removeprefix(start)  # type: ignore[return-value]
        result = name.removesuffix(_PARTIAL)
        if not _ARTIFACT.match(result):
            return None, name
        return ("result" if result == name else "attempt"), result

    @property
    def shared_folder(self) -> Path:
        """Folder for data that several results of the run can use."""
        return self.folder / "shared"

    def find(self, stage: str, fingerprint: str) -> Record | None:
        """Return the finished artifact of a stage with exactly this fingerprint."""
        record = self._read(self.artifact_folder(stage, fingerprint))
        return record if record is not None and record.fingerprint == fingerprint else None

    def has_partial(self, stage: str, fingerprint: str) -> bool:
        """Return True if an interrupted attempt at exactly this result left work to resume."""
        folder = self.work_folder(stage, fingerprint)
        return folder.is_dir() and any(path.name not in (_ELAPSED, _ATTEMPT) for path in folder.iterdir())

    def begin(self, record: Record) -> None:
        """Write into the scratch folder what is being made, to explain the attempt if the recipe changes."""
        path = self.work_folder(record.name, record.fingerprint) / _ATTEMPT
        write_json(path, record.model_dump(mode="json", exclude={"folder"}))

    def begun(self, stage: str, fingerprint: str) -> Record | None:
        """Return what an unfinished stage is making, as `begin` wrote it."""
        return _record(self.work_folder(stage, fingerprint), _ATTEMPT)

    def attempt(self, stage: str) -> Record | None:
        """Return the newest interrupted attempt at any result of a stage that left work to resume."""
        found = [_record(path.parent, _ATTEMPT) for path in self.folder.glob(f"*{_PARTIAL}/{_ATTEMPT}")]
        left = [each for each in found if each and each.name == stage]
        left = [each for each in left if self.has_partial(stage, each.fingerprint)]
        return max(left, key=lambda each: each.created, default=None)

    def resume(self, stage: str, attempt: str, fingerprint: str) -> None:
        """Turn an interrupted attempt at one result into one at another result.

        Args:
            attempt: Fingerprint of the attempt.
        """
        self._require_lock()
        aim = self.work_folder(stage, fingerprint)
        shutil.rmtree(aim, ignore_errors=True)
        self.work_folder(stage, attempt).rename(aim)

    def elapsed(self, stage: str, fingerprint: str) -> float:
        """Return the seconds that killed attempts have spent on a stage, as far as they noted them."""
        return float(read_or_none(self.work_folder(stage, fingerprint) / _ELAPSED, float) or 0.0)

    def note_elapsed(self, stage: str, fingerprint: str, seconds: float) -> None:
        """Write down the seconds spent so far, for an attempt that resumes this one."""
        write_json(self.work_folder(stage, fingerprint) / _ELAPSED, seconds)

    def artifacts(self, stage: str | None = None) -> list[Record]:
        """Return every readable artifact (of one stage), the oldest first."""
        folders = [match for match in self._folders() if stage in (None, match["stage"])]
        records = [self._read(self.folder / match.string) for match in folders]
        return sorted((record for record in records if record is not None), key=lambda record: record.created)

    def damaged(self, stage: str, fingerprint: str) -> bool:
        """Return True if an artifact's folder lacks its record or a part, so that it counts as absent."""
        return self.artifact_folder(stage, fingerprint).exists() and self.find(stage, fingerprint) is None

    def damage(self, stage: str, fingerprint: str, *, note: bool = True) -> list[str]:
        """Return the damage of a finished artifact's files, one phrase each; nothing if there is no artifact.

        A file is read only if it has changed since it was last found right.

        Args:
            stage, fingerprint: Name of the stage, and fingerprint of its result.
            note: Whether to write down which files are right.
        """
        folder = self.artifact_folder(stage, fingerprint)
        if not folder.exists():
            return []
        record = _record(folder, "artifact.json")
        if record is None or record.fingerprint != fingerprint:
            return ["artifact.json: missing, or not what was written"]
        missing = [f"{kind}: the folder is missing" for kind in record.kinds if not (folder / kind).is_dir()]
        if missing or not record.has_checksums:
            return missing
        verified = self._verified()
        faults, seen = verify(folder, verified.get(folder.name, {}))
        if note and not faults:
            self._note_verified(folder.name, seen, verified)
        return faults

    def add_checksums(self, record: Record) -> None:
        """Accept an artifact of an older version as it is, and write its checksums."""
        self._note_verified(record.folder.name, write_checksums(record.folder), self._verified())

    @contextmanager
    def writing(self, stage: str, fingerprint: str) -> Iterator[Path]:
        """Yield an empty folder to fill. It is removed unless `finish` has moved it into place."""
        staging = self._staging(stage, fingerprint)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        self.work_folder(stage, fingerprint).mkdir(exist_ok=True)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def finish(self, record: Record) -> Record:
        """Write `artifact.json` and checksums into a filled folder, rename it, remove the scratch folder.

        The result is on the disk before the scratch folder, of which it could be made again, is removed.

        Args:
            record: Record whose `folder` is the one that `writing` gave.

        Returns:
            The record at its final place.

        Raises:
            StageFailed: The run's folder is no longer held, or missing.
        """
        self._require_lock()
        record = record.model_copy(update={"checksums": True})
        write_json(record.folder / "artifact.json", record.model_dump(mode="json", exclude={"folder"}))
        seen = write_checksums(record.folder)
        flush(record.folder)
        self._require_lock()  # again: flushing may have taken long
        final = self.artifact_folder(record.name, record.fingerprint)
        old = self.folder / f"{_OLD}{final.name}"
        publish_folder(record.folder, final, durable=False, former=old)
        flush_one(self.folder)
        self._note_verified(final.name, seen, self._verified())
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.work_folder(record.name, record.fingerprint), ignore_errors=True)
        return record.model_copy(update={"folder": final})

    def accept(self, record: Record, staging: Path) -> Record | None:
        """Move a copy of another run's finished result into place.

        Args:
            record: The other run's record.
            staging: The folder that `writing` gave, with the copied files.

        Returns:
            The record at its place; None if the copied files are damaged.

        Raises:
            StageFailed: The run's folder is no longer held, or missing.
        """
        self._require_lock()
        known = Store(record.folder.parent)._verified().get(record.folder.name, {})
        faults, seen = verify(staging, known)
        if faults:
            return None
        final = self.artifact_folder(record.name, record.fingerprint)
        old = self.folder / f"{_OLD}{final.name}"
        publish_folder(staging, final, former=old)
        self._note_verified(final.name, seen, self._verified())
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.work_folder(record.name, record.fingerprint), ignore_errors=True)
        return record.model_copy(update={"folder": final})

    def link_model(self, record: Record) -> None:
        """Let the run's `model` link to the model of a result, where the file system has such links."""
        link, new = self.folder / MODEL, self.folder / f"{_STAGING}{MODEL}"
        with suppress(OSError):
            new.unlink(missing_ok=True)
            new.symlink_to(record.path("model").relative_to(self.folder), target_is_directory=True)
            new.replace(link)

    def prepare(self) -> None:
        """Make the run's folder and prove that it can be written to.

        Raises:
            UsageError: It cannot; the reason and the remedy.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            explained = explain_os_error(error, self.folder, RUNS)
            raise UsageError(explained.message, hint=explained.hint) from error

    def clean(self) -> None:
        """Remove what interrupted writes left behind. Call it only while holding the lock."""
        for leftover in self.folder.glob(f"{_OLD}*"):
            final = self.folder / leftover.name.removeprefix(_OLD)
            if not final.exists():
                leftover.rename(final)
        for pattern in (f"{_STAGING}*", f"{_OLD}*"):
            for leftover in self.folder.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)
        for record in self.artifacts():
            shutil.rmtree(self.work_folder(record.name, record.fingerprint), ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            UsageError: Another process holds it.
        """
        lock = FolderLock(self.folder)
        if not lock.acquire(_PATIENCE):
            raise UsageError(
                f"the run `{self.folder.name}` is being run by another process",
                hint="Wait for it (see `cpt status`), or run under another name: name=NAME.",
            )
        self._lock = lock
        try:
            yield
        finally:
            self._lock = None
            lock.release()

    def locked(self) -> bool:
        """Return True if a process holds the run at this moment."""
        return is_held(self.folder)

    def _require_lock(self) -> None:
        """Raise if the run was locked, and the locked folder or file has been removed or replaced."""
        if self._lock is not None and not self._lock.held():
            raise StageFailed(
                f"{self.folder}: the run's folder, or its lock, was removed while the run went on",
                hint="Look whether another process runs there (`cpt status`). The same command continues.",
            )

    def _verified(self) -> dict[str, dict[str, Stamp]]:
        """Return, by artifact's folder, the stamps of its files when they were last found right."""
        return read_or_none(self.folder / _VERIFIED, dict[str, dict[str, Stamp]]) or {}

    def _note_verified(
        self, artifact: str, seen: dict[str, Stamp], verified: dict[str, dict[str, Stamp]]
    ) -> None:
        """Write down that the files of an artifact's folder are right while they have these stamps."""
        now = {name: found for name, found in verified.items() if (self.folder / name).is_dir()}
        now[artifact] = seen
        if now != verified:
            with suppress(OSError):  # in a place that cannot be written to, files are read again each time
                write_json(self.folder / _VERIFIED, now)

    def _staging(self, stage: str, fingerprint: str) -> Path:
        return self.folder / f"{_STAGING}{self.artifact_folder(stage, fingerprint).name}"

    def _folders(self) -> list[re.Match[str]]:
        if not self.folder.is_dir():
            return []
        matches = (_ARTIFACT.match(path.name) for path in self.folder.iterdir() if path.is_dir())
        return [match for match in matches if match is not None]

    def _read(self, folder: Path) -> Record | None:
        record = _record(folder, "artifact.json")
        whole = record is not None and all((folder / kind).is_dir() for kind in record.kinds)
        return record if whole else None


def _record(folder: Path, file: str) -> Record | None:
    data = read_or_none(folder / file, dict[str, Any])
    try:
        return None if data is None else Record.model_validate({**data, "folder": folder})
    except ValidationError:
        return None
