"""What a stage is: a frozen configuration, what it consumes and produces, and one `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem

if TYPE_CHECKING:
    from cpt.training.place import Place

BASE = "base"
"""Name of the artifact that every chain starts with: the base model, of kind `model`."""


class StageConfig(BaseModel):
    """Base of every stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset()
    """Settings that cannot change the stage's result, and are left out of its fingerprint."""

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

    The content of kind K lies in the subfolder K: `folder/model` is a plain Hugging Face folder,
    `folder/corpus` holds documents and token shards, `folder/scores` JSON, and so on.
    """

    model_config = ConfigDict(frozen=True)

    name: str  # the stage's name in the recipe, or "base"
    stage: str  # the kind of stage: "corpus", "pretrain", ...; "base" for the base model
    kinds: tuple[str, ...]
    fingerprint: str
    folder: Path
    config: dict[str, Any] = {}
    parents: dict[str, str] = {}  # role -> fingerprint
    versions: dict[str, str] = {}
    created: str = ""
    seconds: float = 0.0
    metrics: dict[str, Any] = {}

    def path(self, kind: str) -> Path:
        """Folder that holds this artifact's content of one kind."""
        if kind not in self.kinds:
            raise KeyError(f"{self.name} holds {', '.join(self.kinds)}, not {kind}")
        return self.folder / kind


class Progress(Protocol):
    """Where a stage says what it is doing. The command shows it; a library may ignore it."""

    def message(self, text: str) -> None: ...

    def update(self, done: int, total: int, unit: str, **facts: float) -> None: ...

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """What a training has found: a "reading", an "action", or the "verdict" on its budgets."""


class NullProgress:
    """A `Progress` that shows nothing."""

    def message(self, text: str) -> None:
        pass

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        pass

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Context:
    """What a running stage gets besides its configuration and its inputs.

    output: temporary folder to fill with one subfolder per produced kind; renamed when `run` returns.
    work: scratch folder of this very stage and fingerprint that survives a kill (checkpoints);
        removed when the stage is finished.
    recipe: the whole recipe as plain data (for the report).
    shared: folder of the run for what several results can use and what is expensive to make again; whoever
        writes there names it by all that it depends on. None: `work`.
    contents: data reference of the stage's settings -> fingerprint of its content, which readers compare with
        what they read.
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

    inputs: role -> whose it takes. chosen: whether its stage chose it on held-out text.
    """

    name: str
    kinds: frozenset[str]
    inputs: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False


UpstreamConfigs = Sequence[StageConfig]
"""Configurations of the stages that an artifact comes through, the first one first."""


class WiringError(Exception):
    """A stage's inputs cannot be found among the earlier stages. Carries the problem (key, message, hint)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def newest(earlier: Sequence[UpstreamArtifact], kind: str, from_: str | None = None) -> str:
    """Name of the newest earlier stage that holds `kind`; `from_` is taken instead if it holds that kind."""
    holders = [stage.name for stage in earlier if kind in stage.kinds]
    if from_ in holders:
        return from_
    if not holders:
        raise WiringError(
            Problem(f"no earlier stage makes a {kind}", hint=f"Put a stage that makes a {kind} before it.")
        )
    return holders[-1]


def lineage(name: str, earlier: Sequence[UpstreamArtifact]) -> list[UpstreamArtifact]:
    """All that an earlier artifact is made of, directly or not, in their order; itself left out."""
    names = {name}
    for stage in reversed(earlier):
        if stage.name in names:
            names |= set(stage.inputs.values())
    return [stage for stage in earlier if stage.name in names - {name}]


C = TypeVar("C", bound=StageConfig)


class Stage(ABC, Generic[C]):
    """One kind of stage. Subclasses are stateless; `contract` grows when a stage's results change meaning.

    `together`: whether all processes of a run call `run` at the same time (`cpt.training.world`); any other
    stage is run by the main process alone, which is also the only one to write files.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[StageConfig]]
    consumes: ClassVar[tuple[str, ...]] = ()
    produces: ClassVar[tuple[str, ...]] = ()
    contract: ClassVar[int] = 1
    together: ClassVar[bool] = False

    def wire(self, config: C, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Role -> name of the earlier stage that plays it. By default one role per consumed kind."""
        return {kind: newest(earlier, kind, config.from_) for kind in self.consumes}

    def selects_on_heldout(self, config: C) -> bool:
        """Whether the stage chooses what it makes on held-out text, which must not be reported on then."""
        return False

    def references(self, config: C) -> list[str]:
        """References of data files whose content belongs to the fingerprint (see `cpt.references`)."""
        return []

    def fetch(self, config: C, progress: Progress) -> list[Problem]:
        """Fetch models that the settings refer to, before the first stage runs; report what cannot be had."""
        return []

    def check(self, config: C, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Everything that can be found wrong before the stage runs.

        Args:
            inputs: by role, those inputs that exist already (a planned stage may have none yet).

        Returns:
            Problems with `key` relative to the stage ("schedule.peak"); the caller adds file and line.
        """
        return []

    def heldout_problems(self, config: C, corpus: Artifact, halved: bool) -> list[Problem]:
        """Return what the held-out text of a corpus lacks for the stage.

        It is asked as soon as the corpus exists, however late the stage runs: stages between that tokenise
        the corpus again keep its documents.

        Args:
            halved: Whether merge weights that the stage's model depends on are chosen on half of that text,
                so that only the other half is read.
        """
        return []

    def check_environment(
        self, config: C, place: Place, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """What cannot be at the place of the run (hardware, processes, what is installed) or in its chain.

        Args:
            upstream: by role, what makes each input.

        Returns:
            Problems as of `check`.
        """
        return []

    def forecast(
        self, config: C, inputs: Mapping[str, Artifact], upstream: Mapping[str, UpstreamConfigs]
    ) -> str:
        """What the stage will do, in numbers, for `cpt plan`: "98,304 tokens in 48 steps". May be empty.

        Args:
            inputs: by role, those inputs that exist already.
            upstream: by role, what makes each input.
        """
        return ""

    @abstractmethod
    def run(self, config: C, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Do the work: fill `context.output`, return metrics (plain JSON data) for `artifact.json`."""
