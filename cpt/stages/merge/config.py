"""Settings of the merge stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.monitor.gates.gate import RENAMED, Limit, LimitText
from cpt.monitor.reading import TaskMeasure
from cpt.stages.base import BASE, StageConfig
from cpt.stages.merge.averaging import RunAverage
from merging.request import RESERVED, model_names, shard_bytes

Setting = Any
"""A value; a list of numbers, between which the layers interpolate; or a list of {value, filter, layers}."""

Float = Literal["float64", "float32", "float16", "bfloat16"]
AUTO = "auto"
Bounds = tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class ReferencedModel(BaseModel):
    """A model that no stage of the recipe made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        min_length=1,
        description="Folder (also of a LoRA adapter), hub id, GGUF file, or file in a wheel.",
    )
    name: Name | None = Field(
        default=None, description="Name in this merge; by default the end of the reference."
    )


class ExternalModel(NamedTuple):
    """A model of a merge that no stage makes: key of the setting, name in the merge, reference."""

    key: str
    name: str
    reference: str


class MergedModel(BaseModel):
    """One model that goes into the merge, of a stage or of a reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str | None = Field(default=None, alias="from", description="The stage that made the model.")
    model: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of `from`, a model that no stage made, such as an instruct sibling: folder "
        "(also of a LoRA adapter), hub id, GGUF file, or file in a wheel.",
    )
    name: Name | None = Field(
        default=None, description="Name in this merge; by default the end of the reference."
    )
    weight: Setting = Field(
        default=None,
        description="Factor of the model, or of its difference from the base: 0 none, 1 all of it. "
        "Like every parameter it may vary by layer or by tensor. `auto`: chosen by `search`.",
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
        if (self.from_ is None) == (self.model is None):
            raise ValueError("name one model: `from: STAGE` or `model: REFERENCE`")
        if self.from_ is not None and self.name is not None:
            raise ValueError("name: the model of a stage has the stage's name")
        if "weight" in self.parameters:
            raise ValueError("write the weight as `weight`, not among the parameters")
        return self

    def settings(self) -> dict[str, Setting]:
        """Return all its parameters that are given."""
        return dict(self.parameters) | ({} if self.weight in (None, AUTO) else {"weight": self.weight})


class SearchTask(BaseModel):
    """A task of `cpt eval` whose accuracy is measured for every merge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(default=100, gt=1, description="Number of questions, a seeded sample of the task's.")


class SearchObjective(BaseModel):
    """Tasks by which merges are chosen, on one half of their items; the evaluate stage reports the other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[TaskName, ...] = Field(
        default=(), description="Tasks of `cpt eval suites`, by name: mmlu_anatomy_continuation."
    )
    suite: str | None = Field(
        default=None,
        description="Instead of `tasks`, a suite (medical:quick, or a file): those of its tasks that are "
        "choices by likelihood.",
    )
    measure: TaskMeasure = Field(
        default="p_gold",
        description="Measure that is maximised, the mean over the tasks: p_gold, the likelihood of the right "
        "choice per byte among the choices, or accuracy.",
    )
    items: int | None = Field(
        default=None,
        gt=1,
        description="Most items of each task's half; null: as the suite's level says, 100 of a named task.",
    )

    @model_validator(mode="after")
    def _tasks_or_suite(self) -> SearchObjective:
        if bool(self.tasks) == (self.suite is not None):
            raise ValueError("name either `tasks` or a `suite`")
        if twice := _twice(self.tasks):
            raise ValueError(f"tasks: {', '.join(twice)} is named twice")
        return self


class MergeSearch(BaseModel):
    """Settings of a search for weights, by measuring merges that are never written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int = Field(default=12, gt=0, description="Largest number of merges to try.")
    bounds: Bounds = Field(default=(0.0, 1.0), description="Smallest and largest weight.")
    density: Bounds | None = Field(
        default=None, description="Smallest and largest density, shared by all models; null: not searched."
    )
    groups: int = Field(default=1, gt=0, description="Groups of layers with weights of their own.")
    tokens: int = Field(
        default=8_000,
        gt=1,
        description="Number of tokens of each text that are read for every merge. A document longer than "
        "about a 32nd of it gives one passage of that length.",
    )
    window: int = Field(
        default=1024,
        gt=1,
        description="Largest number of tokens that are read at once; of a longer document no more than about "
        "a 32nd of `tokens` is.",
    )
    objective: SearchObjective | None = Field(
        default=None,
        description="What is maximised: a measure of tasks; null: the gain on the domain's held-out text.",
    )
    tasks: dict[TaskName, SearchTask] = Field(
        default={}, description="Tasks of `cpt eval suites`, by name (piqa), for limits on their accuracy."
    )
    data: str | None = Field(
        default=None, description="Folder with the tasks' data; what it lacks comes from the hub."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Precision in which merges are measured; auto: bf16 where it is fast."
    )

    @model_validator(mode="after")
    def _used(self) -> MergeSearch:
        if self.data is not None and not self.tasks and self.objective is None:
            raise ValueError("data: there are no tasks to take data for")
        taken = sorted({"domain", "general"} & self.tasks.keys())
        if taken:
            raise ValueError(f"tasks: {', '.join(taken)} is the name of a text")
        return self


class MergeGate(BaseModel):
    """A limit on what the merge may forget: weights are chosen so that it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    renamed_keys: ClassVar[Mapping[str, str]] = RENAMED

    limit: LimitText = Field(
        description="Limit on a probe, with 95% confidence: `general <= +0.01` (bits per byte above "
        "the base), `piqa >= -1 point` (accuracy)."
    )
    action: Literal["fail", "warn"] = Field(
        default="fail",
        description="If no weights are shown to keep the limit. fail: exit code 3 (broken) or 4 (not "
        "shown), the best compromise is kept; warn: a message.",
    )

    @field_validator("limit")
    @classmethod
    def _no_recovery(cls, limit: Limit) -> Limit:
        if limit.recovery:
            raise ValueError(f"`{limit}`: a merge does not recover; write it like `general <= +0.01`")
        return limit


class MergeConfig(StageConfig):
    """Configuration of the merge stage."""

    method: str = Field(
        default="task-arithmetic", description="Merge method; `cpt merge methods` lists them."
    )
    base: str | ReferencedModel | None = Field(
        default=BASE,
        description="The model that the others are merged onto: a stage, or {model: REFERENCE}; null for "
        "methods without one.",
    )
    models: tuple[MergedModel, ...] = Field(default=(), description="The models and their weights.")
    average: RunAverage | None = Field(
        default=None,
        description="Average the checkpoints of an earlier pretrain stage, instead of merging models.",
    )
    parameters: Mapping[str, Setting] = Field(
        default={}, description="Parameters of the method, for every model that has none of its own."
    )
    tokenizer: str = Field(
        default="auto",
        description="Source of the result's vocabulary and tokenizer: `base`, a model's name, `union`, or "
        "`auto`: the model that has all tokens of all models, else the union.",
    )
    settings: str | None = Field(
        default=None,
        description="Source of the result's chat template and generation settings: `base` or a model's "
        "name; by default the model with the tokenizer.",
    )
    chat_template: str | None = Field(
        default=None,
        description="A chat template instead: a .jinja file, a name (chatml, alpaca, ...), the template "
        "itself, or `auto`: the one that most models have.",
    )
    dtype: Float | None = Field(
        default=None, description="Data type of the result; by default the widest of the models'."
    )
    compute_dtype: Float | Literal["stored"] | None = Field(
        default=None,
        description="Data type of the arithmetic; by default float64 for task arithmetic, float32 otherwise.",
    )
    shard_size: str = Field(
        default="5GB", coerce_numbers_to_str=True, description="Largest size of a weight file: 500MB."
    )
    search: MergeSearch | None = Field(
        default=None,
        description="Search for the weights that are not given, on half of the corpus's held-out text.",
    )
    gates: tuple[MergeGate, ...] = Field(
        default=(),
        description="Limits that the chosen weights must keep; without any, the knee of the Pareto "
        "front is chosen.",
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

    @field_validator("shard_size")
    @classmethod
    def _is_size(cls, shard_size: str) -> str:
        shard_bytes(shard_size)
        return shard_size

    @model_validator(mode="after")
    def _different_models(self) -> MergeConfig:
        stages = [self.base] if isinstance(self.base, str) else []
        stages += [model.from_ for model in self.models if model.from_ is not None]
        given = [model.name for model in self.models if model.name is not None]
        base_name = self.base.name if isinstance(self.base, ReferencedModel) else None
        if twice := _twice(stages):
            raise ValueError(f"{', '.join(twice)} goes into the merge twice")
        for name in (*given, *([base_name] if base_name not in (None, BASE) else [])):
            if name in RESERVED:
                raise ValueError(f"a model cannot be called {name}: give it another name")
        if twice := _twice([*stages, *given, *([base_name] if base_name else [])]):
            raise ValueError(f"two models are called {', '.join(twice)}: give one of them another name")
        if same := sorted({*stages} & {each.reference for each in self.external_models}):
            raise ValueError(f"`{same[0]}` is a stage here and a folder: write the folder as ./{same[0]}")
        return self

    @model_validator(mode="after")
    def _searchable(self) -> MergeConfig:
        if self.searching is None and self.gates:
            raise ValueError("gates: limits are kept by choosing weights: add `search: {}`")
        if self.searching is not None and self.base is None:
            raise ValueError("search: changes are measured from a base: name one, even if it is not merged")
        return self

    @property
    def base_name(self) -> str | None:
        """Name of the base in the merge; None if there is no base."""
        return self._names()[0]

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the models in the merge, in their order."""
        return self._names()[1]

    @property
    def external_models(self) -> list[ExternalModel]:
        """The models that no stage of the recipe makes, the base first."""
        found = []
        if isinstance(self.base, ReferencedModel):
            found.append(ExternalModel("base.model", str(self.base_name), self.base.model))
        named = zip(self.models, self.model_names, strict=True)
        return found + [
            ExternalModel(f"models.{number}.model", name, each.model)
            for number, (each, name) in enumerate(named)
            if each.model is not None
        ]

    def _names(self) -> tuple[str | None, tuple[str, ...]]:
        models = [(each.from_ or each.name, each.model or "") for each in self.models]
        if isinstance(self.base, ReferencedModel):
            return model_names(models, (self.base.name, self.base.model))
        return model_names(models, None if self.base is None else (self.base, ""))

    @property
    def searching(self) -> MergeSearch | None:
        """Settings of the search; None if all weights are given."""
        asked = any(model.weight == AUTO for model in self.models)
        return MergeSearch() if self.search is None and asked else self.search


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
