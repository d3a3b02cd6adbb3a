"""Settings of the merge stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.monitor.gates.gate import Budget, BudgetText
from cpt.stages.base import BASE, StageConfig
from cpt.stages.merge.averaging import RunAverage

Setting = Any
"""A value; a list of numbers between which the layers interpolate; or a list of {value, filter, layers}."""

Float = Literal["float64", "float32", "float16", "bfloat16"]
AUTO = "auto"
Bounds = tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]]


class MergedModel(BaseModel):
    """One model that goes into the merge."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from", description="The stage that made the model.")
    weight: Setting = Field(
        default=None,
        description="Factor of the model, or of its difference from the base: 0 none, 1 all of it. "
        "By layers, or for some tensors, as every parameter may be. `auto`: chosen by `search`.",
    )
    parameters: Mapping[str, Setting] = Field(
        default={}, description="Further parameters of the method for this model, such as density."
    )

    @field_validator("weight")
    @classmethod
    def _finite(cls, weight: Setting) -> Setting:
        if isinstance(weight, int | float) and not float("-inf") < weight < float("inf"):
            raise ValueError("a weight must be a finite number")
        return weight

    @model_validator(mode="after")
    def _once(self) -> MergedModel:
        if "weight" in self.parameters:
            raise ValueError("write the weight as `weight`, not among the parameters")
        return self

    def settings(self) -> dict[str, Setting]:
        """All its parameters that are given."""
        return dict(self.parameters) | ({} if self.weight in (None, AUTO) else {"weight": self.weight})


class SearchTask(BaseModel):
    """A task of `cpt eval` whose accuracy is measured at every point."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(default=100, gt=1, description="Questions: a seeded sample of the task's.")


class MergeSearch(BaseModel):
    """How weights are chosen: by bits per byte of merges that are made in memory and never written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int = Field(default=12, gt=0, description="Most merges to try.")
    bounds: Bounds = Field(default=(0.0, 1.0), description="Smallest and largest weight.")
    density: Bounds | None = Field(
        default=None, description="Smallest and largest density, one for all models; null: not searched."
    )
    groups: int = Field(default=1, gt=0, description="Groups of layers with weights of their own.")
    tokens: int = Field(default=8_000, gt=1, description="Tokens of each text that every point reads.")
    window: int = Field(default=1024, gt=1, description="Longest stretch of text that is read at once.")
    tasks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], SearchTask] = Field(
        default={}, description="Tasks of `cpt eval suites`, by name (piqa), for budgets on their accuracy."
    )
    data: str | None = Field(
        default=None, description="Folder with the tasks' data; what it lacks comes from the hub."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Precision in which merges are measured; auto: bf16 where it is fast."
    )

    @model_validator(mode="after")
    def _used(self) -> MergeSearch:
        if self.data is not None and not self.tasks:
            raise ValueError("data: there are no tasks to take data for")
        taken = sorted({"domain", "general"} & self.tasks.keys())
        if taken:
            raise ValueError(f"tasks: {', '.join(taken)} is the name of a text")
        return self


class MergeGate(BaseModel):
    """A budget of what the merge may forget: weights are chosen so that it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: BudgetText = Field(
        description="What a probe must keep to, 95% sure: `general <= +0.01` (bits per byte above the base), "
        "`piqa >= -1 point` (accuracy)."
    )
    action: Literal["fail", "warn"] = Field(
        default="fail",
        description="If no weights are shown to keep it: exit code 3 (broken) or 4 (not shown), the best "
        "compromise is kept; or say so.",
    )

    @field_validator("budget")
    @classmethod
    def _no_recovery(cls, budget: Budget) -> Budget:
        if budget.recovery:
            raise ValueError(f"`{budget}`: a merge does not recover; write it like `general <= +0.01`")
        return budget


class MergeConfig(StageConfig):
    """Configuration of the merge stage."""

    method: str = Field(default="task-arithmetic", description="How the models are merged.")
    base: str | None = Field(
        default=BASE,
        description="Stage whose model the others are merged onto; null for methods without one.",
    )
    models: tuple[MergedModel, ...] = Field(default=(), description="The models and their weights.")
    average: RunAverage | None = Field(
        default=None,
        description="Average the checkpoints of an earlier pretrain stage, instead of merging models.",
    )
    parameters: Mapping[str, Setting] = Field(
        default={}, description="Parameters of the method, for all models that have none of their own."
    )
    tokenizer: str = Field(
        default="auto",
        description="Whose vocabulary and tokenizer the result has: `base`, a stage, `union`, or `auto`: "
        "the model that has all tokens of all models, else the union.",
    )
    settings: str | None = Field(
        default=None,
        description="Stage whose chat template and generation settings the result has; by default those of "
        "the one with the tokenizer.",
    )
    dtype: Float | None = Field(
        default=None, description="Data type of the result; by default the widest of the models'."
    )
    compute_dtype: Float | Literal["stored"] | None = Field(
        default=None,
        description="Data type of the arithmetic; by default float64 for task arithmetic, float32 otherwise.",
    )
    search: MergeSearch | None = Field(
        default=None,
        description="Choose the weights that are not given, by half of the corpus's held-out text.",
    )
    gates: tuple[MergeGate, ...] = Field(
        default=(), description="Budgets that the chosen weights must keep; without any, the knee is chosen."
    )

    @field_validator("from_")
    @classmethod
    def _unused(cls, from_: str | None) -> str | None:
        if from_ is not None:
            raise ValueError("merge takes its models from `base` and from each entry of `models`")
        return from_

    @field_validator("method")
    @classmethod
    def _hyphens(cls, method: str) -> str:
        return method.replace("_", "-")

    @model_validator(mode="after")
    def _models_or_average(self) -> MergeConfig:
        if self.average is None:
            if not self.models:
                raise ValueError("name at least one model")
            return self
        given = sorted(self.model_fields_set - {"average", "dtype", "name"})
        if given:
            raise ValueError(f"an average has its own method and weights; leave out {', '.join(given)}")
        return self

    @model_validator(mode="after")
    def _different_models(self) -> MergeConfig:
        names = [*self.bases, *(model.from_ for model in self.models)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} goes into the merge twice")
        choices = (*names, "base", "auto", "union")
        if self.tokenizer not in choices:
            raise ValueError(f"tokenizer: {self.tokenizer} does not go into the merge")
        if self.settings not in (None, "base", *names):
            raise ValueError(f"settings: {self.settings} does not go into the merge")
        return self

    @model_validator(mode="after")
    def _searchable(self) -> MergeConfig:
        if self.searching is None and self.gates:
            raise ValueError("gates: budgets are kept by choosing weights: add `search: {}`")
        if self.searching is not None and self.base is None:
            raise ValueError("search: changes are measured from a base: name one, even if it is not merged")
        return self

    @property
    def bases(self) -> tuple[str, ...]:
        """The base, if there is one."""
        return () if self.base is None else (self.base,)

    @property
    def searching(self) -> MergeSearch | None:
        """How weights are chosen; None if all are given."""
        asked = any(model.weight == AUTO for model in self.models)
        return MergeSearch() if self.search is None and asked else self.search
