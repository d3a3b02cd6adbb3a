"""List the training features: one file each, called by the loop in the order of `FEATURES`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt.training.features.anomalies import AnomalyHandler
from cpt.training.features.checkpoints import CheckpointManager
from cpt.training.features.gate_controller import GateController
from cpt.training.features.input_noise import InputNoise
from cpt.training.features.l2_sp import L2SP
from cpt.training.features.probe_runner import ProbeRunner
from cpt.training.features.proofs import TrainingProofs
from cpt.training.features.skill_it import SkillIt
from cpt.training.features.step_log import StepLog
from cpt.training.features.trackers import TrackerLogging
from cpt.training.features.weight_averaging import WeightAveraging

if TYPE_CHECKING:
    from cpt.training.feature import TrainingFeature
    from cpt.training.settings import TrainingConfig

FEATURES: tuple[type[TrainingFeature], ...] = (
    InputNoise,
    L2SP,
    WeightAveraging,  # before what logs and reads: the average is of the step that was taken
    AnomalyHandler,
    TrainingProofs,
    TrackerLogging,
    StepLog,
    ProbeRunner,
    SkillIt,  # before the gates, which may end the run
    GateController,  # after the probes, on whose readings it acts
    CheckpointManager,  # last: a checkpoint holds what all others did in the step
)


def features_of(config: TrainingConfig) -> list[TrainingFeature]:
    """Return the features that a training with these settings has, in their order."""
    return [feature for kind in FEATURES if (feature := kind.of(config)) is not None]


__all__ = ["FEATURES", "features_of"]
