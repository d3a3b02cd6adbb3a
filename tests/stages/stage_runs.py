"""Running one stage by hand, on artifacts made by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.progress import NullProgress, Progress
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS


class Heard:
    """Says nothing, and keeps what it hears."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, *_: object, **__: object) -> None:
        pass

    def note(self, *_: object) -> None:
        pass


def artifact(name: str, folder: Path, *kinds: str) -> Artifact:
    """An artifact whose fingerprint is its name."""
    return Artifact(name=name, stage=name, kinds=kinds, fingerprint=name, folder=folder)


def model_artifact(name: str, model: Path, folder: Path) -> Artifact:
    """A model folder as an artifact."""
    (folder / name).mkdir(parents=True)
    (folder / name / "model").symlink_to(model)
    return artifact(name, folder / name, "model")


def run_stage(
    stage: Any,
    config: Mapping[str, Any],
    inputs: Mapping[str, Artifact],
    folder: Path,
    progress: Progress | None = None,
    seed: int = 17,
    shared: Path | None = None,
) -> dict[str, Any]:
    """Run a stage into `folder / "output"`."""
    (folder / "output").mkdir(parents=True)
    (folder / "work").mkdir()
    context = Context(folder / "output", folder / "work", seed, progress or NullProgress(), {}, shared)
    metrics: dict[str, Any] = stage.run(stage.Config.model_validate(config), inputs, context)
    return metrics


def make_corpus(base: Artifact, folder: Path, general: bool = True) -> Artifact:
    """Clinical documents, a tenth of them held out, and general text."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "domain": [{"path": str(write_jsonl(folder / "domain.jsonl", clinical_texts()))}],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    if general:
        file = write_jsonl(folder / "general.jsonl", varied_texts(20, "general "))
        config["general"] = [{"path": str(file)}]
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return artifact("corpus", folder / "made" / "output", "corpus")


def make_parted_corpus(base: Artifact, folder: Path, **texts: list[str]) -> Artifact:
    """A domain of named parts, a fifth of each held out; two parts if none are given."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = texts or {"notes": clinical_texts(), "papers": varied_texts(40, "paper ")}
    domain = [
        {"path": str(write_jsonl(folder / f"{part}.jsonl", each)), "part": part}
        for part, each in texts.items()
    ]
    config = {"domain": domain, "heldout": 0.2, "sequence_length": 64}
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return artifact("corpus", folder / "made" / "output", "corpus")
