"""Learn which part of a domain helps which: the skills graph of Skill-It.

Skill-It (Chen et al. 2023, arXiv 2307.14430), algorithm 3 of appendix B.2: a model is trained on each skill i
alone, and the fall of the loss on every skill j is measured, δ_j^i = L_j(before) - L_j(after). An edge i → j
has the weight max(0, δ_j^i) (appendix C.2). The weights are scaled so that the largest is 1, as in the graph
of the paper's LEGO data, for which it has η = 0.5: an edge is to be "proportional" to δ (appendix B.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cpt.errors import UsageError
from cpt.json_file import read_json, write_json

Skill = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
"""Name of a skill: that of a part of the domain."""


class Fall(BaseModel):
    """A fall of a loss in bits per byte.

    Attributes:
        error: Standard error over runs and documents; None: not known.
        margin: Half of the 95% interval, by Student's t over runs; None: not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    error: float | None = Field(default=None, ge=0)
    margin: float | None = Field(default=None, ge=0)

    @property
    def is_unsure(self) -> bool:
        """Return True if the interval holds 0."""
        return self.margin is not None and abs(self.value) < self.margin


class SkillGraph(BaseModel):
    """A graph of skills, as `skills.json` has it.

    Attributes:
        edges: Weight of the edge from a skill to another one that it helps, by both; those left out are 0.
        falls: Measured falls behind the edges; empty for a graph that was written by hand.
        runs: Names of the runs that it was learned from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    skills: list[Skill] = Field(min_length=1)
    edges: dict[Skill, dict[Skill, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]
    falls: dict[Skill, dict[Skill, Fall]] = {}
    runs: list[str] = []

    @model_validator(mode="after")
    def _known_skills(self) -> Self:
        if len(set(self.skills)) < len(self.skills):
            raise ValueError("a skill is named twice")
        named = {*self.edges, *(name for row in self.edges.values() for name in row)}
        if unknown := sorted(named - set(self.skills)):
            raise ValueError(f"{', '.join(unknown)} has an edge and is no skill")
        return self

    def edge(self, source: str, target: str) -> float:
        """Return the weight of an edge."""
        return self.edges.get(source, {}).get(target, 0.0)

    @property
    def targets(self) -> list[str]:
        """Return the skills that some skill helps: their losses are needed."""
        return [name for name in self.skills if any(self.edge(source, name) for source in self.skills)]


def identity_graph(skills: Sequence[str]) -> SkillGraph:
    """Return the graph in which each skill helps itself alone: weights then follow the losses."""
    return SkillGraph(skills=list(skills), edges={name: {name: 1.0} for name in skills})


def learned_graph(falls: Mapping[str, Mapping[str, Fall]], runs: Sequence[str] = ()) -> SkillGraph:
    """Return the graph of measured falls.

    Args:
        falls: By the skill that was trained on alone, the fall of every skill's loss. A skill whose loss is
            never measured gets no edges to it.

    Raises:
        UsageError: A loss was measured after training on some skills only, or no loss fell.
    """
    skills = list(falls)
    targets = [j for j in skills if any(j in row for row in falls.values())]
    missing = [f"{i} on {j}" for i in skills for j in targets if j not in falls[i]]
    if missing:
        raise UsageError(f"not measured: the effect of {', '.join(missing)}")
    largest = max((falls[i][j].value for i in skills for j in targets), default=0.0)
    if largest <= 0:
        raise UsageError(
            "no loss fell, whatever was trained on: there is no graph",
            hint="Train longer, or at another learning rate.",
        )
    edges = {
        i: {j: falls[i][j].value / largest for j in targets if falls[i][j].value > 0}
        for i in skills
        if any(falls[i][j].value > 0 for j in targets)
    }
    measured = {i: {j: falls[i][j] for j in targets} for i in skills}
    return SkillGraph(skills=skills, edges=edges, falls=measured, runs=list(runs))


def write_graph(graph: SkillGraph, path: Path) -> None:
    """Write a graph, whole or not at all."""
    write_json(path, graph.model_dump(mode="json"))


def read_graph(path: Path) -> SkillGraph:
    """Read a graph.

    Raises:
        DamagedFile: The file is missing, or is no graph of this version.
    """
    found: SkillGraph = read_json(path, SkillGraph, hint="`cpt law skills` writes it.")
    return found
