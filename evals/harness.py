"""Drive lm-eval: load tasks over the items of their level, run them together, silent and seeded.

lm-eval is called in one place, `_run`. `run_tasks` scores the tasks of suites, `score_choices` scores
multiple-choice items that were made or read here, `item_texts` reads items without a model.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ruamel.yaml import YAML

from cpt.errors import CptError, DataError, ModelError, StageFailed
from evals import hub
from evals.halves import take_half
from evals.measures import P_GOLD, measure
from evals.models.cached_model import CachedLM
from evals.multiple_choice import Item, write_items
from evals.registry import SEED
from evals.task_files import aggregation_name
from evals.task_scores import TaskOutput, is_unsupported_aggregation, item_ids, limit_items

if TYPE_CHECKING:
    from evals.preparation import PreparedTask

CHOICE_TEMPLATE = Path(__file__).parent / "tasks" / "multiple_choice.yaml"

Failures = dict[str, str]
"""Reason why a task cannot be scored, by task."""


_INSTEAD = "local files can be read instead (`data`, --data DIR)"


def load_tasks(prepared: Sequence[PreparedTask], seed: int, failures: Failures) -> dict[str, Any]:
    """Load lm-eval's tasks by name, each over the items of its level.

    Once the hub cannot be reached it is not asked again: every attempt takes half a minute.

    Args:
        prepared: Tasks with their data.
        seed: Seed of the sample of items that a level takes, of their half where they have one.
        failures: Receives the reason for every task that does not load.
    """
    from lm_eval.tasks import TaskManager

    from evals.metrics import register

    register()
    manager = TaskManager(include_defaults=False)
    tasks: dict[str, Any] = {}
    with contextlib.ExitStack() as unreached:
        for each in prepared:
            name = each.entry.task
            try:
                _seed_everything()
                [task] = manager.load([hub.with_local_copies(each.config)])["tasks"].values()
                _refuse_metric(task, each.entry.metric.partition(",")[0], by_code="class" in each.config)
                if each.half is not None:
                    take_half(task, each.half, each.entry.cluster)
                limit_items(task, each.entry.items(each.level), seed)
                tasks[name] = task
            except ConnectionError:
                failures[name] = (
                    f"the hub, which has its data ({hub.data_origin(each.config)}), cannot be reached; "
                    f"{_INSTEAD}"
                )
                unreached.enter_context(hub.offline())
            except Exception as error:  # a data set or a task's own code may raise anything
                failures[name] = (
                    f"{hub.loading_script_message(each.config)}; {_INSTEAD}"
                    if hub.is_loading_script_error(error)
                    else f"its data or its task file fails: {_message(error)}"
                )
    return tasks


def _refuse_metric(task: Any, metric: str, *, by_code: bool) -> None:
    """Raise DataError for a metric without a score or an error, before the model answers anything.

    Args:
        by_code: True for a task that is a class, whose metrics no file names.
    """
    aggregations = task.aggregation()
    if by_code and metric not in aggregations:
        raise DataError(f"it has no metric `{metric}`; it has {', '.join(aggregations)}")
    aggregation = aggregation_name(aggregations.get(metric))
    if is_unsupported_aggregation(aggregation):
        raise DataError(
            f"its metric `{metric}` is aggregated by `{aggregation}`, of which no error can be computed"
        )


def run_tasks(
    lm: CachedLM, tasks: Mapping[str, Any], seed: int, chat: bool, failures: Failures
) -> dict[str, TaskOutput]:
    """Run tasks together, so that their requests share the model's batches.

    If a task fails, each is run by itself to find out which. No request is put to the model twice.

    Raises:
        StageFailed: The model fails.
        ModelError: The model or its chat template is damaged.
    """
    if not tasks:
        return {}
    try:
        for name, task in tasks.items():
            task.set_fewshot_seed(seed)
            lm.truncated[name] = 0
        return _run(lm, tasks, chat=chat)
    except (StageFailed, ModelError, MemoryError):
        raise
    except Exception as error:
        if len(tasks) == 1:
            failures |= dict.fromkeys(tasks, f"one of its items fails: {_message(error)}")
            return {}
    outputs: dict[str, TaskOutput] = {}
    for name, task in tasks.items():
        outputs |= run_tasks(lm, {name: task}, seed, chat, failures)
    return outputs


def _run(lm: Any, tasks: Mapping[str, Any], *, chat: bool = False) -> dict[str, TaskOutput]:
    from lm_eval.evaluator import evaluate

    _seed_everything()
    output = evaluate(
        lm,
        {"tasks": dict(tasks), "groups": {}},
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    return {
        name: TaskOutput(task, output["results"][name], output["samples"][name])
        for name, task in tasks.items()
    }


@dataclass(frozen=True)
class ChoiceScores:
    """A model's answers to multiple-choice items, in the items' order.

    Attributes:
        acc: [items] 1 where the choice with the highest likelihood is right, else 0.
        acc_norm: [items] The same with likelihoods per character, so that short choices have no advantage.
        p_gold: [items] Probability of the right choice among all choices, per byte (`evals.measures`). Where
            all items have the same choices, as yes and no, they are weighted so that each label counts the
            same.
    """

    acc: np.ndarray
    acc_norm: np.ndarray
    p_gold: np.ndarray


def score_choices(lm: Any, tasks: Mapping[str, Sequence[Item]], work: Path) -> dict[str, ChoiceScores]:
    """Score a model on multiple-choice items, offline.

    Args:
        lm: One of lm-eval's models.
        tasks: Items by the task's name.
        work: Scratch folder.
    """
    if not tasks:
        return {}
    from lm_eval.tasks import TaskManager

    work.mkdir(parents=True, exist_ok=True)
    configs = []
    for name, items in tasks.items():
        write_items(items, work / f"{name}.jsonl")
        configs.append(_choice_config(name, work / f"{name}.jsonl", work / "cache"))
    with silence_lm_eval():
        outputs = _run(lm, TaskManager(include_defaults=False).load(configs)["tasks"])
    return {name: _choice_scores(outputs[name]) for name in tasks}


def _choice_config(name: str, items_file: Path, cache: Path) -> dict[str, Any]:
    """Return lm-eval's configuration of a task over a file of items; `cache` receives a copy of the data."""
    config: dict[str, Any] = YAML(typ="safe").load(CHOICE_TEMPLATE)
    data = {"data_files": {"test": str(items_file.absolute())}, "cache_dir": str(cache.absolute())}
    return {**config, "task": name, "dataset_kwargs": data}


def _choice_scores(output: TaskOutput) -> ChoiceScores:
    ordered = sorted(output.samples, key=lambda sample: sample["doc_id"])
    acc, acc_norm = (
        np.array([float(sample[metric]) for sample in ordered]) for metric in ("acc", "acc_norm")
    )
    return ChoiceScores(acc, acc_norm, np.array(measure(output.task, ordered).items[P_GOLD]))


def item_texts(
    prepared: Sequence[PreparedTask], wanted: Mapping[str, Collection[str]], failures: Failures
) -> dict[str, dict[str, str]]:
    """Return the texts of items, by task and id, as far as the data have them.

    Args:
        prepared: Tasks at level full, with the data on which they were evaluated.
        wanted: Ids of items by task, as results have them. Other tasks are not loaded.
        failures: Receives the reason for every task that does not load.
    """
    with silence_lm_eval():
        tasks = load_tasks([each for each in prepared if each.entry.task in wanted], SEED, failures)
        return {name: _texts(task, wanted[name]) for name, task in tasks.items()}


def all_items(prepared: Sequence[PreparedTask], failures: Failures) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return prompt and right answers of all items, by task and id, as far as the data have them.

    Args:
        prepared: Tasks; of each all items are read, whatever its level.
        failures: Receives the reason for every task that does not load.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    with silence_lm_eval():
        whole = [replace(each, level="full") for each in prepared]
        for name, task in load_tasks(whole, SEED, failures).items():
            try:
                documents = list(task.eval_docs)
                texts = [_prompt_and_answers(task, document) for document in documents]
            except Exception as error:  # a task's own code may raise anything
                failures[name] = f"its items cannot be read: {_message(error)}"
            else:
                found[name] = dict(zip(item_ids(documents), texts, strict=True))
    return found


def _texts(task: Any, wanted: Collection[str]) -> dict[str, str]:
    documents = list(task.eval_docs)
    found = dict(zip(item_ids(documents), documents, strict=True))
    return {id: item_text(task, found[id]) for id in wanted if id in found}


def item_text(task: Any, document: Mapping[str, Any]) -> str:
    """Return an item's prompt without examples, and its right answer; all of them if it has several."""
    return "\n".join(_prompt_and_answers(task, document))


def _prompt_and_answers(task: Any, document: Mapping[str, Any]) -> tuple[str, ...]:
    text, target = task.doc_to_text(document), task.doc_to_target(document)
    if isinstance(text, int):  # the choices are the beginnings, and the target continues all of them
        return (f"{task.doc_to_choice(document)[text]} {target}",)
    answers = target if isinstance(target, list) else [target]
    named = [
        task.doc_to_choice(document)[answer] if isinstance(answer, int) else str(answer) for answer in answers
    ]
    return (str(text), *named)


def _message(error: Exception) -> str:
    return error.message if isinstance(error, CptError) else f"{type(error).__name__}: {error}"


def _seed_everything() -> None:
    """Seed the generators as lm-eval's command line does, for tasks that shuffle choices."""
    random.seed(0)
    np.random.seed(SEED)


@contextlib.contextmanager
def silence_lm_eval() -> Iterator[None]:
    """Switch off progress bars and notes of lm-eval and datasets, and the download counts of the hub.

    Templates are compiled once each instead of once for every item.
    """
    import datasets
    import lm_eval.api.task as task_module
    from lm_eval.utils import env

    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, task_module.tqdm
    bars, counted = datasets.is_progress_bar_enabled(), datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    logger.setLevel(logging.CRITICAL)
    task_module.tqdm = partial(bar, disable=True)
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    env.from_string = functools.lru_cache(maxsize=1024)(env.from_string)
    try:
        yield
    finally:
        del env.from_string
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counted
        if bars:
            datasets.enable_progress_bars()
        task_module.tqdm = bar
        logger.setLevel(level)
