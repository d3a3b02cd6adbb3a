"""The texts of a task's items as a model reads them: the prompt without examples, and the right answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evals.metrics import register
from evals.task_scores import item_ids

if TYPE_CHECKING:
    from evals.preparation import Prepared


def item_texts(
    prepared: Sequence[Prepared], wanted: Mapping[str, Collection[str]]
) -> dict[str, dict[str, str]]:
    """Texts of items by task and id.

    Args:
        prepared: tasks with the data on which they were evaluated.
        wanted: by task, ids of items as results have them; tasks that are not prepared are passed over.

    Returns:
        Those of the items that the data have.
    """
    from lm_eval.tasks import TaskManager

    register()
    manager = TaskManager(include_defaults=False)
    texts: dict[str, dict[str, str]] = {}
    for each in prepared:
        name = each.entry.task
        if name in wanted:
            [task] = manager.load([dict(each.config)])["tasks"].values()
            texts[name] = _texts(task, wanted[name])
    return texts


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
