"""Settings of the hypernetwork stage: those of the training, and where its model and text come from."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from cpt.stages.base import StageConfig
from tokenizer_tools.hypernetwork.training.settings import CHANGEABLE, HypernetworkTrainingConfig
from tokenizer_tools.settings import ReplaceConfig, VocabularyChange


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
    initial: str | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda reference: reference is None,
        description="Hypernetwork that a training in a fixed `tokenizer` begins with: a folder, or a hub id "
        "with a revision. Default: the newest hypernetwork stage above, if there is one.",
    )

    @model_validator(mode="after")
    def _begins_once(self) -> HypernetworkStageConfig:
        if self.initial is not None and self.tokenizer is None:
            raise ValueError("initial goes with a fixed tokenizer: name it as `tokenizer`")
        if self.initial is not None and self.start is not None:
            raise ValueError("start continues a training, and initial begins one: give one")
        return self

    @property
    def brings_new_tokens(self) -> bool:
        """Return True if the stage writes a model with the fixed tokenizer."""
        return self.backbone is not None

    @property
    def change(self) -> VocabularyChange | None:
        """Return the change of vocabulary that the fixed tokenizer is; None without one."""
        if self.tokenizer is None:
            return None
        return VocabularyChange(replace=ReplaceConfig(tokenizer=self.tokenizer))

    @property
    def training(self) -> HypernetworkTrainingConfig:
        """Return the settings of the training alone."""
        names = HypernetworkTrainingConfig.model_fields
        return HypernetworkTrainingConfig(**{name: getattr(self, name) for name in names})
