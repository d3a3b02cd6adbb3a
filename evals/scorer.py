"""Score one task of the suites again and again under a model in memory: probes and merge searches do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cpt.errors import StageFailed

if TYPE_CHECKING:
    from cpt.models.packed_model import PackedLanguageModel
    from evals.registry import Entry


class TaskScorer(NamedTuple):
    """A task's items, ready to be scored under any state of a model.

    Attributes:
        items: Number of items.
        score: Function of a model and a number of items: scores (0 or 1) of the first so many items. Every
            beginning of their order is a fair sample.
        tokens: Number of tokens that go through the model for all items.
    """

    items: int
    score: Callable[[PackedLanguageModel, int], list[float]]
    tokens: int


def find_choice_task(name: str) -> Entry | None:
    """Return a task of the suites that is scored by likelihoods; None if there is none of that name."""
    from evals.registry import suites
    from evals.task_files import task_config, task_files

    for suite in suites().values():
        for entry in suite.tasks:
            if entry.task == name and entry.metric.partition(",")[0] in ("acc", "acc_norm"):
                config = task_config(name) if name in task_files() else {}
                kind = config.get("output_type", "multiple_choice")
                return entry if kind in ("multiple_choice", "loglikelihood") else None
    return None


def make_scorer(
    name: str, count: int, data: str | None, folder: Path, start_token: str | None, seed: int
) -> TaskScorer:
    """Load a task and tokenise it for a model, so that it can be scored at any time.

    Args:
        name: Task of the suites.
        count: Most items.
        data: Folder of the task's data; the hub if None.
        folder: Model folder, for its tokenizer.
        start_token: Token before every prompt.
        seed: Seed of the items' order.

    Raises:
        StageFailed: The task's data are not available.
    """
    import numpy as np

    from evals.harness import SEED, load_tasks, silence_lm_eval
    from evals.local_data import data_cache
    from evals.models.language_model import PackedLM
    from evals.models.prompting import Prompting
    from evals.preparation import prepare
    from evals.registry import Suite

    entry = find_choice_task(name)
    if entry is None:
        raise StageFailed(f"there is no task `{name}` with an accuracy")
    suite = Suite(name=name, about="", tasks=(entry.model_copy(update={"quick": count}),))
    prepared, left_out = prepare([(suite, "quick")], None if data is None else Path(data), data_cache())
    failures = {each.task: each.why for each in left_out}
    with silence_lm_eval():
        tasks = load_tasks(prepared, SEED, failures)
        if name not in tasks:
            raise StageFailed(
                f"the task {name} cannot be probed: {failures[name]}",
                hint="Name the folder of its data (`data` of the monitor or of the search, `--data` on the "
                "command line), or leave the task out.",
            )
        task = tasks[name]
        task.set_fewshot_seed(SEED)
        task.build_all_requests()
    by_item: dict[int, list[Any]] = {}
    for request in task.instances:
        by_item.setdefault(request.doc_id, []).append(request)
    order = np.random.default_rng(seed).permutation(sorted(by_item)).tolist()
    prompting = Prompting(folder, start_token)
    metric = entry.metric.partition(",")[0]

    def score(module: PackedLanguageModel, first: int) -> list[float]:
        lm = PackedLM(module, prompting.tokenizer, start_token=prompting.start, end_token=prompting.end)
        asked = [by_item[item] for item in order[:first]]
        answers = iter(lm.loglikelihood([request for each in asked for request in each]))
        scores = [task.process_results(each[0].doc, [next(answers) for _ in each]) for each in asked]
        return [float(found[metric]) for found in scores]

    tokens = sum(_tokens(requests, prompting.tokenizer) for requests in by_item.values())
    return TaskScorer(len(order), score, tokens)


def _tokens(requests: Sequence[Any], tokenizer: Any) -> int:
    """Count the tokens of an item's requests; a context that several share goes through the model once."""
    contexts = {context for context, _ in (request.args for request in requests)}
    texts = [*contexts, *(context + rest for context, rest in (request.args for request in requests))]
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    lengths = dict(zip(texts, map(len, encoded), strict=True))
    added = (lengths[context + rest] - lengths[context] for context, rest in (r.args for r in requests))
    return sum(lengths[context] for context in contexts) + sum(added)
