"""Define a training feature: one file that holds everything about it.

A feature's file holds its settings, the problems that can be found before a run, its words for `cpt plan`,
its memory for `cpt estimate`, its state in checkpoints, and its part in the loop. All features and their
order are in `cpt.training.features.FEATURES`. Importing them imports no torch, because recipes are validated
with them: a feature imports torch inside the methods that need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from cpt.errors import Problem
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.monitor.probes.base import Probe
    from cpt.monitor.reading import Kind, Reading
    from cpt.progress import Progress
    from cpt.training.checkpoint.stateful import StateDict, Stateful
    from cpt.training.data import PackedSequence, Stream
    from cpt.training.distributed.collectives import ProcessGroup
    from cpt.training.features.anomalies import Anomaly
    from cpt.training.settings import Settings, TrainingConfig
    from cpt.training.state import State
    from cpt.training.step import Gradient
    from cpt.training.trainable.parameters import TrainableParameters
    from cpt.training.trainable.spec import TrainableSpec


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run that are known before it begins.

    Attributes:
        config: settings of the training, with the schedule of this run.
        steps: number of optimizer steps; None while the corpus is not known.
        probes: kinds of the probes, by name.
        batch_sequences: number of sequences of a global batch.
        replay_rows: number of those that are replay text.
        has_replay: True if the corpus has replay text; None while the corpus is not known.
        has_documents: True if domain rows hold documents, and not only study documents and conversations;
            None while the corpus is not known, or if nothing depends on it.
    """

    config: TrainingConfig
    steps: int | None = None
    probes: Mapping[str, Kind] = field(default_factory=dict)
    batch_sequences: int = 1
    replay_rows: int = 0
    has_replay: bool | None = None
    has_documents: bool | None = None


@dataclass(frozen=True)
class WeightBytes:
    """Memory of a run, in one process, on which the memory of features depends.

    Attributes:
        trained: bytes of the weights that the optimizer moves.
        saved: bytes of tensors that a checkpoint holds from the start on.
        optimizer: bytes of the optimizer's state.
        host: bytes of `saved` that are in main memory, where the model is on a GPU.
        on_gpu: True if the model is on a GPU, whole.
    """

    trained: int
    saved: int
    optimizer: int
    host: int = 0
    on_gpu: bool = False


MemoryPart = Literal["weights", "gates"]
"""Part of an estimate that a feature's memory counts towards."""


@dataclass(frozen=True)
class ExtraMemory:
    """Bytes that a feature takes in one process.

    Attributes:
        part: name of the part of an estimate that `held` counts towards.
        held: bytes where the model is, for the whole run.
        probing: more bytes where the model is, while probes are read.
        host: bytes in main memory, where the model is on a GPU.
        saved: bytes that a checkpoint holds of the feature from the start on.
        saved_later: bytes that a checkpoint holds of the feature after some steps.
    """

    part: MemoryPart = "weights"
    held: int = 0
    probing: int = 0
    host: int = 0
    saved: int = 0
    saved_later: int = 0


@dataclass(frozen=True)
class StepOutcome:
    """The outcome of a step.

    Attributes:
        batch: sequences of the global batch.
        rate: learning rate of the schedule times the gates' factor.
        seconds: duration of the step, without probes and checkpoints.
        anomaly: reason why the gradient was dropped; None if the weights moved.
    """

    batch: Sequence[PackedSequence]
    gradient: Gradient
    rate: float
    seconds: float
    anomaly: Anomaly | None


class TrainingFeature:
    """Base of every training feature: the hooks of the loop, in the order in which it calls them."""

    state_name: ClassVar[str | None] = None
    """Name of the feature's state in a checkpoint; None: it has no state."""

    rolls_back: ClassVar[bool] = True
    """False: going back to earlier weights leaves the feature's state as it is."""

    @classmethod
    def of(cls, config: TrainingConfig) -> Self | None:
        """Return the feature as the settings ask for it, or None where they do not ask for it."""
        raise NotImplementedError

    # before a run

    def problems(self, facts: RunFacts) -> list[Problem]:  # noqa: ARG002
        """Return what cannot work, or would have no effect; keys are those of `TrainingConfig`."""
        return []

    def describe(self) -> str:
        """Return the words of `cpt plan` for the feature, or none."""
        return ""

    def extra_bytes(self, weights: WeightBytes) -> ExtraMemory:  # noqa: ARG002
        """Return the memory that the feature takes."""
        return ExtraMemory()

    # while a run trains

    def on_start(self, run: Run) -> None:
        """Prepare, when the weights are those that the run began with, before a checkpoint is restored."""

    def on_resume(self, run: Run) -> None:
        """Open files and look at the restored state, right before the first step of this process."""

    def before_step(self, run: Run) -> None:
        """Act before a step."""

    def after_step(self, run: Run, step: StepOutcome) -> None:
        """Act after a step, whether its gradient was applied or dropped."""

    def after_probes(self, run: Run, readings: Sequence[Reading]) -> None:
        """Act on new readings of probes."""

    def on_rollback(self, run: Run) -> None:
        """Act after a gate has replaced the weights by earlier ones."""

    def on_end(self, run: Run) -> None:
        """Close files and leave the model as the result, after the last step."""

    # in a checkpoint

    def state_dict(self) -> StateDict:
        """Return the state that a run needs to continue. See `Stateful`."""
        return {}

    def load_state_dict(self, saved: StateDict) -> None:
        """Restore what `state_dict` returned. See `Stateful`."""


Feature = TypeVar("Feature", bound=TrainingFeature)


@dataclass
class Run:
    """A run in progress, as features see it.

    Attributes:
        choice: what of the model trains.
        stream: the training data as the recipe has them, before a gate changes the replay share.
        work: folder for checkpoints and logs; it survives a kill.
        stateful: weights and optimizer, by the names that they have in a checkpoint.
    """

    settings: Settings
    model: Any
    module: PackedLanguageModel
    choice: TrainableSpec
    trained: TrainableParameters
    optimizer: torch.optim.Optimizer
    stream: Stream
    probes: Sequence[Probe]
    state: State
    processes: ProcessGroup
    work: Path
    progress: Progress
    features: Sequence[TrainingFeature]
    stateful: Mapping[str, Stateful]

    def feature(self, kind: type[Feature]) -> Feature:
        """Return the feature of a kind that every run has."""
        found = self.find(kind)
        if found is None:
            raise KeyError(kind.__name__)
        return found

    def find(self, kind: type[Feature]) -> Feature | None:
        """Return the feature of a kind, or None where the run has none."""
        return next((each for each in self.features if isinstance(each, kind)), None)

    def features_with_state(self) -> dict[str, TrainingFeature]:
        """Return the features that have state in a checkpoint, by the name of that state."""
        return {each.state_name: each for each in self.features if each.state_name is not None}

    def report_readings(self, readings: Sequence[Reading]) -> None:
        """Call `after_probes` of every feature."""
        for each in self.features:
            each.after_probes(self, readings)

    def report_rollback(self) -> None:
        """Call `on_rollback` of every feature."""
        for each in self.features:
            each.on_rollback(self)


def total_memory(
    features: Sequence[TrainingFeature], weights: WeightBytes
) -> tuple[dict[MemoryPart, int], ExtraMemory]:
    """Return the bytes that features hold where the model is, by part, and the sums of all else.

    A feature may save what earlier ones save: so they are asked in their order.
    """
    held: dict[MemoryPart, int] = {}
    total = ExtraMemory()
    for feature in features:
        extra = feature.extra_bytes(weights)
        weights = replace(weights, saved=weights.saved + extra.saved, host=weights.host + extra.host)
        held[extra.part] = held.get(extra.part, 0) + extra.held
        total = ExtraMemory(
            held=total.held + extra.held,
            probing=total.probing + extra.probing,
            host=total.host + extra.host,
            saved=total.saved + extra.saved,
            saved_later=total.saved_later + extra.saved_later,
        )
    return held, total
