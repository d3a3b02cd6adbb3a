"""The evaluate stage: the base and the final model on the same held-out text, tasks and suites."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.corpus.texts import Half, has_texts, heldout_texts, start_token_of, whole_documents
from cpt.errors import Problem, StageFailed
from cpt.stages.base import (
    BASE,
    Artifact,
    Context,
    Progress,
    Stage,
    StageConfig,
    UpstreamArtifact,
    lineage,
    newest,
)
from cpt.stages.evaluate.config import ContinuationTask, EvaluateConfig, FileTask, Precision
from cpt.stages.evaluate.suites import compare_suites, suite_metrics, suite_problems, suite_references

if TYPE_CHECKING:
    import numpy as np

    from cpt.models.bits_per_byte import TokenisedText
    from cpt.models.shared_windows import WindowBytes
    from evals.harness import ItemScores
    from evals.multiple_choice import Item

PROBES = ("domain", "general")
DOCUMENTS = "documents.json"
"""File beside scores.json with the model's loss on every document."""

ITEMS = "items.json"
"""File beside scores.json with a fingerprint of each task's items."""

METRIC = "acc_norm"


@dataclass(frozen=True)
class _Material:
    """What both models are measured on: documents per probe, items per task.

    Attributes:
        tokenised: the documents in the tokens of the base and of the model, in windows of the same bytes.
        windows: how much text these hold.
        start_tokens: that precede every document, by model: a new tokenizer may spell it otherwise.
    """

    texts: Mapping[str, Sequence[str]]
    tokenised: tuple[dict[str, TokenisedText], dict[str, TokenisedText]]
    windows: Mapping[str, WindowBytes]
    tasks: Mapping[str, Sequence[Item]]
    start_tokens: Mapping[Path, str | None]
    precision: Precision


@dataclass(frozen=True)
class _Measured:
    """What one model makes of it: (nats, bytes) of every document per probe, item scores per task."""

    texts: Mapping[str, tuple[np.ndarray, np.ndarray]]
    tasks: Mapping[str, ItemScores]


class EvaluateStage(Stage[EvaluateConfig]):
    """Measures both models on the same documents and items, one after the other."""

    kind: ClassVar[str] = "evaluate"
    contract: ClassVar[int] = 2
    Config: ClassVar[type[StageConfig]] = EvaluateConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("scores",)

    def wire(self, config: EvaluateConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Roles `before` (the base), `after` (the newest model or `from`), `corpus`.

        Also `chosen:<place>` for each searched merge that went into `after`: what it read is not read again.
        """
        after = newest(earlier, "model", config.from_)
        chosen = [stage.name for stage in lineage(after, earlier) if stage.chosen]
        return {
            "before": BASE,
            "after": after,
            "corpus": newest(earlier, "corpus"),
            **{f"chosen:{place}": name for place, name in enumerate(chosen)},
        }

    def references(self, config: EvaluateConfig) -> list[str]:
        """The users' item files and suites, and the suites' data."""
        files = [task.path for task in config.tasks if isinstance(task, FileTask)]
        return [*files, *suite_references(config.suites, config.data)]

    def check(self, config: EvaluateConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Items and suites must be right."""
        tasks = [
            problem
            for place, task in enumerate(config.tasks)
            if isinstance(task, FileTask)
            for problem in _file_problems(task, place)
        ]
        if config.data is not None and not config.suites:
            tasks.append(Problem("there are no suites to take data for", key="data", hint="Name `suites`."))
        return [*tasks, *suite_problems(config.suites, config.data)]

    def heldout_problems(self, config: EvaluateConfig, corpus: Artifact, halved: bool) -> list[Problem]:
        """The corpus must hold out what tasks continue, and enough of it to make an item."""
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
        """Measure the base, then the model, and compare."""
        corpus = inputs["corpus"].path("corpus")
        before, after = (inputs[role].path("model") for role in ("before", "after"))
        half: Half | None = "report" if _searched(inputs) else None
        if half is not None:
            context.progress.message(
                "merge weights were chosen on half of the held-out text: reading the other"
            )
        material = _material(
            _texts(corpus, half, (before, after), config.heldout_tokens, context.seed),
            {task.name: _items(task, corpus, half, context) for task in config.tasks},
            {model: start_token_of(corpus, model) for model in (before, after)},
            (before, after),
            config,
        )
        context.progress.message("measuring the base")
        first = _measure(before, material.tokenised[0], material, context.work / "before", context.progress)
        context.progress.message("measuring the model")
        second = _measure(after, material.tokenised[1], material, context.work / "after", context.progress)
        scores = _compare(first, second, material, config.confidence, context.seed)
        folder = context.output / "scores"
        folder.mkdir(parents=True)
        metrics: dict[str, Any] = {
            "bits_per_byte": _values(scores["bits_per_byte"]),
            "tasks": _values(scores["tasks"]),
        }
        if half is not None:
            scores["heldout"] = metrics["heldout"] = "the half that merge weights were not chosen on"
        if config.suites:
            scores["suites"] = compare_suites(
                config.suites,
                config.data,
                {"before": before, "after": after},
                folder,
                context.progress,
                precision=config.precision,
                confidence=config.confidence,
                seed=context.seed,
            )
            metrics["suites"] = suite_metrics(scores["suites"])
        (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        (folder / DOCUMENTS).write_text(json.dumps(_documents(second, material)) + "\n", encoding="utf-8")
        (folder / ITEMS).write_text(json.dumps(_fingerprints(material.tasks)) + "\n", encoding="utf-8")
        return metrics


def _searched(inputs: Mapping[str, Artifact]) -> bool:
    """Whether the model, or one that it was made of, has merge weights that were chosen on held-out text."""
    return any("search" in inputs[role].metrics for role in inputs.keys() - {"before", "corpus"})


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
    documents = heldout_texts(corpus, source, half)
    if continuation_items(documents, 1, seed=0):
        return []
    message = f"task {task.name}: the {len(documents):,} held-out documents of {source} make no item"
    more = "Hold out more documents (corpus.heldout)" if source == "domain" else f"Give more {source} text"
    hint = f"{more}, or leave the task out."
    return [Problem(message, key=key, hint=hint)]


def _is_used_up(corpus: Path, source: str, half: Half) -> bool:
    """Return whether a source has held-out text, but none in that half."""
    return has_texts(corpus, source, "heldout") and not heldout_texts(corpus, source, half)


def _texts(
    corpus: Path, half: Half | None, models: Sequence[Path], max_tokens: int, seed: int
) -> dict[str, list[str]]:
    """Held-out documents of every probed source that the corpus has."""
    held_out = {source: heldout_texts(corpus, source, half) for source in PROBES}
    chosen = {
        source: whole_documents(documents, models, max_tokens, seed)
        for source, documents in held_out.items()
        if documents
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
    from cpt.references import resolve_file, unchanged
    from evals.multiple_choice import continuation_items, read_items

    if isinstance(task, FileTask):
        with unchanged([task.path], context.contents):
            return read_items(resolve_file(task.path, context.progress), task.items)
    source = task.continuation_of
    documents = heldout_texts(corpus, source, half)
    items = continuation_items(documents, task.items, context.seed)
    if not items:
        raise StageFailed(
            f"task {task.name}: the {len(documents):,} held-out documents of {source} make no item",
            hint="Hold out more documents (corpus.heldout), or leave the task out.",
        )
    if len(items) < task.items:
        context.progress.message(f"task {task.name}: {len(items)} items, the held-out documents make no more")
    return items


def _material(
    texts: Mapping[str, Sequence[str]],
    tasks: Mapping[str, Sequence[Item]],
    start_tokens: Mapping[Path, str | None],
    models: tuple[Path, Path],
    config: EvaluateConfig,
) -> _Material:
    """Cut the documents into windows of the same bytes for both models; leave out what neither can score."""
    from cpt.models.shared_windows import Reader, joined, shared_documents
    from cpt.models.tokenizer import load_tokenizer
    from cpt.stages.corpus.checks import window_for

    readers = [
        Reader.of(
            load_tokenizer(folder),
            window_for(folder, config.window),
            start_tokens[folder],
        )
        for folder in models
    ]
    scored: dict[str, list[str]] = {}
    tokenised: tuple[dict[str, TokenisedText], dict[str, TokenisedText]] = ({}, {})
    windows: dict[str, WindowBytes] = {}
    for probe, documents in texts.items():
        cut = list(shared_documents(readers, documents))
        if not any(document.size for document in cut):
            raise StageFailed(f"no held-out {probe} text can be scored", hint="Hold out other documents.")
        scored[probe] = [text for text, document in zip(documents, cut, strict=True) if document.size]
        shared = joined([document for document in cut if document.size])
        windows[probe] = shared.bytes
        for of_model, text in zip(tokenised, shared.texts, strict=True):
            of_model[probe] = text
    return _Material(scored, tokenised, windows, tasks, start_tokens, config.precision)


def _measure(
    folder: Path, texts: Mapping[str, TokenisedText], material: _Material, work: Path, progress: Progress
) -> _Measured:
    """Load one model, measure it, and let it go.

    Args:
        texts: in the model's tokens.
    """
    from cpt.models.bits_per_byte import score
    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
    from cpt.models.tokenizer import load_tokenizer
    from evals.harness import score_choices
    from evals.models.language_model import PackedLM

    loaded = load_model(folder, resolve_precision(material.precision))
    model = PackedLanguageModel(loaded.to(best_device()))
    tokenizer = load_tokenizer(folder)
    scores = {probe: score(model, text) for probe, text in texts.items()}
    lm = PackedLM(
        model,
        tokenizer,
        start_token=material.start_tokens[folder],
        on_progress=lambda done, total: progress.update(done, total, "choices"),
    )
    tasks = score_choices(lm, material.tasks, work)
    del loaded, model, lm
    gc.collect()
    return _Measured({probe: (each.nats, each.bytes) for probe, each in scores.items()}, tasks)


def _compare(
    before: _Measured, after: _Measured, material: _Material, confidence: float, seed: int
) -> dict[str, Any]:
    """The content of scores.json."""
    from evals.comparing.statistics import compare_accuracy, compare_bits_per_byte
    from evals.multiple_choice import chance

    probes = {
        probe: {
            **asdict(
                compare_bits_per_byte(
                    before.texts[probe], after.texts[probe], confidence=confidence, seed=seed
                )
            ),
            "documents": len(documents),
            "bytes": sum(len(document.encode()) for document in documents),
            "windows": material.windows[probe].as_json(),
        }
        for probe, documents in material.texts.items()
    }
    tasks = {
        name: {
            "metric": METRIC,
            "items": len(items),
            "chance": chance(items),
            **asdict(
                compare_accuracy(
                    getattr(before.tasks[name], METRIC),
                    getattr(after.tasks[name], METRIC),
                    confidence=confidence,
                )
            ),
        }
        for name, items in material.tasks.items()
    }
    return {"confidence": confidence, "bits_per_byte": probes, "tasks": tasks}


def _documents(after: _Measured, material: _Material) -> dict[str, dict[str, list[Any]]]:
    """The model's nats on every document, so that runs that read the same ones can be compared in pairs.

    Returns:
        By probe: `texts` (SHA-256 of each document), `nats` and `bytes`, [documents] each.
    """
    return {
        probe: {
            "texts": [sha256(document.encode()).hexdigest() for document in documents],
            "nats": after.texts[probe][0].tolist(),
            "bytes": after.texts[probe][1].tolist(),
        }
        for probe, documents in material.texts.items()
    }


def _fingerprints(tasks: Mapping[str, Sequence[Item]]) -> dict[str, str]:
    """SHA-256 of each task's items, so that runs which answered other ones can be told apart."""
    return {
        name: sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest()
        for name, items in tasks.items()
    }


def _values(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Values without their intervals."""
    keys = ("before", "after", "difference")
    return {name: {key: score[key]["value"] for key in keys} for name, score in scores.items()}


STAGE = EvaluateStage()
