"""Define a recipe: the file's top-level keys, its list of stages as written, and the checked recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem, did_you_mean
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
        description="Name of the run; its results are in runs/<name>.",
    )
    base: str = Field(
        min_length=1, description="The model to start from: hub id, folder, GGUF file, file inside a wheel."
    )
    seed: int = Field(default=17, ge=0, lt=2**32, description="Seed of every random choice in every stage.")
    stages: list[Any] = Field(min_length=1, description="What to do, in order: one `kind: settings` each.")


@dataclass(frozen=True)
class Step:
    """One stage of a recipe, checked and wired.

    Attributes:
        config: Settings as the user wrote them; the fingerprint is made of these.
        located: The same settings with relative paths made absolute; these run.
        inputs: Role -> name of the earlier stage.
        references: Data reference as written -> located.
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


def upstream(step: Step, role: str, steps: Mapping[str, Step]) -> list[StageConfig]:
    """Return the configurations of the stages that make an input of a step in turn, the first one first.

    Of a merge, the first model is followed.

    Args:
        steps: Steps by name.
    """
    chain: list[StageConfig] = []
    name = step.inputs.get(role, "")
    while (maker := steps.get(name)) is not None:
        chain.insert(0, maker.located)
        name = maker.inputs.get("corpus", "") if role == "corpus" else maker.model_from
    return chain


@dataclass(frozen=True)
class Recipe:
    """A recipe without mistakes.

    Attributes:
        base: Reference of the base model, relative paths made absolute.
        document: Data of the file with the overrides applied, and the lines for later messages.
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
        """Return the configurations of the stages that an input of a step comes through (`upstream`)."""
        return upstream(step, role, {each.name: each for each in self.steps})

    def step(self, name: str) -> Step:
        """Return a step by its name."""
        return next(step for step in self.steps if step.name == name)


@dataclass(frozen=True)
class Item:
    """A stage as written.

    Attributes:
        where: Place of its settings: ("stages", 2, "pretrain").
        known: Whether there is such a kind of stage.
    """

    where: Where
    kind: str
    name: str
    settings: dict[str, Any]
    known: bool


def read_items(document: Document, kinds: Collection[str]) -> tuple[list[Item], list[Problem]]:
    """Read the list under `stages:`; `- report` and `- report:` become `- report: {}` in the document."""
    entries = document.data.get("stages")
    items: list[Item] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        found = _read_item(document, index, entry, kinds)
        if isinstance(found, Item):
            items.append(found)
            if not found.known:
                hint = did_you_mean(found.kind, kinds)
                problems.append(document.problem(found.where, "there is no such kind of stage", hint))
        else:
            problems.append(found)
    return items, problems


def name_problems(document: Document, items: list[Item]) -> list[Problem]:
    """Return the problems of names that are given twice or reserved."""
    problems = []
    seen: dict[str, Item] = {}
    for item in items:
        if item.name in RESERVED:
            message = f"a stage cannot be called `{item.name}`: the word means something else in a recipe"
            problems.append(document.problem((*item.where, "name"), message, "Choose another name."))
        elif item.name in seen:
            line = document.problem(seen[item.name].where, "").line
            message = f"a second stage called `{item.name}`; the first is on line {line}"
            hint = f"Give it a name of its own, such as `name: {item.name}-2`."
            problems.append(document.problem(item.where, message, hint))
        seen.setdefault(item.name, item)
    return problems


def _read_item(document: Document, index: int, entry: Any, kinds: Collection[str]) -> Item | Problem:
    here: Where = ("stages", index)
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or not entry:
        message = "a stage is written as `- kind: settings`"
        return document.problem(here, message, "For example `- report: {}`.")
    if len(entry) > 1:
        kind = next((key for key in entry if key in kinds), next(iter(entry)))
        others = ", ".join(f"`{key}`" for key in entry if key != kind)
        message = f"{others} stand beside `{kind}`, not under it"
        return document.problem(here, message, f"Indent the settings of `{kind}` two spaces further.")
    ((kind, settings),) = entry.items()
    where = (*here, kind)
    document.data["stages"][index] = {kind: {} if settings is None else settings}
    settings = document.data["stages"][index][kind]
    if not isinstance(settings, dict):
        message = f"the settings of `{kind}` are not a mapping (key: value lines)"
        return document.problem(where, message)
    name = settings.get("name")
    return Item(where, kind, name if isinstance(name, str) else kind, settings, kind in kinds)
