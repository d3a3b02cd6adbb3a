"""Evaluate a model: one load, all tasks of all suites through lm-eval, every answer kept for later."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpt.errors import CptError, StageFailed, UsageError
from evals.averages import averages
from evals.backends import Backend, check_backend, load
from evals.cached_model import CachedLM
from evals.fingerprint import model_fingerprint
from evals.prompting import OWN, Prompting
from evals.request_cache import RequestCache
from evals.results import Items, LeftOut, Results, TaskScore
from evals.task_scores import Scored, chosen_documents, task_score

if TYPE_CHECKING:
    from evals.preparation import Prepared

SEED = 1234
"""lm-eval's own default: few-shot examples are those of its command line."""

_LIBRARIES = ("cpt-workbench", "lm-eval", "torch", "transformers", "tokenizers")


def evaluate(
    model: str,
    prepared: Sequence[Prepared],
    left_out: Sequence[LeftOut] = (),
    *,
    cache: Path,
    precision: str = "auto",
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
        model: a reference (see `cpt.references`).
        prepared, left_out: what `evals.preparation.prepare` found.
        cache: folder of the answers that are known; the model is not even loaded if they suffice.
        precision: of the weights: auto, bf16 or fp32.
        start_token: precedes every text; "auto" for what the tokenizer itself puts there, None for nothing.
        chat: put prompts into the model's chat template.
        batch_tokens: tokens that go through the model at once.
        seed: of the items that a level takes, of few-shot examples, and of bootstrap errors. The same items
            are taken for every model.
        on_progress: called with the requests done and all requests of a kind.
        on_message: told what is going on.

    Raises:
        UsageError: the backend, the start token or the chat template is not there, or two suites have a task
            of the same name.
        ReferenceUnavailable: there is no such model.
        StageFailed: the model cannot be loaded or fails; what it answered before is kept.

    A task whose data or scoring fails is left out, with the reason.
    """
    from cpt.packed.model import resolve_precision
    from cpt.references import resolve_model

    started = time.perf_counter()
    say = on_message or _say_nothing
    _refuse_same_names(prepared)
    check_backend(backend, start_token)
    folder = resolve_model(model, _Messages(say))
    prompting = Prompting(folder, start_token, chat=chat)
    dtype = resolve_precision(precision)  # type: ignore[arg-type]
    fingerprint = model_fingerprint(folder)
    settings: dict[str, str | int | bool | None] = {
        "precision": str(dtype).removeprefix("torch."),
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
            "chat": prompting.full.chat_template if chat else None,
        },
        say,
    )
    loading = partial(
        load,
        backend,
        folder,
        prompting,
        dtype=dtype,
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


def _refuse_same_names(prepared: Sequence[Prepared]) -> None:
    names = [each.entry.task for each in prepared]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"{', '.join(twice)}: in more than one of the chosen suites",
            hint="Evaluate these suites one after the other, each into a folder of its own.",
        )


def _scores(
    lm: CachedLM,
    prepared: Sequence[Prepared],
    seed: int,
    chat: bool,
    on_message: Callable[[str], None],
) -> tuple[list[tuple[TaskScore, Items]], list[LeftOut]]:
    """Scores of all tasks that can be scored, in order, and why the others cannot."""
    failed: dict[str, str] = {}
    with _quiet():
        tasks = _loaded(prepared, seed, failed)
        outputs = _outputs(lm, tasks, seed, chat, failed)
        scores: list[tuple[TaskScore, Items]] = []
        for each in prepared:
            name = each.entry.task
            if name in outputs:
                try:
                    scores.append(task_score(each, outputs[name], lm.cut[name], seed))
                except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                    failed[name] = f"it cannot be scored: {error}"
    for name, why in failed.items():
        on_message(f"{name} is left out: {why}")
    left_out = [
        LeftOut(task=each.entry.task, suite=each.suite, why=failed[each.entry.task])
        for each in prepared
        if each.entry.task in failed
    ]
    return scores, left_out


def _loaded(prepared: Sequence[Prepared], seed: int, failed: dict[str, str]) -> dict[str, Any]:
    """lm-eval's tasks by name, each over the items of its level; `failed` receives why one does not load."""
    from lm_eval.tasks import TaskManager

    from evals.metrics import register

    register()
    manager = TaskManager(include_defaults=False)
    tasks: dict[str, Any] = {}
    for each in prepared:
        name = each.entry.task
        try:
            _seed_everything()
            [task] = manager.load([dict(each.config)])["tasks"].values()
            chosen_documents(task, each.entry.items(each.level), seed)
            tasks[name] = task
        except Exception as error:  # whatever a data set or a task's own code raises
            failed[name] = f"its data or its task file fails: {_told(error)}"
    return tasks


def _outputs(
    lm: CachedLM, tasks: Mapping[str, Any], seed: int, chat: bool, failed: dict[str, str]
) -> dict[str, Scored]:
    """What lm-eval makes of the tasks, all in one go: their requests share the model's batches.

    If a task fails, each is run by itself to find out which; no request is put to the model twice.
    """
    if not tasks:
        return {}
    try:
        return _run(lm, tasks, seed, chat)
    except (StageFailed, MemoryError):
        raise
    except Exception as error:
        if len(tasks) == 1:
            return _without(tasks, error, failed)
    outputs: dict[str, Scored] = {}
    for name, task in tasks.items():
        try:
            outputs |= _run(lm, {name: task}, seed, chat)
        except (StageFailed, MemoryError):
            raise
        except Exception as error:
            _without([name], error, failed)
    return outputs


def _without(names: Any, error: Exception, failed: dict[str, str]) -> dict[str, Scored]:
    for name in names:
        failed[name] = f"one of its items fails: {_told(error)}"
    return {}


def _told(error: Exception) -> str:
    return error.message if isinstance(error, CptError) else f"{type(error).__name__}: {error}"


def _run(lm: CachedLM, tasks: Mapping[str, Any], seed: int, chat: bool) -> dict[str, Scored]:
    from lm_eval.evaluator import evaluate as run

    _seed_everything()
    for name, task in tasks.items():
        task.set_fewshot_seed(seed)
        lm.cut[name] = 0
    output = run(
        lm,
        {"tasks": dict(tasks), "groups": {}},
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    return {
        name: Scored(task, output["results"][name], output["samples"][name]) for name, task in tasks.items()
    }


def _seed_everything() -> None:
    """As lm-eval's command line does, for tasks that shuffle choices."""
    random.seed(0)
    np.random.seed(SEED)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no notes of the libraries; what matters is said in the results."""
    import datasets
    import lm_eval.api.task as task_module

    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, task_module.tqdm
    shown = datasets.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.CRITICAL)
    task_module.tqdm = partial(bar, disable=True)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        task_module.tqdm = bar
        if shown:
            datasets.enable_progress_bars()
