"""The texts of a task's items as a model reads them: the prompt without examples, and the right answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evals.harness import SEED, Failed, load_tasks, quietly
from evals.task_scores import item_ids

if TYPE_CHECKING:
    from evals.preparation import Prepared


def item_texts(
    prepared: Sequence[Prepared], wanted: Mapping[str, Collection[str]], failed: Failed
) -> dict[str, dict[str, str]]:
    """Texts of items by task and id.

    Args:
        prepared: tasks, at level full, with the data on which they were evaluated.
        wanted: by task, ids of items as results have them; tasks of which none are wanted are passed over.
        failed: receives why a task does not load.

    Returns:
        Those of the items that the data have.
    """
    with quietly():
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
