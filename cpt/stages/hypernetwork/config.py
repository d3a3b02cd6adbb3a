"""Settings of the hypernetwork stage: those of the training, and where its model and text come from."""

from __future__ import annotations

from typing import ClassVar

from cpt.stages.base import StageConfig
from tokenizer_tools.hypernetwork.training.settings import CHANGEABLE, HypernetworkTrainingConfig


class HypernetworkStageConfig(HypernetworkTrainingConfig, StageConfig):
    """Configuration of the hypernetwork stage."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    resumable_fields: ClassVar[frozenset[str]] = CHANGEABLE - {"checkpoint"}
