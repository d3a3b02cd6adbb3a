"""Configuration of the evaluate stage."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cpt.stages.base import StageConfig

Precision = Literal["auto", "bf16", "fp32"]
_NAME = r"^[a-z0-9][a-z0-9_-]*$"


class ContinuationTask(BaseModel):
    """Which text continues a held-out document? Made from the corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Name of the task in the results.")
    continuation_of: Literal["domain", "general"] = Field(
        description="Whose held-out documents are asked about."
    )
    items: int = Field(default=200, gt=0, description="Items, at most one per document.")


class FileTask(BaseModel):
    """Multiple-choice items of one's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Name of the task in the results.")
    path: str = Field(
        description="JSONL with question, choices and answer (the right choice's index) per line."
    )
    items: int | None = Field(default=None, gt=0, description="Use the first so many items; all by default.")


class EvaluateConfig(StageConfig):
    """Held-out text, tasks and suites that the base and the final model are measured on."""

    heldout_tokens: int = Field(
        default=30_000, gt=0, description="Held-out text per source, in tokens of the base; whole documents."
    )
    window: int = Field(default=1024, gt=1, description="Longest stretch of text that is read at once.")
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
        "the file of a suite of one's own.",
    )
    data: str | None = Field(
        default=None,
        description="Folder with the suites' data sets as their authors give them away; what it lacks comes "
        "from the hub.",
    )

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
