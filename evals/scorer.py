"""Score one task of the suites again and again under a model in memory: probes and merge searches do."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cpt.errors import DataError, StageFailed
from cpt.halves import Half
from evals.halves import FEWEST, half_of_item

if TYPE_CHECKING:
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.monitor.probes.task import Answers, TaskProbe
    from cpt.monitor.reading import TaskMeasure
    from cpt.monitor.schedule import When
    from evals.preparation import PreparedTask
    from evals.registry import Entry, Level


class TaskScorer(NamedTuple):
    """A task's items, ready to be scored under any state of a model.

    Attributes:
        entry: The task.
        items: Number of items.
        score: Function of a model and a number of items: answers to the first so many items. Every beginning
            of their order is a fair sample.
        tokens: Number of tokens that go through the model for all items.
        weights: Weights of the items in p_gold, in the same order, with which every label counts the same;
            empty if the task is no choice by likelihood.
        data: Origin of the items, as of `PreparedTask`.
    """

    entry: Entry
    items: int
    score: Callable[[PackedLanguageModel, int], Answers]
    tokens: int
    weights: list[float]
    data: str

    def probe(self, when: When, measure: TaskMeasure = "accuracy") -> TaskProbe:
        """Return a probe that reads the task."""
        from cpt.monitor.probes.task import TaskProbe

        return TaskProbe(
            self.entry.task,
            self.items,
            self.score,
            when,
            self.tokens,
            measure,
            self.weights,
            self.entry.source,
            self.data,
        )


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


def has_p_gold(entry: Entry) -> bool:
    """Return True if a task is a choice by likelihood, as far as its file says (`evals.measures`)."""
    from evals.measures import MUTUAL_INFORMATION
    from evals.task_files import metrics, task_config, task_files

    if entry.metric.partition(",")[0] not in ("acc", "acc_norm") or entry.task not in task_files():
        return False
    try:
        config = task_config(entry.task)
    except DataError:
        return False
    chosen = config.get("output_type") == "multiple_choice" and "class" not in config
    return chosen and MUTUAL_INFORMATION not in metrics(config)


def make_scorer(
    task: str | Entry,
    count: int | None,
    data: str | None,
    folder: Path,
    start_token: str | None,
    seed: int,
    half: Half | None = None,
) -> TaskScorer:
    """Load a task and tokenise it for a model, so that it can be scored at any time.

    Args:
        task: Task of the suites, or its name.
        count: Most items; all if None.
        data: Folder of the task's data; the hub if None.
        folder: Model folder, for its tokenizer.
        start_token: Token before every prompt.
        seed: Seed of the items' order.
        half: Half of the items, of which the sample is taken (`evals.halves`); all items if None.

    Raises:
        StageFailed: The task's data are not available, or a half has too few items, or items of which no one
            choice is right.
    """
    import numpy as np

    from cpt.monitor.probes.task import Answers
    from evals.harness import SEED, load_tasks, silence_lm_eval
    from evals.measures import choices_of, label_weights
    from evals.models.language_model import PackedLM
    from evals.models.prompting import Prompting

    entry = find_choice_task(task) if isinstance(task, str) else task
    if entry is None:
        raise StageFailed(f"there is no task `{task}` with an accuracy")
    prepared, failures = _prepared(entry, count, data, half)
    with silence_lm_eval():
        loaded = load_tasks(prepared, SEED, failures)
        if entry.task not in loaded:
            raise StageFailed(
                f"the task {entry.task} cannot be probed: {failures[entry.task]}",
                hint="Name the folder of its data (`data` of the monitor or of the search, `--data` on the "
                "command line), or leave the task out.",
            )
        built = loaded[entry.task]
        built.set_fewshot_seed(SEED)
        built.build_all_requests()
    by_item: dict[int, list[Any]] = {}
    for request in built.instances:
        by_item.setdefault(request.doc_id, []).append(request)
    order = np.random.default_rng(seed).permutation(sorted(by_item)).tolist()
    blank = {item: _blank_sample(built, requests) for item, requests in by_item.items()}
    prompting = Prompting(folder, start_token)
    metric = entry.metric.partition(",")[0]

    def score(module: PackedLanguageModel, first: int) -> Answers:
        lm = PackedLM(module, prompting.tokenizer, start_token=prompting.start, end_token=prompting.end)
        asked = order[:first]
        found = iter(lm.loglikelihood([request for item in asked for request in by_item[item]]))
        samples = [{**blank[item], "filtered_resps": [next(found) for _ in by_item[item]]} for item in asked]
        scores = [built.process_results(each["doc"], each["filtered_resps"]) for each in samples]
        likelihoods = [choice.p_gold for choice in choices_of(built, samples)]
        return Answers([float(each[metric]) for each in scores], likelihoods)

    choices = choices_of(built, [blank[item] for item in order])
    weights = label_weights(choices).tolist() if choices else []
    if half is not None:
        _require_half(entry.task, len(order), weights)
    tokens = sum(_tokens(requests, prompting.tokenizer) for requests in by_item.values())
    return TaskScorer(entry, len(order), score, tokens, weights, prepared[0].data)


@functools.cache
def half_problems(entries: tuple[Entry, ...], data: Path) -> Mapping[str, str]:
    """Return the reason why a result cannot be chosen by half of a task's items, by task, from local data.

    Args:
        entries: Tasks.
        data: Folder of their data; tasks that it lacks have no reason.
    """
    from evals.harness import SEED, load_tasks, silence_lm_eval
    from evals.local_data import DataFolder
    from evals.preparation import source_of

    folder = DataFolder(data)
    prepared: list[PreparedTask] = []
    failures: dict[str, str] = {}
    for entry in entries:
        source = source_of(entry)
        if source is not None and folder.find(*source).complete:
            found, left_out = _prepared(entry, None, str(data), None)
            prepared += found
            failures |= left_out
    with silence_lm_eval():
        loaded = load_tasks(prepared, SEED, failures)
    reasons = {name: f"its items cannot be read: {why}" for name, why in failures.items()}
    for each in prepared:
        if (task := loaded.get(each.entry.task)) is not None:
            halves = Counter(half_of_item(item, each.entry.cluster) for item in task.eval_docs)
            counts = (halves["search"], halves["report"])
            if min(counts) < FEWEST:
                reasons[each.entry.task] = (
                    f"its halves have {counts[0]} and {counts[1]} items, of the {FEWEST} that each needs"
                )
    return reasons


def origin_of(entry: Entry, data: str | None) -> str:
    """Return the origin of a task's items, as of `PreparedTask`; empty if they are not available."""
    prepared, _ = _prepared(entry, None, data, None)
    return prepared[0].data if prepared else ""


def _prepared(
    entry: Entry, count: int | None, data: str | None, half: Half | None
) -> tuple[list[PreparedTask], dict[str, str]]:
    """Give a task its data; return it, or the reason why it cannot run."""
    from dataclasses import replace

    from evals.local_data import data_cache
    from evals.preparation import prepare
    from evals.registry import Suite

    suite = Suite(name=entry.task, about="", tasks=(entry.model_copy(update={"quick": count}),))
    level: Level = "full" if count is None else "quick"
    ready, left_out = prepare([(suite, level)], None if data is None else Path(data), data_cache())
    return [replace(each, half=half) for each in ready], {each.task: each.why for each in left_out}


def _require_half(name: str, items: int, weights: Sequence[float]) -> None:
    """Raise StageFailed for half of a task that nothing can be chosen by."""
    if not weights:
        raise StageFailed(f"{name}: no one choice is right in some of its items", hint="Leave the task out.")
    if items < FEWEST:
        raise StageFailed(
            f"{name}: {items} items are too few to choose by; {FEWEST} are needed",
            hint="Choose by tasks with more items.",
        )


def _blank_sample(task: Any, requests: Sequence[Any]) -> dict[str, Any]:
    """Return an item in the form of lm-eval's samples, with equally likely choices."""
    document = requests[0].doc
    return {
        "doc": document,
        "target": task.doc_to_target(document),
        "arguments": [request.args for request in requests],
        "filtered_resps": [(0.0, False) for _ in requests],
    }


def _tokens(requests: Sequence[Any], tokenizer: Any) -> int:
    """Count the tokens of an item's requests; a context that several share goes through the model once."""
    contexts = {context for context, _ in (request.args for request in requests)}
    texts = [*contexts, *(context + rest for context, rest in (request.args for request in requests))]
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    lengths = dict(zip(texts, map(len, encoded), strict=True))
    added = (lengths[context + rest] - lengths[context] for context, rest in (r.args for r in requests))
    return sum(lengths[context] for context in contexts) + sum(added)
