"""What a recipe is: the file's top-level keys, and the checked recipe that the engine works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cpt.recipe.document import Document, Where
from cpt.stages.base import BASE, Stage, StageConfig

RESERVED = frozenset({BASE, "name", "seed", "stages", "all"})
"""Names that no stage may have: they mean something else in overrides and options."""


class RecipeFile(BaseModel):
    """A recipe's top-level keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=80,
        description="Name of the run; its results lie in runs/<name>.",
    )
    base: str = Field(
        min_length=1, description="The model to start from: hub id, folder, GGUF file, file inside a wheel."
    )
    seed: int = Field(default=17, ge=0, lt=2**32, description="Seed of every random choice in every stage.")
    stages: list[Any] = Field(min_length=1, description="What to do, in order: one `kind: settings` each.")


@dataclass(frozen=True)
class Step:
    """One stage of a recipe, checked and wired.

    config: as the user wrote it (this is what the fingerprint sees).
    located: the same with relative paths made absolute (this is what runs).
    inputs: role -> name of the earlier stage.
    references: data reference as written -> located.
    """

    name: str
    where: Where
    stage: Stage[Any]
    config: StageConfig
    located: StageConfig
    inputs: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.stage.kind

    @property
    def model_from(self) -> str:
        """The stage whose vocabulary and layers its model has: of a merge the first model, not the base."""
        named = (name for role, name in self.inputs.items() if role.partition(":")[0] == "model")
        return next(named, next(iter(self.inputs.values()), BASE))


@dataclass(frozen=True)
class Recipe:
    """A recipe without mistakes.

    base: reference of the base model, relative paths made absolute.
    document: the file's data with the overrides applied, and the lines for later messages.
    """

    name: str
    base: str
    seed: int
    steps: tuple[Step, ...]
    document: Document
    overrides: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        return Path(self.document.file)

    @property
    def data(self) -> dict[str, Any]:
        return self.document.data

    def upstream(self, step: Step, role: str) -> list[StageConfig]:
        """Configurations of the stages that an input of a step comes through, the first one first."""
        made: list[StageConfig] = []
        while step.inputs.get(role, BASE) != BASE:
            step = self.step(step.inputs[role])
            made.insert(0, step.located)
        return made

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)
