"""Configuration of the evaluate stage."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cpt.stages.base import BASE, StageConfig

Precision = Literal["auto", "bf16", "fp32"]
_NAME = r"^[a-z0-9][a-z0-9_-]*$"
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def names_stage(model: str) -> bool:
    """Return True for the name of a stage, False for a model reference.

    A reference has a slash, a dot or a capital letter. A folder beside the recipe is written `./name`.
    """
    return _STAGE_NAME.fullmatch(model) is not None


class ContinuationTask(BaseModel):
    """Task made from the corpus: which text continues a held-out document?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Name of the task in the results.")
    continuation_of: Literal["domain", "general"] = Field(description="Source of the held-out documents.")
    items: int = Field(default=200, gt=0, description="Items, at most one per document.")


class FileTask(BaseModel):
    """Task of the user's own multiple-choice items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Name of the task in the results.")
    path: str = Field(
        description="JSONL with question, choices and answer (the right choice's index) per line."
    )
    items: int | None = Field(default=None, gt=0, description="Use the first so many items; all by default.")


class EvaluateConfig(StageConfig):
    """Settings of the evaluate stage: held-out text, tasks and suites, and the models compared on them."""

    against: tuple[str, ...] = Field(
        default=(BASE,),
        description="Models that the final model is compared with, `base` first. Others are the name of an "
        "earlier stage that makes a model, or a model: folder (./NAME), hub id, GGUF file, file in a wheel.",
    )
    heldout_tokens: int = Field(
        default=30_000,
        gt=0,
        description="Held-out text per source, in tokens of the base. A document longer than about a 32nd of "
        "it gives one passage of that length.",
    )
    window: int = Field(
        default=1024,
        gt=1,
        description="Most tokens that are read at once. No passage is longer than about a 32nd of "
        "`heldout_tokens`: for a window of 4,096, set those to 131,072.",
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of the confidence intervals.")
    precision: Precision = Field(
        default="auto", description="Precision of the models' weights; auto: bf16 where the hardware has it."
    )
    tasks: tuple[ContinuationTask | FileTask, ...] = Field(
        default=(), description="Multiple-choice tasks, scored through lm-eval."
    )
    suites: tuple[str, ...] = Field(
        default=(),
        description="Suites of benchmarks, as `cpt eval suites` lists them: `medical`, `general:smoke`; or "
        "the file of your own suite.",
    )
    data: str | None = Field(
        default=None,
        description="Folder with the suites' data sets as their authors publish them; what it lacks comes "
        "from the hub.",
    )

    @field_validator("against")
    @classmethod
    def _base_first(cls, against: tuple[str, ...]) -> tuple[str, ...]:
        if against[:1] != (BASE,):
            raise ValueError("`base` must be the first: the report counts changes from it")
        twice = sorted({name for name in against if against.count(name) > 1})
        if twice:
            raise ValueError(f"named more than once: {', '.join(twice)}")
        return against

    @field_validator("tasks")
    @classmethod
    def _different_names(
        cls, tasks: tuple[ContinuationTask | FileTask, ...]
    ) -> tuple[ContinuationTask | FileTask, ...]:
        names = [task.name for task in tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two tasks are called {', '.join(twice)}")
        return tasks
