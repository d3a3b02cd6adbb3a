"""The merge stage: what was trained, put back onto the base with a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.errors import Problem
from cpt.stages.base import BASE, Artifact, Context, Earlier, Stage, StageConfig, WiringError


class MergedModel(BaseModel):
    """One model that goes into the merge."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from", description="The stage that made the model.")
    weight: float = Field(
        allow_inf_nan=False,
        description="Factor of the model's difference from the base: 0 none, 1 all of it.",
    )


class MergeConfig(StageConfig):
    """Configuration of the merge stage."""

    method: Literal["task-arithmetic"] = Field(
        default="task-arithmetic", description="How the models are merged."
    )
    base: str = Field(default=BASE, description="Stage whose model the others are merged onto.")
    models: tuple[MergedModel, ...] = Field(description="The models and their weights.")

    @field_validator("from_")
    @classmethod
    def _unused(cls, from_: str | None) -> str | None:
        if from_ is not None:
            raise ValueError("merge takes its models from `base` and from each entry of `models`")
        return from_

    @field_validator("models")
    @classmethod
    def _some(cls, models: tuple[MergedModel, ...]) -> tuple[MergedModel, ...]:
        if not models:
            raise ValueError("name at least one model")
        return models

    @model_validator(mode="after")
    def _different_models(self) -> MergeConfig:
        names = [self.base, *(model.from_ for model in self.models)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} goes into the merge twice")
        return self


class MergeStage(Stage[MergeConfig]):
    """Merges models of one architecture; their vocabularies are aligned first."""

    kind: ClassVar[str] = "merge"
    Config: ClassVar[type[StageConfig]] = MergeConfig
    consumes: ClassVar[tuple[str, ...]] = ("model",)
    produces: ClassVar[tuple[str, ...]] = ("model",)

    def wire(self, config: MergeConfig, earlier: Sequence[Earlier]) -> dict[str, str]:
        """Role `base`, and `model:<place>` for each model."""
        roles = {"base": _with_model(config.base, earlier, "base")}
        for place, model in enumerate(config.models):
            roles[f"model:{place}"] = _with_model(model.from_, earlier, f"models.{place}.from")
        return roles

    def run(self, config: MergeConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Merge, and write the model with the vocabulary of the models."""
        from merging.task_arithmetic import Parent, merge

        def parent(role: str, weight: float) -> Parent:
            artifact = inputs[role]
            return Parent(artifact.name, artifact.path("model"), artifact.fingerprint, weight)

        context.progress.message("merging tensor by tensor")
        report = merge(
            parent("base", 1.0),
            [parent(f"model:{place}", model.weight) for place, model in enumerate(config.models)],
            context.output / "model",
            context.work / "aligned",
        )
        return {**asdict(report), "weights": {model.from_: model.weight for model in config.models}}


def _with_model(name: str, earlier: Sequence[Earlier], key: str) -> str:
    holders = [stage.name for stage in earlier if "model" in stage.kinds]
    if name in holders:
        return name
    known = any(stage.name == name for stage in earlier)
    message = f"`{name}` makes no model" if known else f"there is no earlier stage called `{name}`"
    raise WiringError(Problem(message, key=key, hint=f"Models are made by: {', '.join(holders)}."))


STAGE = MergeStage()
