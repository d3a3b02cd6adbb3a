"""Gather the facts of a run from the records of its finished stages."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from cpt.report import summary_text
from cpt.report.curves import smoothed, thinned
from cpt.report.facts.monitoring import gather_texts, gather_watched
from cpt.report.facts.records import RunRecord, StageRecord
from cpt.report.schema import (
    Documents,
    DocumentSelection,
    EarlyEnd,
    Facts,
    FurtherComparison,
    HypernetworkTraining,
    Merge,
    MergeInput,
    MixtureUpdate,
    SchedulePhase,
    StageFact,
    StudyDocuments,
    Suites,
    Task,
    TrainedTokens,
    Training,
    TrainingStep,
    TrialPoint,
    Vectors,
    Vocabulary,
)

SMOOTHING_SPAN = 0.1
"""Span of the smoothed loss, as a share of all steps."""


def gather_training(run: RunRecord) -> Training | None:
    """Return the training curves, with the loss smoothed over a tenth of the steps."""
    if run.training is None:
        return None
    steps = sorted(run.training.steps, key=lambda row: int(row["step"]))
    losses = [row.get("loss_nats") for row in steps]
    smooth = smoothed(losses, span=SMOOTHING_SPAN * len(losses))
    rows = thinned(
        list(zip(steps, smooth, strict=True)),
        lambda row: row[0].get("loss_nats"),
        lambda row: row[0].get("lr"),
    )
    summary, last = run.training.summary, steps[-1] if steps else {"step": 0, "tokens": 0}
    return Training(
        stage=run.training.stage,
        trainings=sum(stage.kind == "pretrain" for stage in run.stages),
        steps=summary.get("steps", last["step"]),
        tokens=summary.get("tokens", last["tokens"]),
        tokens_per_second=summary.get("tokens_per_second"),
        points=[TrainingStep(**{**row, "smoothed": average}) for row, average in rows],
        ended=EarlyEnd(**summary["ended"]) if summary.get("ended") else None,
        phases=gather_phases(summary.get("schedule") or {}, steps),
        mixture=[MixtureUpdate(**row) for row in run.training.mixture],
    )


def gather_phases(schedule: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> list[SchedulePhase]:
    """Return the phases of the schedule with their first tokens."""
    in_tokens = schedule.get("unit") == "tokens"
    firsts = {phase["first"] for phase in schedule.get("phases", ())}
    tokens = {row["step"]: row["tokens"] for row in steps if row["step"] in firsts}
    return [
        SchedulePhase(
            name=phase["name"], tokens=phase["first"] if in_tokens else tokens.get(phase["first"], 0)
        )
        for phase in schedule.get("phases", ())
    ]


def gather(run: RunRecord) -> Facts:
    """Return all facts of a run. Parts without a record stay empty and are named in `absent`."""
    name = str(run.recipe.get("name", "run"))
    scores = run.scores or {}
    confidence = float(scores.get("confidence", 0.95))
    probes = gather_texts(run.training, scores.get("bits_per_byte") or {})
    ledger = (
        {source: TrainedTokens(**row) for source, row in run.training.ledger.items()} if run.training else {}
    )
    made = [stage for stage in run.stages if stage.kind != "base"]
    training, merge = gather_training(run), gather_merge(run.stages)
    watched = gather_watched(run.training, run.earlier, run.stages)
    return Facts(
        name=name,
        title=run.title or name,
        base=str(run.recipe.get("base", "")),
        verdict=summary_text.verdict(probes, watched.gates),
        basis=summary_text.basis(probes, confidence, merged=merge is not None),
        created=run.created,
        confidence=confidence,
        probes=probes,
        watched=watched,
        tokens={source: row.tokens for source, row in ledger.items()},
        tokens_per_second=training.tokens_per_second if training else None,
        seconds={stage.name: stage.seconds for stage in made},
        vocabulary=gather_vocabulary(run),
        hypernetwork=gather_hypernetwork(run.stages),
        tasks={task: Task(**row) for task, row in (scores.get("tasks") or {}).items()},
        recall={group: Task(**row) for group, row in (scores.get("recall") or {}).items()},
        suites=Suites(**scores["suites"]) if "suites" in scores else None,
        against={name: further_comparison(found) for name, found in (scores.get("against") or {}).items()},
        training=training,
        ledger=ledger,
        documents=gather_documents(run.corpus),
        selection=DocumentSelection(**found) if (found := corpus_metric(run.stages, "selection")) else None,
        study=StudyDocuments(**found) if (found := corpus_metric(run.stages, "study")) else None,
        merge=merge,
        stages=[stage_fact(stage) for stage in run.stages],
        absent=absent_parts(run),
        recipe=recipe_text(run.recipe),
        versions=gather_versions(run.stages),
        machine=dict(run.machine),
    )


def further_comparison(found: Mapping[str, Any]) -> FurtherComparison:
    """Read a comparison of the final model with a model beside the base."""
    return FurtherComparison(
        texts=found.get("bits_per_byte") or {},
        tasks=found.get("tasks") or {},
        recall=found.get("recall") or {},
        suites=found.get("suites"),
    )


def gather_vocabulary(run: RunRecord) -> Vocabulary:
    """Return the vocabulary of the newest stage that changed it; without one, the base's on both sides."""
    for stage in reversed(run.stages):
        nested = stage.metrics.get("vocabulary")
        if stage.kind == "vocabulary" or (stage.kind == "hypernetwork" and nested is not None):
            facts = nested if isinstance(nested, Mapping) else stage.metrics
            method = _initialisation(stage)
            return Vocabulary(**{**facts, "method": method, "seconds": stage.seconds if method else None})
    size, ratio = run.tokenizer.size, run.tokenizer.bytes_per_token
    return Vocabulary(before=size, after=size, bytes_per_token_before=ratio, bytes_per_token_after=ratio)


def _initialisation(stage: StageRecord) -> str | None:
    """Return the method that made the rows of a vocabulary stage's new tokens; None for other stages."""
    embeddings = stage.config.get("embeddings")
    return embeddings.get("method") if isinstance(embeddings, Mapping) else None


def gather_hypernetwork(stages: Iterable[StageRecord]) -> HypernetworkTraining | None:
    """Return the last training of a hypernetwork."""
    trained = [stage for stage in stages if stage.kind == "hypernetwork"]
    return HypernetworkTraining(stage=trained[-1].name, **trained[-1].metrics) if trained else None


def gather_documents(corpus: Mapping[str, Any] | None) -> dict[str, Documents]:
    """Return the numbers of documents in, kept and removed, by source."""
    return {
        source: Documents(**row | {"removed": _removed_documents(row.get("removed", {}))})
        for source, row in (corpus or {}).get("sources", {}).items()
    }


def corpus_metric(stages: Iterable[StageRecord], name: str) -> Mapping[str, Any] | None:
    """Return a metric of the last corpus, if it has it."""
    corpora = [stage for stage in stages if stage.kind == "corpus"]
    return corpora[-1].metrics.get(name) if corpora else None


def _removed_documents(removed: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return documents by reason, without blocks that only rewrite."""
    found = {reason: amount["documents"] for reason, amount in removed.items()}
    return {reason: count for reason, count in found.items() if count or not removed[reason]["bytes"]}


def gather_merge(stages: Iterable[StageRecord]) -> Merge | None:
    """Return the last merge: its method, its models and their weights."""
    merges = [stage for stage in stages if stage.kind == "merge"]
    if not merges:
        return None
    config, analysis = merges[-1].config, merges[-1].metrics.get("analysis")
    weights = merges[-1].metrics.get("weights") or {}
    models = [merge_input(row, weights) for row in config.get("models") or []]
    return Merge(
        stage=merges[-1].name,
        method=str(config.get("method", "?")),
        models=models,
        search=[TrialPoint(**point) for point in merges[-1].metrics.get("search_points") or ()],
        at_bounds=(merges[-1].metrics.get("search") or {}).get("at_bounds") or [],
        vectors=Vectors(**analysis) if analysis else None,
    )


def merge_input(row: Mapping[str, Any], weights: Mapping[str, Any]) -> MergeInput:
    """Return a model of a merge's configuration; weights by layer or tensor count as `varied`.

    Args:
        row: Entry of `models` in the merge's configuration.
        weights: Weights of the merge by model, such as those a search chose.
    """
    name = str(row.get("from", row.get("from_", "?")))
    weight = weights.get(name, row.get("weight"))
    if weight is None or isinstance(weight, int | float):
        return MergeInput(model=name, weight=weight)
    return MergeInput(model=name, varied=True)


def gather_versions(stages: Iterable[StageRecord]) -> dict[str, str]:
    """Return versions by package; a package that changed between stages has each version, oldest first."""
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
    """Return the kinds of stage that the run lacks."""
    kinds = {stage.kind for stage in run.stages}
    return [kind for kind in ("corpus", "vocabulary", "pretrain", "merge", "evaluate") if kind not in kinds]


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Return the recipe as YAML, keys in the recipe's order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(dict(recipe), stream)
    return stream.getvalue()
