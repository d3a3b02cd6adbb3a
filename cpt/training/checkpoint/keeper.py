"""Keeps what a run needs to go on: checkpoints on the disk, and the last good state in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from cpt.progress import Progress
from cpt.training.checkpoint.folder import LAST_GOOD, require_space
from cpt.training.checkpoint.parts import Part, RandomNumbers
from cpt.training.checkpoint.policy import Kept, Policy
from cpt.training.checkpoint.snapshot import Snapshot
from cpt.training.checkpoint.store import Store
from cpt.training.checkpoint.writer import Background
from cpt.training.clock import wait_for_gpu
from cpt.training.log import Log, NoLog, StepLog, last_step
from cpt.training.processes import Processes
from cpt.training.settings import FixedSettings, Settings
from cpt.training.state import State

_RUN = "run"
"""The part that is the loop's own state, which a roll-back does not restore whole."""


class CheckpointManager:
    """Saves the parts of a run when it is time, restores them when it goes on, rolls back after anomalies.

    As a context manager it waits at the end for what is still being written.
    """

    def __init__(
        self,
        work: Path,
        parts: Mapping[str, Part],
        state: State,
        settings: Settings,
        progress: Progress,
        processes: Processes,
        pre_anneal: int | None = None,
        points: Mapping[str, Part] | None = None,
    ) -> None:
        """Keep some parts.

        Args:
            work: folder of the checkpoints and the log.
            parts: by name, restored in this order; settings, random numbers and `state` are added.
            processes: all of them save and resume together; the main one writes.
            pre_anneal: the step before the rate is annealed, whose checkpoint stays.
            points: further parts, which a roll-back after an anomaly leaves as they are.
        """
        self._spared = {_RUN, *(points or {})}
        self._parts = {
            "settings": FixedSettings(settings),
            **parts,
            **(points or {}),
            "random": RandomNumbers(),
            _RUN: state,
        }
        self._state, self._progress, self._processes = state, progress, processes
        policy = Policy(settings.checkpoint, settings.steps, pre_anneal)
        self._policy, self._in_background = policy, settings.checkpoint.mode == "async"
        self._store = Store(work, settings.checkpoint.keep, policy.stays)
        self._writer = Background()
        self._log_path = work / "steps.jsonl"
        self._snapshot_every = settings.anomalies.snapshot_every if settings.anomalies.rolls_back else None
        self._last_good: Snapshot | None = None
        self._spare: Snapshot | None = None  # memory for the next copy
        self._being_written: tuple[Snapshot, ...] = ()

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.wait()
        except Exception:
            if error is None:
                raise

    def resume(self) -> Log:
        """Restore the newest readable checkpoint, if there is one, and say what is lost.

        Returns:
            The log, cut back to it.
        """
        with self._processes.main_first():  # which removes what is unreadable
            saved, wrong = self._store.newest(writes=self._processes.is_main)
        self._processes.check_same(saved[""].step if saved else 0, "the checkpoint to continue from")
        for message in wrong:
            self._progress.message(message)
        if saved is not None:
            saved[""].restore(self._parts)
        if self._snapshot_every:
            good = saved.get(LAST_GOOD, saved[""]) if saved else self._now()
            self._last_good = good.copied()
        if not self._processes.is_main:
            return NoLog()
        self._say_where(last_step(self._log_path))
        return StepLog(self._log_path, self._state.log_bytes)

    def after_step(self, log: Log) -> None:
        """Take the snapshot and write the checkpoint that are due after this step."""
        self._writer.check()
        step = self._state.step
        if self._snapshot_every and step % self._snapshot_every == 0:
            self.remember(log)
        if self._policy.due(step):
            with self._timed():
                self.save(log, self._in_background)

    def remember(self, log: Log) -> None:
        """Make this the state that a roll-back after an anomaly restores, if anomalies roll back."""
        if self._snapshot_every:
            with self._timed():
                self._state.log_bytes = log.length()
                self._last_good, self._spare = self._copied_now(), self._last_good

    def save(self, log: Log, in_background: bool = False) -> None:
        """Write a checkpoint now.

        Raises:
            DiskFull: it does not fit on the disk beside the one before, which stays.
        """
        self._state.log_bytes = log.length()
        self._writer.wait()
        good, now = self._last_good, self._now()
        if not self._processes.is_main:
            now.hand_over()
            return
        if good is not None and good.step == now.step:
            snapshots = {"": good}
        else:
            snapshots = {"": now} | ({LAST_GOOD: good} if good else {})
        require_space(self._store.folder, snapshots)
        if snapshots[""] is now and (in_background or now.is_divided):
            self._spare = snapshots[""] = self._copied_now()
        if not in_background:
            self._store.save(snapshots)
            return
        self._being_written = tuple(snapshots.values())
        self._writer.start(lambda: self._store.save(snapshots))

    def roll_back(self) -> int:
        """Go back to the last good snapshot, and return its step.

        The loop's own state stays where it is in the stream; what was trained on since counts as dropped.
        """
        good = self._last_good
        if good is None:
            raise AssertionError("no snapshot was taken")
        good.restore(self._parts, spare=self._spared)
        self._state.forget_since(good.data[_RUN], good.step)
        return good.step

    def kept(self) -> dict[int, Kept]:
        """Steps whose checkpoints stay, and why."""
        reasons = {step: self._policy.stays(step) for step in self._store.steps()}
        return {step: reason for step, reason in reasons.items() if reason and step < self._state.step}

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the seconds of the block as those of checkpoints; what the GPU still did was training."""
        wait_for_gpu()
        began = time.perf_counter()
        yield
        self._state.checkpoint_seconds += time.perf_counter() - began

    def _now(self) -> Snapshot:
        return Snapshot.of(self._parts, self._state.step)

    def _copied_now(self) -> Snapshot:
        """A copy of the state in memory that is neither the last good snapshot's nor being written."""
        if any(snapshot is self._spare for snapshot in self._being_written):
            self._writer.wait()
        made, self._spare = self._now().copied(self._spare), None
        return made

    def _say_where(self, reached: int) -> None:
        step = self._state.step
        if step > reached:
            self._progress.message(f"{self._log_path.name} has lost the records after step {reached}")
        if step:
            lost = f"; {_steps(step + 1, reached)} run again" if reached > step else ""
            self._progress.message(f"continues after step {step}{lost}")
        elif reached:
            self._progress.message(f"begins anew, without a checkpoint; {_steps(1, reached)} run again")


def _steps(first: int, last: int) -> str:
    return f"step {first} is" if first == last else f"steps {first} to {last} are"
