"""The merge stage: models put together, such as what was trained, back onto the base with a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.errors import CannotMerge, Problem
from cpt.stages.averages import RunAverage, average_request, missing, training_of, unkept
from cpt.stages.base import BASE, Artifact, Context, Earlier, Stage, StageConfig, WiringError

if TYPE_CHECKING:
    from cpt.training.place import Place
    from merging.request import Request

Setting = Any
"""A value; a list of numbers between which the layers interpolate; or a list of {value, filter, layers}."""

Float = Literal["float64", "float32", "float16", "bfloat16"]


class MergedModel(BaseModel):
    """One model that goes into the merge."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from", description="The stage that made the model.")
    weight: Setting = Field(
        default=None,
        description="Factor of the model, or of its difference from the base: 0 none, 1 all of it. "
        "By layers, or for some tensors, as every parameter may be.",
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
        """All its parameters."""
        return dict(self.parameters) | ({} if self.weight is None else {"weight": self.weight})


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

    @property
    def bases(self) -> tuple[str, ...]:
        """The base, if there is one."""
        return () if self.base is None else (self.base,)


class MergeStage(Stage[MergeConfig]):
    """Merges models of one architecture; their vocabularies are aligned first."""

    kind: ClassVar[str] = "merge"
    Config: ClassVar[type[StageConfig]] = MergeConfig
    consumes: ClassVar[tuple[str, ...]] = ("model",)
    produces: ClassVar[tuple[str, ...]] = ("model",)
    contract: ClassVar[int] = 2

    def wire(self, config: MergeConfig, earlier: Sequence[Earlier]) -> dict[str, str]:
        """Role `base`, if there is one, and `model:<place>` for each model; of an average, `training`."""
        if config.average is not None:
            return {"training": training_of(config.average.of, earlier)}
        roles = {} if config.base is None else {"base": _with_model(config.base, earlier, "base")}
        for place, model in enumerate(config.models):
            roles[f"model:{place}"] = _with_model(model.from_, earlier, f"models.{place}.from")
        return roles

    def check(self, config: MergeConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Whether the method takes such models and parameters, and, of those that exist, whether they fit."""
        return list(_problems(config, inputs))

    def misfits(self, config: MergeConfig, place: Place, makers: Sequence[StageConfig]) -> list[Problem]:  # noqa: ARG002
        """That the training whose checkpoints are averaged will keep none."""
        return [] if config.average is None else list(unkept(config.average, makers))

    def run(self, config: MergeConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Merge, and write the model with the vocabulary of the models."""
        from merging.analysis.analyse import analyse
        from merging.merge import run
        from merging.plan import plan, read_parents

        what = config.method if config.average is None else config.average.title
        context.progress.message(f"merging tensor by tensor: {what}")
        request = _request(config, inputs, context.seed)
        parents = read_parents(request)
        report = run(
            plan(request, parents),
            context.output / "model",
            progress=lambda done, total: context.progress.update(done, total, "bytes"),
        )
        weights = {model.name: model.parameters.get("weight") for model in request.models}
        weights = {name: weight for name, weight in weights.items() if weight is not None}
        if request.base is None:
            return {**asdict(report), "weights": weights}
        context.progress.message("measuring the task vectors")
        analysis = analyse(
            parents[0], parents[1:], lambda done, total: context.progress.update(done, total, "weights")
        )
        return {**asdict(report), "weights": weights, "analysis": asdict(analysis)}


def _request(config: MergeConfig, inputs: Mapping[str, Artifact], seed: int) -> Request:
    """What is asked of the library; an artifact that is not there yet has only its name."""
    from merging.request import Parent, Request

    if config.average is not None:
        return average_request(config.average, inputs["training"], config.dtype)

    def parent(role: str, name: str, settings: Mapping[str, Setting]) -> Parent:
        if role not in inputs:
            return Parent(name, Path(), parameters=settings)
        artifact = inputs[role]
        return Parent(name, artifact.path("model"), artifact.fingerprint, settings)

    return Request(
        method=config.method,
        models=tuple(
            parent(f"model:{place}", model.from_, model.settings())
            for place, model in enumerate(config.models)
        ),
        base=None if config.base is None else parent("base", config.base, {}),
        parameters=config.parameters,
        tokenizer=config.tokenizer,
        settings=config.settings,
        dtype=config.dtype,
        compute_dtype=config.compute_dtype,
        seed=seed,
    )


def _problems(config: MergeConfig, inputs: Mapping[str, Artifact]) -> Iterator[Problem]:
    from merging.plan import check_request, plan

    if config.average is not None:
        too_few = list(missing(config.average, inputs))
        yield from too_few
        if too_few or not inputs:
            return
    request = _request(config, inputs, seed=0)
    complete = config.average is not None or len(inputs) == len(request.parents)
    try:
        plan(request) if complete else check_request(request)
    except CannotMerge as error:
        for problem in error.problems:
            yield Problem(problem, hint=error.hint)


def _with_model(name: str, earlier: Sequence[Earlier], key: str) -> str:
    holders = [stage.name for stage in earlier if "model" in stage.kinds]
    if name in holders:
        return name
    known = any(stage.name == name for stage in earlier)
    message = f"`{name}` makes no model" if known else f"there is no earlier stage called `{name}`"
    raise WiringError(Problem(message, key=key, hint=f"Models are made by: {', '.join(holders)}."))


STAGE = MergeStage()
