"""The shape of `run.json`, as it is read back from the disk."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FILE = "run.json"

StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunFilePart(BaseModel):
    """A part of the file; other versions may write more."""

    model_config = ConfigDict(frozen=True, extra="allow")


class StageState(RunFilePart):
    """How far a stage is. The fingerprint is part of a folder's name."""

    kind: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
    state: str
    seconds: Seconds | None = None
    gate: str = ""
    gate_verdict: str = ""


class StageProgressState(RunFilePart):
    """The last progress of a stage."""

    stage: str
    done: int
    total: int
    unit: str
    facts: dict[str, float] = {}
    seconds_left: float | None = None


class RecipeData(RunFilePart):
    """A recipe's data; the settings of its stages are checked where they are used."""

    name: str = ""
    base: str = ""
    seed: int = 0
    stages: list[str | Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]] = []


class RunFile(RunFilePart):
    """The file."""

    state: Literal["running", "finished", "failed", "interrupted"]
    stages: dict[StageName, StageState] = {}
    recipe: RecipeData | None = None
    started: str | None = None
    finished: str | None = None
    seconds: Seconds | None = None
    error: str | None = None
    progress: StageProgressState | None = None
    versions: dict[str, str] = {}
