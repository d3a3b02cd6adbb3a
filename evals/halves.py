"""Divide a task's items into two halves: one by which a result is chosen, and one that is reported.

The half of an item is a bit of the hash of its content, so that it is the same for every model and every
sample of the items. Items about one text (the questions on a contract) are in the same half.
"""

from __future__ import annotations

import json
from typing import Any

from cpt.halves import Half, half_of

FEWEST = 16
"""Smallest number of items of a task in each half. On 16 the error of a mean is a quarter of their spread;
with fewer, noise chooses."""

_LEFT_OUT = "items_of_the_other_half"


def half_of_item(document: Any, cluster: str | None = None) -> Half:
    """Return the half of an item.

    Args:
        document: Item as its task has it.
        cluster: Column that names the text that several items share; None if they share none.
    """
    content = document if cluster is None else document[cluster]
    return half_of(json.dumps(content, sort_keys=True, default=str))


def take_half(task: Any, half: Half, cluster: str | None = None) -> None:
    """Restrict one of lm-eval's tasks to one half of its items."""
    documents = list(task.eval_docs)
    kept = [each for each in documents if half_of_item(each, cluster) == half]
    restrict(task, kept)
    setattr(task, _LEFT_OUT, len(documents) - len(kept))


def left_out_of(task: Any) -> int:
    """Return the number of items that `take_half` has left out of a task."""
    return int(getattr(task, _LEFT_OUT, 0))


def restrict(task: Any, documents: list[Any]) -> None:
    """Restrict one of lm-eval's tasks to some of its items."""
    # the items stand in for the split: lm-eval asks for it anew at every step, and would read all of it
    name = "test_docs" if task.has_test_docs() else "validation_docs"
    setattr(task, name, lambda: documents)
