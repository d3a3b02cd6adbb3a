"""How lm-eval is driven: tasks loaded over the items of their level, run in one go, silent and as seeded.

Run multiple-choice tasks through lm-eval, offline, on items that lie in local files.

The texts of a task's items as a model reads them: the prompt without examples, and the right answer.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ruamel.yaml import YAML

from cpt.errors import CptError, DataError, ModelError, StageFailed
from evals import hub
from evals.models.cached_model import CachedLM
from evals.multiple_choice import Item, write_items
from evals.task_files import aggregation_name
from evals.task_scores import Scored, limit_items, item_ids, is_unsupported_aggregation

if TYPE_CHECKING:
    from evals.preparation import PreparedTask


SEED = 1234
"""lm-eval's own default: few-shot examples are those of its command line."""

Failures = dict[str, str]
"""By task, why it cannot be scored."""


def load_tasks(prepared: Sequence[PreparedTask], seed: int, failed: Failures) -> dict[str, Any]:
    """lm-eval's tasks by name, each over the items of its level; `failed` receives why one does not load.

    Once the hub cannot be reached it is not asked again: every attempt takes half a minute.
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
                [task] = manager.load([hub.fetched(each.config)])["tasks"].values()
                _refuse_metric(task, each.entry.metric.partition(",")[0], by_code="class" in each.config)
                limit_items(task, each.entry.items(each.level), seed)
                tasks[name] = task
            except ConnectionError:
                failed[name] = (
                    f"the hub, which has its data ({hub.source(each.config)}), cannot be reached; "
                    "--data DIR reads local files, --offline leaves such tasks out at once"
                )
                unreached.enter_context(hub.offline_hub())
            except Exception as error:  # whatever a data set or a task's own code raises
                failed[name] = (
                    f"{hub.refusal(each.config)}; --data DIR reads local files"
                    if hub.is_loading_script_error(error)
                    else f"its data or its task file fails: {_told(error)}"
                )
    return tasks


def _refuse_metric(task: Any, metric: str, *, by_code: bool) -> None:
    """Raise DataError for a metric without a score or an error, before the model answers anything.

    Args:
        by_code: the task is a class, whose metrics no file names.
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
    lm: CachedLM, tasks: Mapping[str, Any], seed: int, chat: bool, failed: Failures
) -> dict[str, Scored]:
    """What lm-eval makes of the tasks, all in one go: their requests share the model's batches.

    If a task fails, each is run by itself to find out which; no request is put to the model twice.

    Raises:
        StageFailed: the model fails.
        ModelError: the model or its chat template is damaged.
    """
    if not tasks:
        return {}
    try:
        return _run(lm, tasks, seed, chat)
    except (StageFailed, ModelError, MemoryError):
        raise
    except Exception as error:
        if len(tasks) == 1:
            failed |= dict.fromkeys(tasks, f"one of its items fails: {_told(error)}")
            return {}
    outputs: dict[str, Scored] = {}
    for name, task in tasks.items():
        outputs |= run_tasks(lm, {name: task}, seed, chat, failed)
    return outputs


def _told(error: Exception) -> str:
    return error.message if isinstance(error, CptError) else f"{type(error).__name__}: {error}"


def _run(lm: CachedLM, tasks: Mapping[str, Any], seed: int, chat: bool) -> dict[str, Scored]:
    from lm_eval.evaluator import evaluate

    _seed_everything()
    for name, task in tasks.items():
        task.set_fewshot_seed(seed)
        lm.truncated[name] = 0
    output = evaluate(
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
def silence_lm_eval() -> Iterator[None]:
    """lm-eval and datasets without progress bars, notes, and counts of downloads that a server keeps.

    Templates are compiled once each instead of once for every item.
    """
    import datasets
    import lm_eval.api.task as task_module
    from lm_eval.utils import env

    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, task_module.tqdm
    shown, counted = datasets.is_progress_bar_enabled(), datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
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
        if shown:
            datasets.enable_progress_bars()
        task_module.tqdm = bar
        logger.setLevel(level)


TEMPLATE = Path(__file__).parent / "tasks" / "multiple_choice.yaml"


@dataclass(frozen=True)
class ItemScores:
    """Whether a model got each item right, in the items' order.

    Attributes:
        acc: [items] 0 or 1; the choice with the highest likelihood is taken.
        acc_norm: the same with likelihoods per character, so that short choices have no advantage.
    """

    acc: np.ndarray
    acc_norm: np.ndarray


def _file_task_config(name: str, items_file: Path, cache: Path) -> dict[str, Any]:
    """lm-eval's configuration of a task over a file of items; `cache` receives its copy of the data."""
    config: dict[str, Any] = YAML(typ="safe").load(TEMPLATE)
    data = {"data_files": {"test": str(items_file.absolute())}, "cache_dir": str(cache.absolute())}
    return {**config, "task": name, "dataset_kwargs": data}


def score_choices(lm: Any, tasks: Mapping[str, Sequence[Item]], work: Path) -> dict[str, ItemScores]:
    """Scores of a model on tasks.

    Args:
        lm: an lm-eval model.
        tasks: items by the task's name.
        work: scratch folder.
    """
    if not tasks:
        return {}
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    work.mkdir(parents=True, exist_ok=True)
    configs = []
    for name, items in tasks.items():
        write_items(items, work / f"{name}.jsonl")
        configs.append(_file_task_config(name, work / f"{name}.jsonl", work / "cache"))
    loaded = TaskManager(include_defaults=False).load(configs)
    results = evaluate(lm, loaded, bootstrap_iters=0, log_samples=True)
    return {name: _item_scores(results["samples"][name]) for name in tasks}


def _item_scores(samples: Sequence[Mapping[str, Any]]) -> ItemScores:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    acc, acc_norm = (
        np.array([float(sample[metric]) for sample in ordered]) for metric in ("acc", "acc_norm")
    )
    return ItemScores(acc, acc_norm)


def item_texts(
    prepared: Sequence[PreparedTask], wanted: Mapping[str, Collection[str]], failed: Failures
) -> dict[str, dict[str, str]]:
    """Texts of items by task and id.

    Args:
        prepared: tasks, at level full, with the data on which they were evaluated.
        wanted: by task, ids of items as results have them; tasks of which none are wanted are passed over.
        failed: receives why a task does not load.

    Returns:
        Those of the items that the data have.
    """
    with silence_lm_eval():
        tasks = load_tasks([each for each in prepared if each.entry.task in wanted], SEED, failed)
        return {name: _texts(task, wanted[name]) for name, task in tasks.items()}


def _texts(task: Any, wanted: Collection[str]) -> dict[str, str]:
    documents = list(task.eval_docs)
    found = dict(zip(item_ids(documents), documents, strict=True))
    return {id: item_text(task, found[id]) for id in wanted if id in found}


def item_text(task: Any, document: Mapping[str, Any]) -> str:
    """Prompt and right answer of an item of one of lm-eval's tasks; of several right answers all."""
    text, target = task.doc_to_text(document), task.doc_to_target(document)
    if isinstance(text, int):  # the choices are the beginnings, and the target how all of them go on
        return f"{task.doc_to_choice(document)[text]} {target}"
    answers = target if isinstance(target, list) else [target]
    named = [
        task.doc_to_choice(document)[answer] if isinstance(answer, int) else str(answer) for answer in answers
    ]
    return "\n".join([str(text), *named])
