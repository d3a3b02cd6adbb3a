"""Write the checkpoints from which a stopped run continues, and take the snapshots for rollbacks.

What a snapshot is and how it is written: `cpt.training.checkpoint`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem
from cpt.training.clock import wait_for_gpu
from cpt.training.feature import Run, RunFacts, StepOutcome, TrainingFeature
from cpt.training.features.step_log import STEPS
from cpt.training.json_lines import last_step

if TYPE_CHECKING:
    from cpt.training.checkpoint import CheckpointKind
    from cpt.training.checkpoint.snapshot import Snapshot
    from cpt.training.checkpoint.stateful import Stateful
    from cpt.training.data import Stream
    from cpt.training.schedules import Schedule
    from cpt.training.settings import Settings, TrainingConfig


_OTHER_SETTINGS = (
    "Set them back, or train in an empty work folder. Another schedule on trained weights is a new run that "
    "starts from a checkpoint."
)

_RUN = "run"
"""Name of the loop's own state in a checkpoint."""


class Checkpoints(BaseModel):
    """Settings of the checkpoints from which a stopped run continues."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int | None = Field(
        default=None, gt=0, description="Steps between checkpoints; 50 if there are no `minutes` either."
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Minutes between checkpoints, by the main process's clock; beside `every` where both are "
        "set.",
    )
    keep: int = Field(
        default=2,
        gt=0,
        description="How many of the newest are kept; with 1, nothing is left when that one is damaged.",
    )
    keep_every: int | None = Field(
        default=None,
        gt=0,
        description="Steps between milestones: checkpoints that stay, and that are models in the result. "
        "A run that is finished is not run again for them.",
    )
    keep_optimizer: bool = Field(
        default=False,
        description="Keep the optimizer's state beside each milestone and the model before the anneal (8 "
        "bytes per trained weight with AdamW), so that a later stage can go on with it (start.optimizer).",
    )
    mode: Literal["blocking", "async"] = Field(
        default="async",
        description="async: training waits for a copy in memory (12 bytes per trained weight with AdamW), "
        "which is written while it goes on; blocking: it waits until the checkpoint is on the disk. Where "
        "weights are sharded (FSDP2), each process copies and writes its shards.",
    )

    @property
    def steps_between(self) -> int | None:
        """Return the number of steps between checkpoints; None if only time decides."""
        return _STEPS if self.every is None and self.minutes is None else self.every


_STEPS = 50
"""Steps between checkpoints by default."""


class Policy:
    """The steps of a run that get a checkpoint however long they take, and those whose checkpoint stays."""

    def __init__(self, config: Checkpoints, steps: int, pre_anneal: int | None = None) -> None:
        self._config, self._steps, self._pre_anneal = config, steps, pre_anneal

    def due(self, step: int) -> bool:
        """Return True if a checkpoint is written after `step`; after the last step the model itself is."""
        every = self._config.steps_between
        by_steps = every is not None and step % every == 0
        return self.is_within(step) and (by_steps or self.stays(step) is not None)

    def is_within(self, step: int) -> bool:
        """Return True after any step but the last."""
        return 0 < step < self._steps

    def stays(self, step: int) -> CheckpointKind | None:
        """Return the reason why the checkpoint of `step` stays, or None."""
        if step == self._pre_anneal:
            return "pre-anneal"
        every = self._config.keep_every
        return "milestone" if every is not None and step % every == 0 else None


class CheckpointManager(TrainingFeature):
    """The checkpoints of a run: written when they are due, restored when it continues, rolled back to.

    The loop calls `open`, `resume` and `save` itself, since they frame it. The manager is the last of the
    features, so that a checkpoint holds what all others did in the same step.
    """

    def __init__(self, config: Checkpoints, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a run.

        Args:
            clock: function that returns the time in seconds.
        """
        from cpt.training.checkpoint.writer import Background

        self._config, self._clock = config, clock
        self._writer = Background()
        self._last_good: Snapshot | None = None
        self._spare: Snapshot | None = None  # memory for the next copy
        self._being_written: tuple[Snapshot, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        return cls(config.checkpoint)

    def problems(self, facts: RunFacts) -> list[Problem]:
        """Return a problem for milestones of an adapter."""
        if not self._config.keep_every or facts.config.trainable.kind != "lora":
            return []
        return [
            Problem(
                "milestones are models, and an adapter is none until it is merged at the end",
                key="checkpoint.keep_every",
                hint="Leave it out, or train without an adapter.",
            )
        ]

    def on_start(self, run: Run) -> None:
        from cpt.training.checkpoint.stateful import FixedSettings, RandomNumbers
        from cpt.training.checkpoint.store import Store

        settings = run.settings
        pre_anneal = anneal_begins(settings.config.schedule, settings.steps, run.stream)
        if pre_anneal and not run.choice.is_model:
            run.progress.message(
                "the model before the anneal is not kept: an adapter is no model until it is merged"
            )
            pre_anneal = None
        self._run = run
        self._policy = Policy(self._config, settings.steps, pre_anneal)
        self._store = Store(run.work, self._config.keep, self._policy.stays)
        anomalies = settings.config.anomalies
        self._snapshot_every = anomalies.snapshot_every if anomalies.rolls_back else None
        features = run.features_with_state()
        spared = {name: each for name, each in features.items() if not each.rolls_back}
        self._stateful: Mapping[str, Stateful] = {
            # first: they refuse the checkpoint of another run
            "settings": FixedSettings(settings.fixed_values(), _OTHER_SETTINGS),
            **spared,  # they restore copies of the others by way of these
            **run.stateful,
            **{name: each for name, each in features.items() if each.rolls_back},
            "random": RandomNumbers(),
            _RUN: run.state,
        }
        self._spared = {_RUN, *spared}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Wait, at the end of the block, for the checkpoint that is still being written."""
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the first error is the one to report
                self._writer.wait()
            raise
        self._writer.wait()

    def resume(self) -> None:
        """Restore the newest readable checkpoint, if there is one, and report what is lost."""
        from cpt.training.checkpoint.store import LAST_GOOD

        saved, wrong = self._store.newest(self._run.processes)
        for message in wrong:
            self._run.progress.message(message)
        if saved is not None:
            if self._snapshot_every and (good := saved.get(LAST_GOOD)):
                good.restore(self._stateful)  # only the objects know what of it is this process's shard
                self._last_good = replace(self._now().copied(), step=good.step, data=good.data)
            saved[""].restore(self._stateful)
        if self._snapshot_every and self._last_good is None:
            self._last_good = self._now().copied()
        self._saved_at = self._clock()
        if self._run.processes.is_main:
            self._report_lost_steps(last_step(self._run.work / STEPS))

    def after_step(self, run: Run, step: StepOutcome) -> None:  # noqa: ARG002
        """Take the snapshot and write the checkpoint that are due."""
        self._writer.check()
        done = run.state.step
        if self._snapshot_every and done % self._snapshot_every == 0:
            self.remember()
        if self._policy.due(done) or self._is_overdue(done):
            with self._timed():
                self.save(in_background=self._config.mode == "async")
            self._saved_at = self._clock()

    def on_rollback(self, run: Run) -> None:  # noqa: ARG002
        self.remember()

    def remember(self) -> None:
        """Take the snapshot that the next rollback after an anomaly restores, if anomalies roll back."""
        if self._snapshot_every:
            with self._timed():
                self._last_good, self._spare = self._copied_now(), self._last_good

    def save(self, in_background: bool = False) -> None:
        """Write a checkpoint.

        Raises:
            DiskFull: it does not fit on the disk beside the one before, which stays.
            StageFailed: replicas have different weights; nothing is written.
        """
        from cpt.training.checkpoint.snapshot import Snapshot, require_space
        from cpt.training.checkpoint.store import LAST_GOOD
        from cpt.training.distributed.agreement import require_equal_replicas

        self._writer.wait()
        processes, good, now = self._run.processes, self._last_good, self._now()
        if processes.count > 1:
            require_equal_replicas(processes, self._run.trained.weights, now.step)
        snapshots = {"": now} | ({LAST_GOOD: good} if good is not None and good.step != now.step else {})
        if processes.sharding:
            if not processes.has_own_shards:
                snapshots = {place: Snapshot(each.step, {}, {}) for place, each in snapshots.items()}
        elif processes.is_main:
            require_space(self._store.folder, snapshots)
        else:
            return
        if good is not None and good.step == now.step and snapshots[""].tensors:
            snapshots[""] = good
        elif in_background and snapshots[""].tensors:
            self._spare = snapshots[""] = self._copied_now()
        if not in_background:
            self._store.save(snapshots, processes.background)
            return
        self._being_written = tuple(snapshots.values())
        self._writer.start(lambda: self._store.save(snapshots, processes.background))

    def _is_overdue(self, step: int) -> bool:
        """Return True in all processes if the last checkpoint is too old by the main one's clock."""
        if self._config.minutes is None or not self._policy.is_within(step):
            return False
        processes = self._run.processes
        return processes.any(
            processes.is_main and self._clock() - self._saved_at >= 60 * self._config.minutes
        )

    def roll_back(self) -> int:
        """Restore the last good snapshot and return its step.

        The loop's own state stays where it is in the stream; the batches since then count as dropped.
        """
        good = self._last_good
        if good is None:
            raise AssertionError("no snapshot was taken")
        good.restore(self._stateful, spare=self._spared)
        self._run.state.forget_since(good.data[_RUN], good.step)
        return good.step

    def kept(self) -> dict[int, CheckpointKind]:
        """Return the steps whose checkpoints stay, each with the reason."""
        reasons = {step: self._policy.stays(step) for step in self._store.steps()}
        return {step: reason for step, reason in reasons.items() if reason and step < self._run.state.step}

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the seconds of the block as those of checkpoints; what the GPU still did was training."""
        wait_for_gpu()
        began = time.perf_counter()
        yield
        self._run.state.checkpoint_seconds += time.perf_counter() - began

    def _now(self) -> Snapshot:
        from cpt.training.checkpoint.snapshot import Snapshot

        return Snapshot.of(self._stateful, self._run.state.step)

    def _copied_now(self) -> Snapshot:
        """Copy the state into memory that neither the last good snapshot nor a write in progress uses."""
        if any(snapshot is self._spare for snapshot in self._being_written):
            self._writer.wait()
        made, self._spare = self._now().copied(self._spare), None
        return made

    def _report_lost_steps(self, reached: int) -> None:
        step, progress = self._run.state.step, self._run.progress
        if step > reached:
            progress.message(f"{STEPS} has lost the records after step {reached}")
        if step:
            lost = f"; {_steps(step + 1, reached)} run again" if reached > step else ""
            progress.message(f"continues after step {step}{lost}")
        elif reached:
            progress.message(f"begins anew, without a checkpoint; {_steps(1, reached)} run again")


def anneal_begins(schedule: Schedule, steps: int, stream: Stream) -> int | None:
    """Return the number of steps before the rate is annealed; None where it is not."""
    if schedule.unit == "steps":
        return schedule.anneal_begins(steps)

    def tokens(step: int) -> int:
        return sum(int(entry["tokens"]) for entry in stream.ledger(step).values())

    begins = schedule.anneal_begins(tokens(steps))
    return None if begins is None else bisect_left(range(steps), begins, key=tokens)


def bytes_of_copies(
    settings: Settings,
    weights: int,
    state: int,
    *,
    is_model: bool,
    writes: bool = True,
) -> int:
    """Return the most bytes of copies that a process holds in main memory while a later step is taken.

    `CheckpointManager` has memory for at most two copies, and uses it again. The first snapshot for rollbacks
    is older than `state`. It is no `extra_bytes`, because it depends on what all features save.

    Args:
        weights: bytes of this process's tensors that a checkpoint holds from the start on: of sharded ones,
            its shards.
        state: bytes of tensors that it holds later: the optimizer's state, and points that gates go back to.
        is_model: see `TrainableSpec`; then one checkpoint stays before annealing.
        writes: True for a process that writes checkpoints.
    """
    config = settings.config
    saves = writes and config.checkpoint.mode == "async" and _writes_checkpoints(settings, is_model)
    if not config.anomalies.rolls_back:
        return weights + state if saves else 0
    snapshots = (settings.steps - 1) // config.anomalies.snapshot_every
    copies = snapshots + saves
    return min(copies, 2) * (weights + state) + (weights if copies < 2 else 0)


def _writes_checkpoints(settings: Settings, is_model: bool) -> bool:
    before = _expected_anneal(settings) if is_model else None
    policy = Policy(settings.config.checkpoint, settings.steps, before)
    by_time = settings.config.checkpoint.minutes is not None
    return any(by_time or policy.due(step) for step in range(1, settings.steps))


def _expected_anneal(settings: Settings) -> int | None:
    """Return the step before the rate is annealed, as if all steps had the same number of tokens."""
    schedule = settings.config.schedule
    if schedule.unit == "steps":
        return schedule.anneal_begins(settings.steps)
    begins = schedule.anneal_begins(settings.tokens)
    return None if begins is None else begins * settings.steps // settings.tokens


def _steps(first: int, last: int) -> str:
    return f"step {first} is" if first == last else f"steps {first} to {last} are"
