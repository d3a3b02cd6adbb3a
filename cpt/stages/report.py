"""Implement the report stage: write the records of all earlier stages as one HTML page and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from cpt.errors import DataError, Problem
from cpt.json_file import read_plain, read_rows
from cpt.stages.base import BASE, Artifact, Context, Stage, StageConfig, UpstreamArtifact, WiringError

if TYPE_CHECKING:
    from cpt.corpus.index import CorpusIndex
    from cpt.report.facts import RunRecord, StageRecord, TokenizerRecord, TrainingRecord


class ReportConfig(StageConfig):
    """Settings of the report."""

    title: str | None = Field(
        default=None, min_length=1, description="Heading of the page; default: the recipe's name."
    )


class ReportStage(Stage[ReportConfig]):
    """Stage that reads the artifacts of all earlier stages and writes `report.html` and `report.json`."""

    kind = "report"
    contract = 2
    Config = ReportConfig
    produces = ("report",)
    shareable = False  # the page has the run's name

    def wire(self, config: ReportConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return one role per earlier stage, under the stage's name, without the base model."""
        if config.from_ is not None:
            problem = Problem(
                "a report reads every earlier stage", key="from", hint="Leave `from` out of the report stage."
            )
            raise WiringError(problem)
        return {stage.name: stage.name for stage in earlier if stage.name != BASE}

    def run(self, config: ReportConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Gather the facts and write both files.

        Raises:
            DataError: An earlier stage's artifact is damaged.
        """
        from cpt.report.facts import gather
        from cpt.report.page import render

        run = read_run(config, list(inputs.values()), context.recipe)
        try:
            facts = gather(run)
        except (ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
            message = f"an earlier stage's figures do not have the form that a report needs: {error}"
            raise DataError(message, hint="Run the stages again (--force).") from error
        folder = context.output / "report"
        folder.mkdir()
        (folder / "report.html").write_text(render(facts), encoding="utf-8")
        (folder / "report.json").write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return {"verdict": facts.verdict}


def read_run(config: ReportConfig, stages: Sequence[Artifact], recipe: Mapping[str, Any]) -> RunRecord:
    """Read all records for a report; of several artifacts of a kind the newest counts.

    Args:
        config: Settings of the report.
        stages: Artifacts in the recipe's order.
        recipe: Complete recipe as plain data.
    """
    from cpt.corpus.index import read_index
    from cpt.report.facts import RunRecord
    from cpt.report.facts.records import Scores

    newest = {kind: stage for stage in stages for kind in stage.kinds}
    trainings = [stage for stage in stages if "training" in stage.kinds]
    scores = newest.get("scores")
    index = read_index(newest["corpus"].path("corpus")) if "corpus" in newest else None
    return RunRecord(
        recipe=recipe,
        stages=[_stage_record(stage) for stage in stages],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(),
        title=config.title,
        corpus=index.model_dump() if index else None,
        training=_read_training(trainings[-1]) if trainings else None,
        earlier=[_read_bounds(each) for each in trainings[:-1]],
        scores=read_plain(scores.path("scores") / "scores.json", Scores) if scores else None,
        tokenizer=_read_tokenizer(newest.get("model"), index),
    )


def _stage_record(artifact: Artifact) -> StageRecord:
    from cpt.report.facts import StageRecord

    return StageRecord(
        name=artifact.name,
        kind=artifact.stage,
        fingerprint=artifact.fingerprint,
        seconds=artifact.seconds,
        created=artifact.created,
        config=artifact.config,
        metrics=artifact.metrics,
        versions=artifact.versions,
    )


def _read_bounds(artifact: Artifact) -> TrainingRecord:
    """Read summary and actions of an earlier training."""
    from cpt.report.facts import TrainingRecord
    from cpt.report.facts.records import ActionRow, TrainingSummary

    folder = artifact.path("training")
    return TrainingRecord(
        stage=artifact.name,
        summary=read_plain(folder / "summary.json", TrainingSummary),
        actions=_read_rows(folder / "actions.jsonl", ActionRow),
    )


def _read_training(artifact: Artifact) -> TrainingRecord:
    from cpt.report.facts import TrainingRecord
    from cpt.report.facts.records import ActionRow, MixtureRow, ProbeRow, StepRow, TrainingSummary

    folder = artifact.path("training")
    samples = folder / "samples.json"
    return TrainingRecord(
        stage=artifact.name,
        summary=read_plain(folder / "summary.json", TrainingSummary),
        steps=_read_rows(folder / "steps.jsonl", StepRow),
        probes=_read_rows(folder / "probes.jsonl", ProbeRow),
        ledger=read_plain(folder / "ledger.json", dict[str, dict[str, Any]]),
        actions=_read_rows(folder / "actions.jsonl", ActionRow),
        mixture=_read_rows(folder / "mixture.jsonl", MixtureRow),
        samples=read_plain(samples, list[dict[str, Any]]) if samples.exists() else (),
    )


def _read_tokenizer(model: Artifact | None, index: CorpusIndex | None) -> TokenizerRecord:
    """Read the newest tokenizer's size, and its bytes per token of held-out domain text."""
    from tokenizers import Tokenizer

    from cpt.report.facts import TokenizerRecord

    size = ratio = None
    if model is not None and (file := model.path("model") / "tokenizer.json").is_file():
        size = Tokenizer.from_file(str(file)).get_vocab_size()
    if index is not None and "heldout" in index.sources["domain"].splits:
        ratio = index.bytes_per_token("domain", "heldout")
    return TokenizerRecord(size, ratio)


def _read_rows(path: Path, shape: Any) -> list[dict[str, Any]]:
    """Read the rows of a JSON-lines file; empty without the file."""
    return read_rows(path, shape) if path.exists() else []


def _machine() -> dict[str, str | int]:
    """Return the hardware that speed depends on, without names of hosts or users."""
    system = f"{platform.system()} on {platform.machine()}"
    return {"system": system, "processor": _processor(), "cpus": os.cpu_count() or 1}


def _processor() -> str:
    """Return the processor's name, which Linux states only in /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


STAGE = ReportStage()
