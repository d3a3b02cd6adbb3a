"""Settings of the hypernetwork stage: those of the training, and where its model and text come from."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cpt.stages.base import StageConfig
from tokenizer_tools.hypernetwork.training.settings import CHANGEABLE, HypernetworkTrainingConfig


class HypernetworkStageConfig(HypernetworkTrainingConfig, StageConfig):
    """Configuration of the hypernetwork stage."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    resumable_fields: ClassVar[frozenset[str]] = CHANGEABLE - {"checkpoint"}

    start: str | None = Field(
        default=None,
        min_length=1,
        description="Hypernetwork whose training this one continues, up to its own `steps`: a folder, or a "
        "hub id with a revision.",
    )

    @property
    def training(self) -> HypernetworkTrainingConfig:
        """Return the settings of the training alone."""
        names = HypernetworkTrainingConfig.model_fields
        return HypernetworkTrainingConfig(**{name: getattr(self, name) for name in names})
