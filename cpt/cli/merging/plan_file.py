"""A merge from a short YAML file of our own.

    base: HuggingFaceTB/SmolLM2-135M         # what changes are counted from; left out by some methods
    method: ties                             # see cpt merge methods
    models:
      - {model: models/medical, name: medical, weight: 0.8, parameters: {density: 0.3}}
      - {model: HuggingFaceTB/SmolLM2-135M-Instruct, name: instruct, weight: 1.0}
    parameters: {density: 0.5}               # for all models that have none of their own
    tokenizer: medical                       # base, a model's name, union; the best one if left out
    settings: instruct                       # chat template and generation settings

Every value of a parameter may be a list of numbers, between which the layers interpolate, or a list of
{value, filter, layers}, of which the first that fits a tensor holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cpt.cli.merging.job import SHARD_SIZE, Asked, Named, named, template_text
from cpt.errors import CannotMerge, Problem, RecipeError, UsageError
from cpt.recipe.document import Document, Where
from cpt.recipe.explain import findings, mistaken_booleans
from cpt.recipe.suggest import did_you_mean


class PlannedModel(BaseModel):
    """A model of the plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="Folder, hub id, GGUF, file in a wheel.")
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][\w.-]*$",
        description="What messages call it; its end if left out.",
    )
    weight: Any = Field(default=None, description="Factor of the model, or of its difference from the base.")
    parameters: Mapping[str, Any] = Field(
        default={}, description="Further parameters of the method for this model, such as density."
    )


class PlanFile(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[PlannedModel, ...] = Field(min_length=1, description="The models and their weights.")
    base: str | None = Field(default=None, description="What changes are counted from.")
    method: str = Field(default="task-arithmetic", description="How the models are merged.")
    parameters: Mapping[str, Any] = Field(
        default={}, description="Parameters of the method, for all models that have none of their own."
    )
    tokenizer: str = Field(default="auto", description="Whose vocabulary the result has.")
    settings: str | None = Field(default=None, description="Whose chat template and generation settings.")
    chat_template: str | None = Field(default=None, description="A chat template instead: file, name, text.")
    dtype: str | None = Field(default=None, description="Data type of the result.")
    compute_dtype: str | None = Field(default=None, description="Data type of the arithmetic.")
    seed: int = Field(default=0, description="Of random methods.")
    shard_size: str = Field(
        default=SHARD_SIZE, coerce_numbers_to_str=True, description="Most bytes in a file."
    )


def from_plan(document: Document, seed: int | None, shard_size: str | None) -> Asked:
    """What a file asks for; a seed and a size on the command line take precedence.

    Raises:
        RecipeError: with everything in it that is wrong, by line.
    """
    plan = _validated(document)
    known = _known_parameters(plan)
    if known is None:
        from merging.methods import methods

        hint = did_you_mean(plan.method, methods())
        raise RecipeError([document.problem(("method",), f"there is no merge method {plan.method!r}", hint)])
    try:
        asked = _asked(plan, known, document.folder, seed, shard_size)
    except (CannotMerge, UsageError) as error:
        raise RecipeError([Problem(error.message, file=document.file, hint=error.hint)]) from error
    places: dict[str, Where] = {
        model.name: ("models", number, "model") for number, model in enumerate(asked.request.models)
    }
    if asked.request.base is not None:
        places[asked.request.base.name] = ("base",)
    problems = [document.problem(*found) for found in _unknown_parameters(plan, known)]
    return replace(asked, problems=tuple(problems), document=document, places=places)


def _validated(document: Document) -> PlanFile:
    data = document.data
    try:
        plan = PlanFile.model_validate(data)
        found = mistaken_booleans(plan, data)
    except ValidationError as error:
        found = findings(error, PlanFile, data)
    if found:
        raise RecipeError([document.problem(each.where, each.message, each.hint) for each in found])
    return plan


def _known_parameters(plan: PlanFile) -> list[str] | None:
    """The method's parameters by name; None if there is no such method."""
    from merging.methods import methods

    method = methods().get(plan.method.replace("_", "-"))
    return None if method is None else [parameter.name for parameter in method.parameters]


def _unknown_parameters(plan: PlanFile, known: Sequence[str]) -> Iterator[tuple[Where, str, str | None]]:
    """Where the file sets a parameter that the method does not have: place, message, hint."""
    for where, settings in _parameters(plan):
        for name in settings:
            if name not in known:
                hint = did_you_mean(name, known) or "It has no parameters."
                yield (*where, name), f"`{name}` is no parameter of {plan.method}", hint


def _parameters(plan: PlanFile) -> Iterator[tuple[Where, Mapping[str, Any]]]:
    yield ("parameters",), plan.parameters
    for number, model in enumerate(plan.models):
        yield ("models", number, "parameters"), model.parameters


def _asked(
    plan: PlanFile, known: Sequence[str], folder: Path, seed: int | None, shard_size: str | None
) -> Asked:
    """The plan as a request, without parameters that are not known."""
    from merging.request import InputModel, MergeRequest

    base_model = None if plan.base is None else Named(plan.base)
    models, base_model = named([Named(each.model, each.name) for each in plan.models], base_model)
    parents = tuple(
        InputModel(
            str(model.name),
            Path(),
            parameters=_only(each.parameters, known)
            | ({} if each.weight is None else {"weight": each.weight}),
        )
        for model, each in zip(models, plan.models, strict=True)
    )
    request = MergeRequest(
        method=plan.method.replace("_", "-"),
        models=parents,
        base=None if base_model is None else InputModel(str(base_model.name), Path()),
        parameters=_only(plan.parameters, known),
        tokenizer=plan.tokenizer,
        settings=plan.settings,
        chat_template=template_text(plan.chat_template, folder),
        dtype=plan.dtype,
        compute_dtype=plan.compute_dtype,
        seed=plan.seed if seed is None else seed,
    )
    named_models = [*models, *([base_model] if base_model else [])]
    references = {str(model.name): model.reference for model in named_models}
    return Asked(request, references, folder, shard_size or plan.shard_size)


def _only(settings: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in known}
