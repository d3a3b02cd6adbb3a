"""Compare the final model with others on the same held-out text, tasks, suites and recall probe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.corpus.recall import read_recall
from cpt.corpus.texts import has_texts, heldout_texts, passages
from cpt.errors import CptError, Problem, StageFailed
from cpt.halves import Half
from cpt.references import resolve_file, resolve_model, unchanged
from cpt.stages.base import (
    BASE,
    Artifact,
    Context,
    Stage,
    StageConfig,
    UpstreamArtifact,
    WiringError,
    lineage,
    newest,
)
from cpt.stages.choosing import tasks_chosen_by
from cpt.stages.evaluate.config import ContinuationTask, EvaluateConfig, FileTask, names_stage
from cpt.stages.evaluate.measurement import (
    compare_measurements,
    document_figures,
    item_fingerprints,
    measure,
    prepare_material,
    start_token,
)
from cpt.stages.evaluate.suites import compare_suites, suite_metrics, suite_problems, suite_references

if TYPE_CHECKING:
    from evals.multiple_choice import Item

PROBES = ("domain", "general")
DOCUMENTS = "documents.json"
"""File beside scores.json with the model's loss on every document."""

ITEMS = "items.json"
"""File beside scores.json with a fingerprint of each task's items."""


class EvaluateStage(Stage[EvaluateConfig]):
    """Stage that measures all models on the same documents and items, one after the other."""

    kind: ClassVar[str] = "evaluate"
    contract: ClassVar[int] = 6  # 6: a passage of each of many documents is read, not whole ones
    Config: ClassVar[type[StageConfig]] = EvaluateConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("scores",)

    def wire(self, config: EvaluateConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return the roles `before` (the base), `after` (the newest model or `from`), `corpus`.

        Also `against:<place>` for each further stage that is compared, and `chosen:<place>` for each stage
        behind a compared model that chose its result on held-out text, or by half of the items of tasks: what
        it read is not read again.
        """
        after = newest(earlier, "model", config.from_)
        against = {
            role: _stage_with_model(name, after, earlier, role)
            for name, role in _further_roles(config).items()
            if names_stage(name)
        }
        lines = [lineage(name, earlier) for name in (after, *against.values())]
        searched = {stage.name for line in lines for stage in line if stage.chosen}
        chosen = [stage.name for stage in earlier if stage.name in searched]
        return {
            "before": BASE,
            "after": after,
            "corpus": newest(earlier, "corpus"),
            **against,
            **{f"chosen:{place}": name for place, name in enumerate(chosen)},
        }

    def references(self, config: EvaluateConfig) -> list[str]:
        """Return the users' item files and suites, the suites' data, and models that no stage makes."""
        files = [task.path for task in config.tasks if isinstance(task, FileTask)]
        return [*files, *suite_references(config.suites, config.data), *_model_references(config)]

    def check(self, config: EvaluateConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Return problems of items, suites and local models."""
        tasks = [
            problem
            for place, task in enumerate(config.tasks)
            if isinstance(task, FileTask)
            for problem in _file_problems(task, place)
        ]
        if config.data is not None and not config.suites:
            tasks.append(Problem("there are no suites to take data for", key="data", hint="Name `suites`."))
        models = [
            problem
            for place, name in enumerate(config.against)
            if not names_stage(name) and (problem := _model_problem(name, f"against.{place}")) is not None
        ]
        return [*tasks, *suite_problems(config.suites, config.data), *models]

    def heldout_problems(self, config: EvaluateConfig, corpus: Artifact, halved: bool) -> list[Problem]:
        """Return problems of a corpus that holds out too little for tasks to make an item of."""
        half: Half | None = "report" if halved else None
        folder = corpus.path("corpus")
        tasks = [
            problem
            for place, task in enumerate(config.tasks)
            if isinstance(task, ContinuationTask)
            for problem in _source_problems(task, place, folder, half)
        ]
        lost = [source for source in PROBES if half is not None and _is_used_up(folder, source, half)]
        return tasks + [
            Problem(
                f"all held-out {source} text is used to choose the merge weights",
                hint="Hold out more documents, or give the merge stage its weights.",
            )
            for source in lost
        ]

    def run(self, config: EvaluateConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Measure the base, the model and the other models, and compare the model with each of them."""
        corpus = inputs["corpus"].path("corpus")
        half: Half | None = "report" if _searched(inputs) else None
        if half is not None:
            context.progress.message(
                "merge weights were chosen on half of the held-out text: reading the other"
            )
        further = _further_roles(config)
        folder = context.output / "scores"
        folder.mkdir(parents=True)
        with unchanged(_model_references(config), context.contents):
            models = {role: inputs[role].path("model") for role in ("before", "after")}
            for name, role in further.items():
                made = role in inputs
                models[role] = inputs[role].path("model") if made else resolve_model(name, context.progress)
            material = prepare_material(
                _texts(corpus, half, list(models.values()), config.heldout_tokens, context.seed),
                {task.name: _items(task, corpus, half, context) for task in config.tasks},
                _recall_items(corpus),
                {role: start_token(corpus, model) for role, model in models.items()},
                models,
                config,
            )
            names = {"before": "the base", "after": "the model", **{r: n for n, r in further.items()}}
            measured = {}
            for role, model in models.items():
                context.progress.message(f"measuring {names[role]}")
                work = context.work / _folder_name(role)
                measured[role] = measure(role, model, material, work, context.progress)
            suites: dict[str, dict[str, Any]] = {}
            if config.suites:
                suites = compare_suites(
                    config.suites,
                    config.data,
                    models,
                    {role: folder / _folder_name(role) for role in models},
                    context.progress,
                    precision=config.precision,
                    confidence=config.confidence,
                    seed=context.seed,
                    chosen=tasks_chosen_by(inputs.values()),
                )
        after = measured.pop("after")
        found = {
            role: {
                **compare_measurements(before, after, material, config.confidence, context.seed),
                **({"suites": suites[role]} if suites else {}),
            }
            for role, before in measured.items()
        }
        scores: dict[str, Any] = {"confidence": config.confidence, **found["before"]}
        metrics = _metrics(found["before"])
        if half is not None:
            scores["heldout"] = metrics["heldout"] = "the half that merge weights were not chosen on"
        if further:
            scores["against"] = {name: found[role] for name, role in further.items()}
            metrics["against"] = {name: _metrics(found[role]) for name, role in further.items()}
        (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        (folder / DOCUMENTS).write_text(
            json.dumps(document_figures(after, material)) + "\n", encoding="utf-8"
        )
        (folder / ITEMS).write_text(json.dumps(item_fingerprints(material)) + "\n", encoding="utf-8")
        return metrics


def _further_roles(config: EvaluateConfig) -> dict[str, str]:
    """Return the role of every model that is compared beside the base, by its name or reference."""
    return {name: f"against:{place}" for place, name in enumerate(config.against) if place}


def _folder_name(role: str) -> str:
    return role.replace(":", "-")


def _model_references(config: EvaluateConfig) -> list[str]:
    return [name for name in config.against if not names_stage(name)]


def _stage_with_model(name: str, after: str, earlier: Sequence[UpstreamArtifact], role: str) -> str:
    """Return the name of an earlier stage that makes a model.

    Raises:
        WiringError: There is no such stage, it makes no model, or its model is the measured one.
    """
    key = role.replace(":", ".")
    holders = [stage.name for stage in earlier if "model" in stage.kinds]
    if name == after:
        raise WiringError(
            Problem(f"`{name}` makes the model that is evaluated", key=key, hint="Name another model.")
        )
    if name in holders:
        return name
    known = any(stage.name == name for stage in earlier)
    message = f"`{name}` makes no model" if known else f"there is no earlier stage called `{name}`"
    hint = f"Models are made by: {', '.join(holders)}. A folder of that name is written ./{name}."
    raise WiringError(Problem(message, key=key, hint=hint))


def _model_problem(reference: str, key: str) -> Problem | None:
    """Return the problem of a local folder that is not a whole model."""
    if not Path(reference).is_dir():
        return None
    try:
        resolve_model(reference)
    except CptError as error:
        return Problem(error.message, key=key, hint=error.hint)
    return None


def _searched(inputs: Mapping[str, Artifact]) -> bool:
    """Return True if merge weights behind a compared model were chosen on held-out text."""
    return any("search" in artifact.metrics for role, artifact in inputs.items() if role != "corpus")


def _file_problems(task: FileTask, place: int) -> list[Problem]:
    from evals.multiple_choice import item_problems

    found = item_problems(Path(task.path)) if Path(task.path).is_file() else []
    return [replace(problem, key=f"tasks.{place}.path") for problem in found]


def _source_problems(task: ContinuationTask, place: int, corpus: Path, half: Half | None) -> list[Problem]:
    from evals.multiple_choice import continuation_items

    source, key = task.continuation_of, f"tasks.{place}.continuation_of"
    if not has_texts(corpus, source, "heldout"):
        hint = "Give the corpus stage such text (and `heldout`, for the domain)."
        return [Problem(f"the corpus holds out no {source} text", key=key, hint=hint)]
    documents = list(heldout_texts(corpus, source, half))
    if continuation_items(documents, 1, seed=0):
        return []
    message = f"task {task.name}: the {len(documents):,} held-out documents of {source} make no item"
    more = "Hold out more documents (corpus.heldout)" if source == "domain" else f"Give more {source} text"
    hint = f"{more}, or leave the task out."
    return [Problem(message, key=key, hint=hint)]


def _is_used_up(corpus: Path, source: str, half: Half) -> bool:
    """Return True if a source has held-out text, but none in that half."""
    return has_texts(corpus, source, "heldout") and not len(heldout_texts(corpus, source, half))


def _texts(
    corpus: Path, half: Half | None, models: Sequence[Path], max_tokens: int, seed: int
) -> dict[str, list[str]]:
    """Return held-out documents of every probed source that the corpus has."""
    held_out = {source: heldout_texts(corpus, source, half) for source in PROBES}
    chosen = {
        source: passages(documents, models, max_tokens, seed)
        for source, documents in held_out.items()
        if len(documents)
    }
    if half is not None and (
        lost := [s for s in PROBES if has_texts(corpus, s, "heldout") and s not in chosen]
    ):
        raise StageFailed(
            f"all held-out {lost[0]} text was used to choose the merge weights",
            hint="Hold out more documents, or give the merge stage its weights.",
        )
    return chosen


def _items(
    task: ContinuationTask | FileTask, corpus: Path, half: Half | None, context: Context
) -> list[Item]:
    from evals.multiple_choice import continuation_items, read_items

    if isinstance(task, FileTask):
        with unchanged([task.path], context.contents):
            return read_items(resolve_file(task.path, context.progress), task.items)
    source = task.continuation_of
    documents = list(heldout_texts(corpus, source, half))
    items = continuation_items(documents, task.items, context.seed)
    if not items:
        raise StageFailed(
            f"task {task.name}: the {len(documents):,} held-out documents of {source} make no item",
            hint="Hold out more documents (corpus.heldout), or leave the task out.",
        )
    if len(items) < task.items:
        context.progress.message(f"task {task.name}: {len(items)} items, the held-out documents make no more")
    return items


def _recall_items(corpus: Path) -> dict[str, list[Item]]:
    """Return the items of the corpus's recall probe, by group of facts; empty without a probe."""
    from evals.multiple_choice import spaced_item

    return {
        group: [spaced_item(item.question, item.choices, item.answer) for item in items]
        for group, items in read_recall(corpus).items()
    }


def _metrics(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison's values without their intervals, for `artifact.json`."""
    kinds = ("bits_per_byte", "tasks", "recall")
    metrics: dict[str, Any] = {kind: _values(found[kind]) for kind in kinds if kind in found}
    if "suites" in found:
        metrics["suites"] = suite_metrics(found["suites"])
    return metrics


def _values(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the values of scores, and those of p_gold beside them."""
    keys = ("before", "after", "difference")
    return {
        name: {
            **{key: score[key]["value"] for key in keys},
            **({"p_gold": {key: score["p_gold"][key]["value"] for key in keys}} if "p_gold" in score else {}),
        }
        for name, score in scores.items()
    }


STAGE = EvaluateStage()
