"""Measure how likely a model finds the right choice of a question, which moves long before its answers do.

The likelihood of a choice is that of its bytes, ll / bytes, so that long choices and other tokenizers have no
disadvantage. With the likelihoods of all choices j, and the right one g:

    p_gold = exp(ll_g / bytes_g) / Σ_j exp(ll_j / bytes_j)
    margin = ll_g / bytes_g - max_{j≠g} ll_j / bytes_j        (nats per byte)
    bits per byte of the right choice = -ll_g / bytes_g / ln 2

Such measures predict a benchmark's accuracy at larger sizes better than accuracy itself does (Magnusson et
al. 2025, DataDecide, arXiv 2504.11393).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from evals.metrics import standard_error
from evals.results import ItemLikelihoods, TaskLikelihood

P_GOLD = "p_gold"
"""Name of the metric: mean probability of the right choice among the choices, per byte."""


def item_likelihoods(task: Any, samples: Sequence[Mapping[str, Any]]) -> ItemLikelihoods | None:
    """Return the likelihoods of the right choices of a task's items; None if it is no choice by likelihood.

    Args:
        task: lm-eval's object.
        samples: lm-eval's output of every item, in order.
    """
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    found = [_per_byte(task, sample) for sample in samples]
    rows = [row for row in found if row is not None]
    if not rows or len(rows) < len(found):
        return None
    return ItemLikelihoods(
        p_gold=tuple(float(softmax(row)[right]) for right, row in rows),
        margin=tuple(float(row[right] - np.delete(row, right).max()) for right, row in rows),
        bits_per_byte=tuple(float(-row[right] / math.log(2)) for right, row in rows),
        choices=tuple(len(row) for _, row in rows),
    )


def _per_byte(task: Any, sample: Mapping[str, Any]) -> tuple[int, np.ndarray] | None:
    """Return the index of the right choice, and nats per byte of each, [choices]; None without such.

    Tasks whose metric asks each choice once more without its question have more answers than choices.
    """
    answers, texts = sample["filtered_resps"], [str(continuation) for _, continuation in sample["arguments"]]
    # where the choices are contexts of one continuation, the right one stands in their place
    several_contexts = getattr(task, "multiple_input", False)
    right = task.doc_to_text(sample["doc"]) if several_contexts else sample["target"]
    if isinstance(right, str):
        plain = [text.strip() for text in texts]
        right = plain.index(right.strip()) if plain.count(right.strip()) == 1 else None
    if not isinstance(right, int) or not 0 <= right < len(texts) or not 2 <= len(texts) == len(answers):
        return None
    nats = np.array([float(likelihood) for likelihood, _ in answers])
    return right, nats / [max(1, len(text.encode())) for text in texts]


def task_likelihood(items: ItemLikelihoods) -> TaskLikelihood:
    """Return the means over a task's items."""
    return TaskLikelihood(
        p_gold=float(np.mean(items.p_gold)),
        stderr=standard_error("mean", items.p_gold),
        chance=float(np.mean(1 / np.array(items.choices))),
        margin=float(np.mean(items.margin)),
        bits_per_byte=float(np.mean(items.bits_per_byte)),
    )
