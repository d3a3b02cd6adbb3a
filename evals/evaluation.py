"""Evaluate a model: load it once, run all tasks of all suites through lm-eval, keep every answer."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from cpt.errors import StageFailed, UsageError
from cpt.progress import MessageProgress
from evals.harness import Failures, load_tasks, run_tasks, silence_lm_eval
from evals.local_data import data_cache
from evals.models.backends import Backend, Precision, check_backend, dtype_name, load
from evals.models.cached_model import CachedLM
from evals.models.prompting import AUTO_START, Prompting
from evals.models.request_cache import RequestCache, model_fingerprint
from evals.preparation import PreparedTask, prepare
from evals.registry import SEED, select
from evals.results import Items, LeftOut, Results, TaskScore, averages
from evals.task_scores import task_score

_LIBRARIES = ("cpt-workbench", "lm-eval", "torch", "transformers", "tokenizers")


def prepare_suites(
    suites: Sequence[str], data: Path | None, *, offline: bool = False
) -> tuple[list[PreparedTask], list[LeftOut]]:
    """Give the tasks of suites their data; refuse suites of which nothing can run.

    Args:
        suites: Suites as a user names them (`evals.registry.select`).
        data: Folder of the user's data sets.
        offline: Use of the hub only as far as it was used before.

    Returns:
        Tasks that can run, and tasks that cannot, with the reason.

    Raises:
        UsageError: No task can run, or the data folder holds none of the data.
    """
    prepared, left_out = prepare(select(suites), data, data_cache(), offline=offline)
    if not prepared:
        reasons = "\n".join(f"  {each.task}: {each.why}" for each in left_out)
        raise UsageError(
            f"none of the tasks can run\n{reasons}", hint="Name the folder of the data by --data."
        )
    local = [each.data != "hub" for each in prepared if each.entry.source is not None]
    if data is not None and local and not any(local):
        raise UsageError(
            f"{data} holds the data of none of the tasks",
            hint="cpt eval suites NAME --data DIR --offline says what is looked for; without --data it comes "
            "from the hub.",
        )
    return prepared, left_out


def evaluate_tasks(
    model: str | Path,
    prepared: Sequence[PreparedTask],
    left_out: Sequence[LeftOut] = (),
    *,
    cache: str | Path,
    precision: Precision = "auto",
    start_token: str | None = AUTO_START,
    chat: bool = False,
    backend: Backend = "hf",
    batch_tokens: int | None = None,
    seed: int = SEED,
    on_progress: Callable[[int, int], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Results:
    """Score a model on prepared tasks. A task whose data or scoring fails is left out, with the reason.

    Args:
        model: Model reference (see `cpt.references`), or a folder.
        prepared: Tasks with their data (`evals.preparation.prepare`).
        left_out: Tasks that cannot run, for the record.
        cache: Folder of known answers; the model is not even loaded if they suffice.
        precision: Precision of the weights: auto, bf16 or fp32.
        start_token: Token before every text; "auto" for the tokenizer's own, None for no token.
        chat: Prompts in the model's chat template.
        backend: Library that computes.
        batch_tokens: Number of tokens that go through the model at once.
        seed: Seed of the sample of items that a level takes, and of few-shot examples. The same items are
            taken for every model.
        on_progress: Function of the requests done and of all requests of a kind.
        on_message: Function of a line of text for people.

    Raises:
        UsageError: The backend, the start token or the chat template is missing, or two suites have a task of
            the same name.
        ReferenceUnavailable: There is no such model.
        StageFailed: The model cannot be loaded or fails; its answers so far are kept.
    """
    from cpt.references import resolve_model

    started = time.perf_counter()
    model, cache = str(model), Path(cache)
    say = on_message or _ignore_message
    _refuse_same_names(prepared)
    check_backend(backend, start_token)
    folder = resolve_model(model, MessageProgress(say))
    prompting = Prompting(folder, start_token, chat=chat, cache=cache)
    fingerprint = model_fingerprint(folder)
    settings: dict[str, str | int | bool | None] = {
        "precision": dtype_name(precision),
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
        dtype=dtype_name(precision),
        start_token=start_token,
        batch_tokens=batch_tokens,
        on_progress=on_progress,
        on_message=say,
    )
    with contextlib.closing(requests):
        lm = CachedLM(loading, requests, folder, prompting)
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


def require_scores(results: Results) -> None:
    """Raise StageFailed if none of an evaluation's tasks could be scored."""
    if not results.tasks:
        raise StageFailed(f"{results.model}: none of the tasks could be scored, for the reasons above")


def _ignore_message(text: str) -> None:
    pass


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
    """Return the scores of all tasks that can be scored, in order, and the others with the reason."""
    failures: Failures = {}
    scores: list[tuple[TaskScore, Items]] = []
    with silence_lm_eval():
        outputs = run_tasks(lm, load_tasks(prepared, seed, failures), seed, chat, failures)
        for each in prepared:
            name = each.entry.task
            if name not in outputs:
                continue
            try:
                scores.append(task_score(each, outputs[name], lm.truncated[name]))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                failures[name] = f"it cannot be scored: {error}"
    for name, why in failures.items():
        say(f"{name} is left out: {why}")
    left_out = [
        LeftOut(task=each.entry.task, suite=each.suite, why=failures[each.entry.task])
        for each in prepared
        if each.entry.task in failures
    ]
    return scores, left_out
