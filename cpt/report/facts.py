"""Gathers the facts of a run from what its finished stages recorded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML

from cpt.report import wording
from cpt.report.curves import smoothed, thinned
from cpt.report.schema import (
    CurvePoint,
    Documents,
    Facts,
    Interval,
    Merge,
    MergedModel,
    Probe,
    ProbeTraining,
    SchedulePhase,
    StageFact,
    Suites,
    Task,
    Trained,
    Training,
    TrainingPoint,
    Vocabulary,
)

SMOOTHING_SPAN = 0.1
"""Span of the smoothed loss, as a share of all steps."""

FIRST_PROBES = ("domain", "general")


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage's `artifact.json` says."""

    name: str
    kind: str
    fingerprint: str
    seconds: float = 0.0
    created: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingRecord:
    """The content of a `training/` folder: summary.json, steps.jsonl, probes.jsonl, ledger.json."""

    stage: str
    summary: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]] = ()
    probes: Sequence[Mapping[str, Any]] = ()
    ledger: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerRecord:
    """Tokens in a vocabulary, and bytes per token of held-out domain text; None where unknown."""

    size: int | None = None
    bytes_per_token: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """Everything that a report is made of, as plain data.

    recipe: the whole recipe (name, base, seed, stages).
    stages: finished stages in order, the base model first.
    corpus, scores: corpus.json and scores.json, None where no stage made one.
    tokenizer: the final model's, for runs that leave the base's as it is.
    """

    recipe: Mapping[str, Any]
    stages: Sequence[StageRecord]
    created: str
    machine: Mapping[str, str | int] = field(default_factory=dict)
    title: str | None = None
    corpus: Mapping[str, Any] | None = None
    training: TrainingRecord | None = None
    scores: Mapping[str, Any] | None = None
    tokenizer: TokenizerRecord = TokenizerRecord()


def gather(run: RunRecord) -> Facts:
    """All facts of a run. Parts that no stage recorded stay empty and are named in `absent`."""
    name = str(run.recipe.get("name", "run"))
    scores = run.scores or {}
    confidence = float(scores.get("confidence", 0.95))
    probes = gather_probes(run.training, scores.get("bits_per_byte") or {})
    ledger = {source: Trained(**row) for source, row in run.training.ledger.items()} if run.training else {}
    made = [stage for stage in run.stages if stage.kind != "base"]
    training, merge = gather_training(run), gather_merge(run.stages)
    return Facts(
        name=name,
        title=run.title or name,
        base=str(run.recipe.get("base", "")),
        verdict=wording.verdict(probes),
        basis=wording.basis(probes, confidence, merged=merge is not None),
        created=run.created,
        confidence=confidence,
        probes=probes,
        tokens={source: row.tokens for source, row in ledger.items()},
        tokens_per_second=training.tokens_per_second if training else None,
        seconds={stage.name: stage.seconds for stage in made},
        vocabulary=gather_vocabulary(run),
        tasks={task: Task(**row) for task, row in (scores.get("tasks") or {}).items()},
        suites=Suites(**scores["suites"]) if "suites" in scores else None,
        training=training,
        ledger=ledger,
        documents=gather_documents(run.corpus),
        merge=merge,
        stages=[stage_fact(stage) for stage in run.stages],
        absent=absent_parts(run),
        recipe=recipe_text(run.recipe),
        versions=gather_versions(run.stages),
        machine=dict(run.machine),
    )


def gather_probes(
    training: TrainingRecord | None, scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Probe]:
    """Every probe by name, domain and general first."""
    stability: Mapping[str, Mapping[str, Any]] = training.summary.get("stability", {}) if training else {}
    readings = [row for row in training.probes if row["kind"] == "text"] if training else []
    found = [*stability, *(str(row["probe"]) for row in readings), *scores]
    names = [name for name in FIRST_PROBES if name in found]
    names += [name for name in dict.fromkeys(found) if name not in FIRST_PROBES]
    return {
        name: gather_probe(
            stability.get(name, {}),
            [_curve_point(row) for row in readings if row["probe"] == name],
            scores.get(name),
        )
        for name in names
    }


def _curve_point(row: Mapping[str, Any]) -> CurvePoint:
    return CurvePoint(**{key: row[key] for key in CurvePoint.model_fields})


def gather_probe(
    stability: Mapping[str, Any], curve: list[CurvePoint], score: Mapping[str, Any] | None
) -> Probe:
    """One probe: levels from evaluate if it measured this text, the gap from the training curve."""
    curve = sorted(curve, key=lambda point: point.step)
    before = stability.get("before", curve[0].value if curve else None)
    end = stability.get("end", curve[-1].value if curve else None)
    permanent = None if before is None or end is None else end - before
    gap = {key: stability.get(key) for key in ("depth", "area", "trough_step", "trough_tokens")}
    gap |= {key: stability.get(key) for key in ("recovery_step", "recovery_tokens")}
    followed = ProbeTraining(before=before, end=end, permanent=permanent) if curve or stability else None
    shared: dict[str, Any] = {**gap, "curve": thinned(curve), "training": followed}
    if score is None:
        difference = None if permanent is None else Interval(value=permanent)
        return Probe(before=before, after=end, permanent=permanent, difference=difference, **shared)
    levels = {key: Interval(**score[key]) for key in ("before", "after", "difference")}
    return Probe(
        before=levels["before"].value,
        after=levels["after"].value,
        permanent=levels["after"].value - levels["before"].value,
        measured_by="evaluate",
        before_interval=levels["before"],
        after_interval=levels["after"],
        difference=levels["difference"],
        documents=score.get("documents"),
        bytes=score.get("bytes"),
        **shared,
    )


def gather_training(run: RunRecord) -> Training | None:
    """The training curves with the loss smoothed over a tenth of the steps."""
    if run.training is None:
        return None
    steps = sorted(run.training.steps, key=lambda row: int(row["step"]))
    losses = [row.get("loss_nats") for row in steps]
    rows = [
        TrainingPoint(
            step=row["step"], tokens=row["tokens"], loss_nats=loss, smoothed=smooth, lr=row.get("lr")
        )
        for row, loss, smooth in zip(
            steps, losses, smoothed(losses, span=SMOOTHING_SPAN * len(losses)), strict=True
        )
    ]
    summary = run.training.summary
    return Training(
        stage=run.training.stage,
        trainings=sum(stage.kind == "pretrain" for stage in run.stages),
        steps=summary.get("steps", rows[-1].step if rows else 0),
        tokens=summary.get("tokens", rows[-1].tokens if rows else 0),
        tokens_per_second=summary.get("tokens_per_second"),
        points=thinned(rows),
        phases=gather_phases(summary.get("schedule") or {}, {row.step: row.tokens for row in rows}),
    )


def gather_phases(schedule: Mapping[str, Any], tokens: Mapping[int, int]) -> list[SchedulePhase]:
    """Where the schedule's phases begin, in tokens.

    Args:
        tokens: those trained after each step.
    """
    in_tokens = schedule.get("unit") == "tokens"
    return [
        SchedulePhase(
            name=phase["name"], tokens=phase["first"] if in_tokens else tokens.get(phase["first"], 0)
        )
        for phase in schedule.get("phases", ())
    ]


def gather_vocabulary(run: RunRecord) -> Vocabulary:
    """From the newest stage that reports its vocabulary; without one, the base's on both sides."""
    for stage in reversed(run.stages):
        if stage.kind == "vocabulary":
            nested = stage.metrics.get("vocabulary")
            return Vocabulary(**(nested if isinstance(nested, Mapping) else stage.metrics))
    size, ratio = run.tokenizer.size, run.tokenizer.bytes_per_token
    return Vocabulary(before=size, after=size, bytes_per_token_before=ratio, bytes_per_token_after=ratio)


def gather_documents(corpus: Mapping[str, Any] | None) -> dict[str, Documents]:
    """Documents in, kept and removed, by source."""
    return {source: Documents(**row) for source, row in (corpus or {}).get("sources", {}).items()}


def gather_merge(stages: Iterable[StageRecord]) -> Merge | None:
    """The last merge: its method, and which models went in with what weight."""
    merges = [stage for stage in stages if stage.kind == "merge"]
    if not merges:
        return None
    config = merges[-1].config
    models = [
        MergedModel(model=str(row.get("from", row.get("from_", "?"))), weight=row.get("weight"))
        for row in config.get("models") or []
    ]
    return Merge(stage=merges[-1].name, method=str(config.get("method", "?")), models=models)


def gather_versions(stages: Iterable[StageRecord]) -> dict[str, str]:
    """Versions by package; a package that changed between stages shows each version, oldest first."""
    seen: dict[str, list[str]] = {}
    for stage in stages:
        for package, version in stage.versions.items():
            if version not in seen.setdefault(package, []):
                seen[package].append(version)
    return {package: ", then ".join(seen[package]) for package in sorted(seen)}


def stage_fact(stage: StageRecord) -> StageFact:
    return StageFact(
        name=stage.name,
        kind=stage.kind,
        seconds=stage.seconds,
        made=stage.created,
        fingerprint=stage.fingerprint,
    )


def absent_parts(run: RunRecord) -> list[str]:
    """Kinds of stage that this run has none of."""
    kinds = {stage.kind for stage in run.stages}
    return [kind for kind in ("corpus", "vocabulary", "pretrain", "merge", "evaluate") if kind not in kinds]


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """The recipe as YAML, keys in their own order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(dict(recipe), stream)
    return stream.getvalue()
