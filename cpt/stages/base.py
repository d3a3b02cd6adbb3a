"""Define a stage: a frozen configuration, the artifacts that it consumes and produces, and one `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem
from cpt.progress import Progress

if TYPE_CHECKING:
    from cpt.training.distributed.environment import Environment

BASE = "base"
"""Name of the artifact that every chain starts with: the base model, of kind `model`."""


class StageConfig(BaseModel):
    """Base of every stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset()
    """Settings that cannot change the stage's result; they are not in its fingerprint. A name with dots is
    that of a setting within another one: study.write.timeout.
    """

    resumable_fields: ClassVar[frozenset[str]] = frozenset()
    """Settings that may change while an unfinished attempt is resumed."""

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Former recipe key -> its name now, for the error message."""

    name: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Name of this stage in the recipe; needed when a stage occurs twice.",
    )
    from_: str | None = Field(
        default=None,
        alias="from",
        description="Earlier stage whose model (or corpus) is used, instead of the newest one.",
    )


class Artifact(BaseModel):
    """A finished stage's folder, described by its `artifact.json`.

    The content of kind K is in the subfolder K: `folder/model` is a plain Hugging Face folder,
    `folder/corpus` has documents and token shards, `folder/scores` JSON.

    Attributes:
        name: Name of the stage in the recipe, or "base".
        stage: Kind of the stage: "corpus", "pretrain"; "base" for the base model.
        parents: Role -> fingerprint.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    stage: str
    kinds: tuple[str, ...]
    fingerprint: str
    folder: Path
    config: dict[str, Any] = {}
    parents: dict[str, str] = {}
    versions: dict[str, str] = {}
    created: str = ""
    seconds: float = 0.0
    metrics: dict[str, Any] = {}

    def path(self, kind: str) -> Path:
        """Return the folder with this artifact's content of one kind."""
        if kind not in self.kinds:
            raise KeyError(f"{self.name} holds {', '.join(self.kinds)}, not {kind}")
        return self.folder / kind


@dataclass(frozen=True)
class Context:
    """Everything that a running stage gets besides its configuration and its inputs.

    Attributes:
        output: Staging folder to fill with one subfolder for each produced kind; renamed when `run` returns.
        work: Scratch folder of exactly this stage and fingerprint that survives a kill (checkpoints); removed
            when the stage is finished.
        recipe: The whole recipe as plain data, for the report.
        shared: Folder of the run for expensive data that several results can use, named by everything that
            they depend on; None: `work`.
        contents: Data reference of the stage's settings -> fingerprint of its content, which readers compare
            with what they read.
    """

    output: Path
    work: Path
    seed: int
    progress: Progress
    recipe: Mapping[str, Any]
    shared: Path | None = None
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UpstreamArtifact:
    """An artifact that exists, or will exist, before a stage runs.

    Attributes:
        inputs: Role -> name of the stage that it is made from.
        chosen: Whether its stage selected it on held-out text, or by half of the items of tasks.
    """

    name: str
    kinds: frozenset[str]
    inputs: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False


UpstreamConfigs = Sequence[StageConfig]
"""Configurations of the stages that make an artifact in turn, the first one first."""


class WiringError(Exception):
    """A stage whose inputs are not found among the earlier stages, with the problem (key, message, hint)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def newest(earlier: Sequence[UpstreamArtifact], kind: str, from_: str | None = None) -> str:
    """Return the newest earlier stage that holds `kind`, or `from_` if that holds it."""
    holders = [stage.name for stage in earlier if kind in stage.kinds]
    if from_ in holders:
        return from_
    if not holders:
        raise WiringError(
            Problem(f"no earlier stage makes a {kind}", hint=f"Put a stage that makes a {kind} before it.")
        )
    return holders[-1]


def lineage(name: str, earlier: Sequence[UpstreamArtifact]) -> list[UpstreamArtifact]:
    """Return everything that an earlier artifact is made of, directly or not, in order, without itself."""
    names = {name}
    for stage in reversed(earlier):
        if stage.name in names:
            names |= set(stage.inputs.values())
    return [stage for stage in earlier if stage.name in names - {name}]


C = TypeVar("C", bound=StageConfig)


class Stage(ABC, Generic[C]):
    """A kind of stage. Subclasses are stateless.

    Attributes:
        contract: Version of the stage's results; it grows when they change meaning.
        distributed: Whether all processes of a run call `run` at the same time. Any other stage is run by the
            main process alone, which is also the only one to write files.
        shareable: Whether other runs may take over its results.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[StageConfig]]
    consumes: ClassVar[tuple[str, ...]] = ()
    produces: ClassVar[tuple[str, ...]] = ()
    contract: ClassVar[int] = 1
    distributed: ClassVar[bool] = False
    shareable: ClassVar[bool] = True

    def wire(self, config: C, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return role -> name of the earlier stage that plays it; by default one role per consumed kind."""
        return {kind: newest(earlier, kind, config.from_) for kind in self.consumes}

    def selects_on_heldout(self, config: C) -> bool:
        """Return True if the stage selects its result on held-out text, which is then unfit for reports."""
        return False

    def selects_by_tasks(self, config: C) -> bool:
        """Return True if the stage selects its result by half of the items of tasks (`choosing`)."""
        return False

    def references(self, config: C) -> list[str]:
        """Return the references of data files whose content belongs to the fingerprint (`cpt.references`)."""
        return []

    def fetch(self, config: C, progress: Progress) -> list[Problem]:
        """Fetch models that the settings refer to, before the first stage runs; report what cannot be had."""
        return []

    def check(self, config: C, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Find everything that can be found wrong before the stage runs.

        Args:
            inputs: Role -> artifact, of the inputs that exist already.

        Returns:
            Problems with `key` relative to the stage ("schedule.peak"); the caller adds file and line.
        """
        return []

    def heldout_problems(self, config: C, corpus: Artifact, halved: bool) -> list[Problem]:
        """Check that the held-out text of a corpus suffices for the stage.

        It is called as soon as the corpus exists, however late the stage runs: stages between that tokenise
        the corpus again keep its documents.

        Args:
            halved: Whether merge weights that the stage's model depends on are chosen on half of that text,
                so that only the other half is read.
        """
        return []

    def check_environment(
        self, config: C, place: Environment, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """Find what cannot run in an environment (hardware, processes, packages) or after stages upstream.

        Args:
            upstream: Role -> configurations of the stages that make the input.

        Returns:
            Problems as of `check`.
        """
        return []

    def forecast(
        self, config: C, inputs: Mapping[str, Artifact], upstream: Mapping[str, UpstreamConfigs]
    ) -> str:
        """Describe the work in numbers for `cpt plan`: "98,304 tokens in 48 steps". May be empty.

        Args:
            inputs: Role -> artifact, of the inputs that exist already.
            upstream: Role -> configurations of the stages that make the input.
        """
        return ""

    @abstractmethod
    def run(self, config: C, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Do the work: fill `context.output`, return metrics (plain JSON data) for `artifact.json`."""
