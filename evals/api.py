"""Evaluate a model, and compare two, in one call each: the interface for Python programs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from evals.registry import SEED

if TYPE_CHECKING:
    from cpt.progress import Progress
    from evals.comparing.comparison import Comparison
    from evals.comparing.verdicts import Correction
    from evals.models.backends import Backend, Precision
    from evals.results import Results


def evaluate(
    model: str | Path,
    suites: Sequence[str],
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    offline: bool = False,
    precision: Precision = "auto",
    start_token: str | None = "auto",
    chat: bool = False,
    backend: Backend = "hf",
    batch_tokens: int | None = None,
    seed: int = SEED,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Results:
    """Evaluate a model on suites, as `cpt eval run` does.

    The same items are taken for every model. Answers are kept in a cache, so that an interrupted evaluation
    continues and a repeated one is fast.

    Example:
        results = evals.evaluate("org/model", suites=["medical:quick"], data="benchmarks", out="runs/evals")
        print(results.averages["medical"].score)

    Args:
        model: Model folder, hub id, GGUF file, or file in a wheel.
        suites: Suites, `NAME` or `NAME:LEVEL` (smoke, quick, full), or files of suites of one's own.
        data: Folder with data sets as their authors publish them; what it lacks comes from the hub.
        out: Folder that receives the results, in a folder of the model's name; nothing is written if None.
        offline: Use of the hub only as far as it was used before.
        precision: Precision of the weights: auto, bf16 or fp32.
        start_token: Token before every text; "auto" for the tokenizer's own, None for no token.
        chat: Prompts in the model's chat template.
        backend: Library that computes: hf or vllm.
        batch_tokens: Number of tokens that go through the model at once.
        seed: Seed of the sample of items that a level takes, and of few-shot examples.
        cache: Folder of the answers; the package's own cache if None.
        progress: Receiver of messages and of the number of requests that are done.

    Returns:
        Scores with their standard errors, and the value of every item.

    Raises:
        UsageError: A suite or the data folder is wrong, or none of the tasks can run.
        ReferenceUnavailable: There is no such model.
        StageFailed: The model fails, or none of the tasks can be scored.
    """
    from evals import hub
    from evals.evaluation import evaluate_tasks, prepare_suites, require_scores
    from evals.models.request_cache import answer_cache
    from evals.result_folders import save_combined

    with hub.offline() if offline else nullcontext():
        prepared, left_out = prepare_suites(suites, None if data is None else Path(data), offline=offline)
        results = evaluate_tasks(
            model,
            prepared,
            left_out,
            cache=answer_cache() if cache is None else cache,
            precision=precision,
            start_token=start_token,
            chat=chat,
            backend=backend,
            batch_tokens=batch_tokens,
            seed=seed,
            on_progress=None
            if progress is None
            else lambda done, total: progress.update(done, total, "requests"),
            on_message=None if progress is None else progress.message,
        )
    require_scores(results)
    if out is not None:
        save_combined(results, Path(out))
    return results


def compare(
    a: Results | str | Path,
    b: Results | str | Path,
    *,
    results: str | Path = "runs/evals",
    confidence: float = 0.95,
    correction: Correction = "holm",
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations item by item, as `cpt eval compare` does.

    Example:
        comparison = evals.compare("org/base", "org/adapted", results="runs/evals")
        print([(task.task, task.difference, task.verdict) for task in comparison.tasks])

    Args:
        a: Results of the model before: an evaluation, its folder, or a model evaluated into `results`.
        b: Results of the model after.
        results: Folder that holds the results of evaluations.
        confidence: Level of the intervals; verdicts are at 1 - confidence.
        correction: Correction of p-values for the number of tests: holm, bh or none.
        seed: Seed of the resamples.

    Raises:
        UsageError: There are no such results, or they were made with different settings.
    """
    from evals.comparing import comparison
    from evals.result_folders import find_results

    first, second = (
        find_results(str(each), Path(results)) if isinstance(each, str | Path) else each for each in (a, b)
    )
    return comparison.compare(first, second, confidence=confidence, correction=correction, seed=seed)
