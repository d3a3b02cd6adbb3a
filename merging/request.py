"""What is asked for: which models, merged by which method with which parameters, into what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AUTO, BASE, UNION = "auto", "base", "union"


@dataclass(frozen=True)
class InputModel:
    """A model that goes into a merge.

    Attributes:
        name: what messages and the model card call it.
        folder: a Hugging Face folder; its path may be given as text.
        fingerprint: of its content, for the model card.
        parameters: the method's parameters for this model; each value is a setting as of `Request`.
    """

    name: str
    folder: Path
    fingerprint: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))


@dataclass(frozen=True)
class Request:
    """A merge.

    A parameter's setting is a value; or a list of numbers, between which the layers interpolate, the first
    layer at the first; or a list of `{value, filter, layers}`, of which the first that fits holds: `filter`
    is a part of the tensor's name, `layers` a pair [first, one after the last].

    Attributes:
        method: name of a method (`merging.methods`).
        models: the models, apart from the base.
        base: the model that changes are counted from. Methods without a base leave it out of the
            arithmetic; its vocabulary may still be chosen.
        parameters: settings that hold for every model that has none of its own.
        tokenizer: whose vocabulary the result has: "base", the name of a model, "union" for every token of
            base and models, or "auto": the model that has every token of all models, else the union.
        settings: name of the parent whose chat template and generation settings the result has; None for
            the one that gives the tokenizer (of a union: the base, or else the first model).
        chat_template: a chat template (Jinja) to be taken instead of a parent's.
        dtype: data type of the result, such as "bfloat16"; None for the widest of the parents, per tensor.
        compute_dtype: data type of the arithmetic; None for float64 in task arithmetic, which makes it
            exact, and float32, or the parents' if that is wider, elsewhere; "stored" for the parents',
            as mergekit does unless told otherwise.
        seed: of random methods. Each tensor draws from its own stream, of the seed and its name, so that
            a result depends neither on the order of the work nor on which tensors are merged.
        about: what the models are to each other, for the model card.
    """

    method: str
    models: tuple[InputModel, ...]
    base: InputModel | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = AUTO
    settings: str | None = None
    chat_template: str | None = None
    dtype: str | None = None
    compute_dtype: str | None = None
    seed: int = 0
    about: str = ""

    @property
    def parents(self) -> tuple[InputModel, ...]:
        """Base, if any, and models."""
        return ((self.base,) if self.base else ()) + self.models
