"""Measure models on the same held-out documents and items, one after the other, and compare two of them."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.recall import recall_key
from cpt.corpus.texts import start_token_of
from cpt.errors import StageFailed
from cpt.progress import Progress
from cpt.stages.evaluate.config import EvaluateConfig, Precision

if TYPE_CHECKING:
    import numpy as np

    from cpt.models.bits_per_byte import TokenisedText
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.models.shared_windows import WindowBytes
    from evals.harness import ChoiceScores
    from evals.models.request_cache import RequestCache
    from evals.multiple_choice import Item

METRIC = "acc_norm"


@dataclass(frozen=True)
class Material:
    """Documents and items that all models are measured on.

    Attributes:
        texts: Documents by probe.
        tokenised: Documents of every probe in the model's tokens, by role. All models' windows hold the same
            bytes.
        windows: Amount of text in the windows, by probe.
        tasks: Items by task.
        recall: Items of the corpus's recall probe, by group of facts.
        start_tokens: Token before every document, by role: a new tokenizer may spell it otherwise.
        precision: Precision of the weights.
    """

    texts: Mapping[str, Sequence[str]]
    tokenised: Mapping[str, Mapping[str, TokenisedText]]
    windows: Mapping[str, WindowBytes]
    tasks: Mapping[str, Sequence[Item]]
    recall: Mapping[str, Sequence[Item]]
    start_tokens: Mapping[str, str | None]
    precision: Precision


@dataclass(frozen=True)
class Measurement:
    """One model's figures.

    Attributes:
        texts: Nats and bytes of every document, [documents] each, by probe.
        tasks: Scores of the items, by task.
        recall: Scores of the recall probe's items, by group.
    """

    texts: Mapping[str, tuple[np.ndarray, np.ndarray]]
    tasks: Mapping[str, ChoiceScores]
    recall: Mapping[str, ChoiceScores]


def start_token(corpus: Path, model: Path) -> str | None:
    """Return the token before every document: the corpus's, or the tokenizer's own where it has no such."""
    from cpt.corpus.document_tokenizer import special_token
    from cpt.models.tokenizer import load_tokenizer

    token = start_token_of(corpus, model)
    if token is None or load_tokenizer(model).token_to_id(token) is not None:
        return token
    return special_token(model, "auto", "bos")


def prepare_material(
    texts: Mapping[str, Sequence[str]],
    tasks: Mapping[str, Sequence[Item]],
    recall: Mapping[str, Sequence[Item]],
    start_tokens: Mapping[str, str | None],
    models: Mapping[str, Path],
    config: EvaluateConfig,
) -> Material:
    """Cut the documents into windows of the same bytes for all models; drop documents that cannot be scored.

    Args:
        texts: Documents by probe.
        tasks: Items by task.
        recall: Items of the recall probe, by group.
        start_tokens: Token before every document, by role.
        models: Model folders by role.
        config: Settings of the stage.
    """
    from cpt.models.shared_windows import Reader, joined, shared_documents
    from cpt.models.tokenizer import load_tokenizer
    from cpt.stages.corpus.checks import window_for

    readers = [
        Reader.of(load_tokenizer(folder), window_for(folder, config.window), start_tokens[role])
        for role, folder in models.items()
    ]
    scored: dict[str, list[str]] = {}
    tokenised: dict[str, dict[str, TokenisedText]] = {role: {} for role in models}
    windows: dict[str, WindowBytes] = {}
    for probe, documents in texts.items():
        cut = list(shared_documents(readers, documents))
        if not any(document.size for document in cut):
            raise StageFailed(f"no held-out {probe} text can be scored", hint="Hold out other documents.")
        scored[probe] = [text for text, document in zip(documents, cut, strict=True) if document.size]
        shared = joined([document for document in cut if document.size])
        windows[probe] = shared.bytes
        for role, text in zip(models, shared.texts, strict=True):
            tokenised[role][probe] = text
    return Material(scored, tokenised, windows, tasks, recall, start_tokens, config.precision)


def measure(role: str, folder: Path, material: Material, work: Path, progress: Progress) -> Measurement:
    """Load one model, measure it, and free its memory."""
    try:
        return _measure(role, folder, material, work, progress)
    finally:
        gc.collect()


def _measure(role: str, folder: Path, material: Material, work: Path, progress: Progress) -> Measurement:
    """Measure one model, loaded where the cache lacks anything: the base of many runs is measured once."""
    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
    from cpt.models.tokenizer import load_tokenizer
    from evals.harness import score_choices
    from evals.models.cached_model import CachedLM
    from evals.models.language_model import PackedLM
    from evals.models.request_cache import RequestCache, answer_cache, model_fingerprint

    precision, start = resolve_precision(material.precision), material.start_tokens[role]

    @cache
    def model() -> PackedLanguageModel:
        return PackedLanguageModel(load_model(folder, precision).to(best_device()))

    def packed() -> PackedLM:
        def show(done: int, total: int) -> None:
            progress.update(done, total, "choices")

        return PackedLM(model(), load_tokenizer(folder), start_token=start, on_progress=show)

    identity = {"model": model_fingerprint(folder), "precision": str(precision), "start": start}
    with contextlib.closing(RequestCache(answer_cache(), identity, progress.message)) as answers:
        texts = {
            probe: (_nats(model, text, answers), text.bytes)
            for probe, text in material.tokenised[role].items()
        }
        lm = CachedLM(packed, answers, folder)
        tasks = score_choices(lm, material.tasks, work)
        recall = score_choices(lm, material.recall, work / "recall")
    return Measurement(texts, tasks, recall)


def _nats(model: Callable[[], PackedLanguageModel], text: TokenisedText, answers: RequestCache) -> np.ndarray:
    """Return the nats of every document, [documents], from the cache or by the model."""
    import numpy as np

    from cpt.models.bits_per_byte import score
    from evals.models.request_cache import Answer, request_key

    lengths = [len(window) for window in text.windows]
    content = [lengths, *text.windows, text.context, text.document]
    digest = sha256(b"\0".join(np.asarray(each, np.int64).tobytes() for each in content)).hexdigest()
    key = request_key("windows", [digest, len(text.bytes)])
    if (known := answers.find([key])) and np.isfinite(known[key].value).all():
        return np.array(known[key].value)
    nats = score(model(), text).nats
    answers.keep(key, Answer(nats.tolist()))
    return nats


def compare_measurements(
    before: Measurement, after: Measurement, material: Material, confidence: float, seed: int
) -> dict[str, dict[str, Any]]:
    """Compare two models, as scores.json holds it.

    Returns:
        `bits_per_byte` by probe, `tasks` by name; `recall` by group, where the corpus has a recall probe.
    """
    from evals.comparing.statistics import compare_bits_per_byte

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
        name: _compare_choices(items, before.tasks[name], after.tasks[name], confidence)
        for name, items in material.tasks.items()
    }
    recall = {
        group: _compare_choices(items, before.recall[group], after.recall[group], confidence)
        for group, items in material.recall.items()
    }
    return {"bits_per_byte": probes, "tasks": tasks, **({"recall": recall} if recall else {})}


def _compare_choices(
    items: Sequence[Item], before: ChoiceScores, after: ChoiceScores, confidence: float
) -> dict[str, Any]:
    """Compare the answers of two models by the share of right ones and by p_gold."""
    from evals.comparing.statistics import compare_accuracy, compare_means
    from evals.measures import P_GOLD
    from evals.multiple_choice import chance

    return {
        "metric": METRIC,
        "items": len(items),
        "chance": chance(items),
        **asdict(compare_accuracy(getattr(before, METRIC), getattr(after, METRIC), confidence=confidence)),
        P_GOLD: asdict(compare_means(before.p_gold, after.p_gold, confidence=confidence)),
    }


def document_figures(after: Measurement, material: Material) -> dict[str, dict[str, list[Any]]]:
    """Return the model's nats on every document, for paired comparisons of runs with the same documents.

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


def item_fingerprints(material: Material) -> dict[str, str]:
    """Return the SHA-256 of each task's and recall group's items, which tells runs with other items apart."""
    recall = {recall_key(group): items for group, items in material.recall.items()}
    return {
        name: sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest()
        for name, items in {**material.tasks, **recall}.items()
    }
