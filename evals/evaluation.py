"""Evaluate a model: one load, all tasks of all suites through lm-eval, every answer kept for later."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.errors import UsageError
from evals.harness import SEED, Failures, load_tasks, silence_lm_eval, run_tasks
from evals.models.backends import Backend, Precision, check_backend, load, numbers
from evals.models.cached_model import CachedLM
from evals.models.prompting import OWN, Prompting
from evals.models.request_cache import RequestCache, model_fingerprint
from evals.results import Items, LeftOut, Results, TaskScore, averages
from evals.task_scores import task_score

if TYPE_CHECKING:
    from evals.preparation import PreparedTask

_LIBRARIES = ("cpt-workbench", "lm-eval", "torch", "transformers", "tokenizers")


def evaluate(
    model: str | Path,
    prepared: Sequence[PreparedTask],
    left_out: Sequence[LeftOut] = (),
    *,
    cache: str | Path,
    precision: Precision = "auto",
    start_token: str | None = OWN,
    chat: bool = False,
    backend: Backend = "hf",
    batch_tokens: int | None = None,
    seed: int = SEED,
    on_progress: Callable[[int, int], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Results:
    """Score a model on prepared tasks.

    Args:
        model: a reference (see `cpt.references`), or a folder.
        prepared, left_out: what `evals.preparation.prepare` found.
        cache: folder of the answers that are known; the model is not even loaded if they suffice.
        precision: of the weights: auto, bf16 or fp32.
        start_token: precedes every text; "auto" for what the tokenizer itself puts there, None for nothing.
        chat: put prompts into the model's chat template.
        batch_tokens: tokens that go through the model at once.
        seed: of the items that a level takes, and of few-shot examples. The same items are taken for every
            model.
        on_progress: called with the requests done and all requests of a kind.
        on_message: told what is going on.

    Raises:
        UsageError: the backend, the start token or the chat template is not there, or two suites have a task
            of the same name.
        ReferenceUnavailable: there is no such model.
        StageFailed: the model cannot be loaded or fails; what it answered before is kept.

    A task whose data or scoring fails is left out, with the reason.
    """
    from cpt.references import resolve_model

    started = time.perf_counter()
    model, cache = str(model), Path(cache)
    say = on_message or _say_nothing
    _refuse_same_names(prepared)
    check_backend(backend, start_token)
    folder = resolve_model(model, _Messages(say))
    prompting = Prompting(folder, start_token, chat=chat, memory=cache)
    fingerprint = model_fingerprint(folder)
    settings: dict[str, str | int | bool | None] = {
        "precision": numbers(precision),
        "start_token": start_token,
        "chat": chat,
        "backend": backend,
        "seed": seed,
    }
    requests = RequestCache(
        cache,
        {
            "model": fingerprint,
            "precision": settings["precision"],
            "backend": backend,
            "start": [*prompting.start.tokens, prompting.start.empty],
            "end": prompting.end,
            "chat": prompting.full.chat_template if chat else None,
        },
        say,
    )
    loading = partial(
        load,
        backend,
        folder,
        prompting,
        dtype=numbers(precision),
        start_token=start_token,
        batch_tokens=batch_tokens,
        on_progress=on_progress,
        on_message=say,
    )
    with contextlib.closing(requests):
        lm = CachedLM(loading, requests, prompting)
        scored, failed = _scores(lm, prepared, seed, chat, say)
    if lm.answered:
        say(f"{lm.answered:,} of {lm.asked:,} requests were answered before")
    del lm
    gc.collect()
    tasks = tuple(score for score, _ in scored)
    return Results(
        model=model,
        fingerprint=fingerprint,
        suites={each.suite: each.level for each in prepared},
        settings=settings,
        versions={name: version(name) for name in _LIBRARIES},
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        tasks=tasks,
        left_out=(*left_out, *failed),
        averages=averages(tasks),
        items={score.task: items for score, items in scored},
    )


def _say_nothing(text: str) -> None:
    pass


class _Messages:
    """A function as what `cpt.references` tells its progress to."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.message = say


def _refuse_same_names(prepared: Sequence[PreparedTask]) -> None:
    names = [each.entry.task for each in prepared]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"{', '.join(twice)}: in more than one of the chosen suites",
            hint="Evaluate these suites one after the other, each into a folder of its own.",
        )


def _scores(
    lm: CachedLM,
    prepared: Sequence[PreparedTask],
    seed: int,
    chat: bool,
    say: Callable[[str], None],
) -> tuple[list[tuple[TaskScore, Items]], list[LeftOut]]:
    """Scores of all tasks that can be scored, in order, and why the others cannot."""
    failed: Failures = {}
    scores: list[tuple[TaskScore, Items]] = []
    with silence_lm_eval():
        outputs = run_tasks(lm, load_tasks(prepared, seed, failed), seed, chat, failed)
        for each in prepared:
            name = each.entry.task
            if name not in outputs:
                continue
            try:
                scores.append(task_score(each, outputs[name], lm.truncated[name]))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                failed[name] = f"it cannot be scored: {error}"
    for name, why in failed.items():
        say(f"{name} is left out: {why}")
    left_out = [
        LeftOut(task=each.entry.task, suite=each.suite, why=failed[each.entry.task])
        for each in prepared
        if each.entry.task in failed
    ]
    return scores, left_out
