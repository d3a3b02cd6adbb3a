"""Stages that do next to nothing, and references that need no network, for testing the engine."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

import cpt
import evals
import merging
import tokenizer_tools
from cpt.errors import Problem, ReferenceUnavailable
from cpt.progress import Progress
from cpt.stages.base import Artifact, Context, Stage, StageConfig, UpstreamArtifact, UpstreamConfigs, newest

HOOKS: dict[str, Callable[[Context, int], None]] = {}
"""Stage kind -> called before each of its steps with the context and the step's number."""

RAN: list[str] = []
"""Kinds of the stages that ran, in order."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Strict):
    path: str
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"


class SelfGenerated(Strict):
    tokens: int = Field(gt=0)


class Replay(Strict):
    self_generated: SelfGenerated


class CorpusConfig(StageConfig):
    domain: list[Source] = Field(min_length=1)
    replay: Replay | list[Source] | None = None
    heldout: float = Field(default=0.02, gt=0, lt=1)
    sequence_length: int = Field(default=256, ge=8)


class Cosine(Strict):
    kind: Literal["rewarm-cosine"] = "rewarm-cosine"
    peak: float = Field(default=3e-4, gt=0)
    warmup: float = 0.05


class Constant(Strict):
    kind: Literal["constant"]
    peak: float = Field(default=1e-4, gt=0)


class PretrainConfig(StageConfig):
    resumable_fields: ClassVar[frozenset[str]] = frozenset({"compile"})

    tokens: int | Literal["all"] = 100
    steps: int = Field(default=5, ge=1, le=1000)
    start: dict[str, Any] | None = None
    schedule: Annotated[Cosine | Constant, Field(discriminator="kind")] = Cosine()
    gates: tuple[str, ...] = ()
    compile: bool = False


class Merged(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from")
    weight: float = 1.0


class MergeConfig(StageConfig):
    method: Literal["task-arithmetic", "linear"] = "task-arithmetic"
    models: list[Merged] = Field(min_length=1)


class EvaluateConfig(StageConfig):
    items: int = 10


class ReportConfig(StageConfig):
    pass


class Fake(Stage[Any]):
    """Writes the hash of everything it depends on, in as many steps as its configuration says."""

    def run(self, config: Any, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        RAN.append(self.kind)
        total = getattr(config, "steps", 1)
        log = context.work / "steps.txt"
        done = len(log.read_text().split()) if log.exists() else 0
        if done:
            context.progress.message(f"continues at step {done}")
        for step in range(done, total):
            if self.kind in HOOKS:
                HOOKS[self.kind](context, step)
            with log.open("a") as file:
                file.write(f"{step} ")
            context.progress.update(step + 1, total, "steps", loss=3.0 - step / total)
        digest = hashlib.sha256(self._content(config, inputs, context, log).encode()).hexdigest()
        for kind in self.produces:
            (context.output / kind).mkdir()
            (context.output / kind / "content.txt").write_text(digest)
        return {"content": digest, "steps": total}

    def _content(self, config: Any, inputs: Mapping[str, Artifact], context: Context, log: Path) -> str:
        read = {
            role: sorted(
                path.read_text() for kind in artifact.kinds for path in artifact.path(kind).iterdir()
            )
            for role, artifact in inputs.items()
        }
        settings = config.model_dump(exclude={"name", "from_", "domain"})
        return f"{settings} {read} {context.seed} {log.read_text()}"


class Corpus(Fake):
    kind = "corpus"
    Config = CorpusConfig
    consumes = ("model",)
    produces = ("corpus",)

    def references(self, config: CorpusConfig) -> list[str]:
        return [source.path for source in config.domain]

    def check(self, config: CorpusConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        problems = []
        if config.sequence_length > 4096:
            problems.append(Problem("longer than the model's 4096", key="sequence_length"))
        for index, source in enumerate(config.domain):
            if Path(source.path).is_file() and not Path(source.path).read_text().strip():
                problems.append(Problem("holds no text", key=f"domain.{index}.path", hint="Choose another."))
        if "model" in inputs and config.sequence_length == 4000:
            problems.append(Problem("the model disagrees", key="sequence_length"))
        return problems


class Vocabulary(Fake):
    kind = "vocabulary"
    Config = EvaluateConfig
    consumes = ("model", "corpus")
    produces = ("model", "corpus")


class Pretrain(Fake):
    kind = "pretrain"
    Config = PretrainConfig
    consumes = ("model", "corpus")
    produces = ("model", "training")

    def forecast(
        self,
        config: PretrainConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> str:
        return f"{config.tokens} tokens in {config.steps} steps"


class Merge(Fake):
    kind = "merge"
    Config = MergeConfig
    produces = ("model",)

    def wire(self, config: MergeConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        chosen = {f"model{i}": newest(earlier, "model", each.from_) for i, each in enumerate(config.models)}
        return {"base": "base", **chosen}


class Evaluate(Fake):
    kind = "evaluate"
    Config = EvaluateConfig
    produces = ("scores",)

    def wire(self, config: EvaluateConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        return {
            "before": "base",
            "after": newest(earlier, "model", config.from_),
            "corpus": newest(earlier, "corpus"),
        }


class Report(Fake):
    kind = "report"
    Config = ReportConfig
    produces = ("report",)
    shareable = False

    def wire(self, config: ReportConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        return {stage.name: stage.name for stage in earlier if stage.name != "base"}

    def run(self, config: Any, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        metrics = super().run(config, inputs, context)
        probe = {"before": 1.1, "after": 0.8, "depth": 0.01}
        (context.output / "report" / "report.html").write_text("<html></html>")
        (context.output / "report" / "report.json").write_text(json.dumps({"probes": {"domain": probe}}))
        return metrics


REGISTRY: dict[str, Stage[Any]] = {
    stage.kind: stage for stage in (Corpus(), Vocabulary(), Pretrain(), Merge(), Evaluate(), Report())
}


@cache
def _import_everything() -> None:
    """Import all modules: one first imported beside fake references would keep them for later tests."""
    for package in (cpt, evals, merging, tokenizer_tools):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name != "cpt.__main__":
                importlib.import_module(module.name)


class FakeReferences:
    """Stands in for `cpt.references`: local files by content, everything else by its name."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def locate(self, reference: str, relative_to: Path) -> str:
        path = relative_to / reference
        return str(path.absolute()) if path.exists() else reference

    def check(self, reference: str, relative_to: Path) -> Problem | None:
        if ":" in reference or Path(self.locate(reference, relative_to)).exists():
            return None
        return Problem(f"there is no file {reference}", hint="Check the path.")

    def fingerprint(self, reference: str) -> str:
        path = Path(reference)
        content = path.read_bytes() if path.is_file() else reference.encode()
        return hashlib.sha256(content).hexdigest()

    def resolve_model(self, reference: str, progress: Progress) -> Path:
        if "unreachable" in reference:
            raise ReferenceUnavailable(f"cannot fetch {reference}", hint="Fetch it elsewhere.")
        progress.message(f"fetching {reference}")
        folder = self.cache / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "content.txt").write_text(reference)
        return folder

    def replace(self, set_attribute: Callable[[str, Any], None]) -> None:
        """Put this object's functions in the place of the real ones."""
        _import_everything()
        for name in ("locate", "check", "fingerprint", "resolve_model"):
            set_attribute(f"cpt.references.{name}", getattr(self, name))


RECIPE = """\
# A recipe for tests
name: medical
base: fake:model
seed: 17
stages:
  - corpus:
      domain:
        - path: notes.txt
      sequence_length: 256
  - vocabulary: {items: 3}
  - pretrain:
      tokens: 1_000
      steps: 5
      schedule:
        kind: rewarm-cosine
        peak: 3e-4
  - merge: {models: [{from: pretrain, weight: 0.9}]}
  - evaluate:
  - report
"""
