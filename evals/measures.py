"""Measure items beside their task's own metric: likelihood of the right choice, labels without their prior.

*Right choice.* The likelihood of a choice is that of its bytes, ll / bytes, so that long choices and other
tokenizers have no disadvantage. With the likelihoods of all choices j, and the right one g:

    p_gold = exp(ll_g / bytes_g) / Σ_j exp(ll_j / bytes_j)
    margin = ll_g / bytes_g - max_{j≠g} ll_j / bytes_j        (nats per byte)
    bits per byte of the right choice = -ll_g / bytes_g / ln 2

Such measures predict a benchmark's accuracy at larger sizes better than accuracy itself does (Magnusson et
al. 2025, DataDecide, arXiv 2504.11393).

*Labels.* Where all items have the same choices, a model's habit of saying one of them decides much of its
accuracy, and training changes habits. Two things are done against it. Items are weighted so that every label
counts the same, in p_gold too: answers that do not depend on the question then score 1 / K with K labels,
whatever the habit. And batch calibration (Zhou et al. 2023, arXiv 2309.17249, section 3) takes most of the
habit out: with p(y | x) ∝ exp(ll_y) and its mean p(y) over the task's items, the answer is the label with the
largest p(y | x) / p(y).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from evals.metrics import standard_error
from evals.results import Label, Measure

P_GOLD = "p_gold"
CALIBRATED = "acc_calibrated"

COMPARED: Mapping[str, str] = {
    P_GOLD: "By likelihood: the probability of the right choice among all choices, per byte (p_gold). It "
    "moves long before answers change.",
    CALIBRATED: "Labels without their prior: balanced accuracy where each label's probability is divided by "
    "its mean over the items (acc_calibrated). A habit of saying one of them is worth nothing.",
}
"""Measures that are compared between models, each with what a reader must know of it."""

WITHOUT_GUESSING = (P_GOLD,)
"""Measures of which any change counts: p_gold may be below 1 / K where choices differ in kind or length."""

MUTUAL_INFORMATION = "acc_mutual_info"
_TIE = 1e-9
_OPTION = re.compile(r"\W*\w\W*")


def p_gold(nats_per_byte: np.ndarray, right: int) -> float:
    """Compute the probability of the right choice among all choices.

    Args:
        nats_per_byte: [choices] Log-likelihoods, each divided by the choice's bytes.
        right: Index of the right choice.
    """
    return float(softmax(nats_per_byte)[right])


class Measured(NamedTuple):
    """Further measures of a task.

    Attributes:
        items: Values of all items by measure.
        task: Means of these.
        labels: Labels, if the choices are the same in every item and have a meaning.
    """

    items: dict[str, tuple[float, ...]]
    task: dict[str, Measure]
    labels: dict[str, Label]


def measure(
    task: Any, samples: Sequence[Mapping[str, Any]], clusters: Sequence[str] | None = None
) -> Measured:
    """Return the further measures of a task; none if it is no choice by likelihood.

    Tasks with mutual information have none: they ask for each choice once more without its question.

    Args:
        task: lm-eval's object.
        samples: lm-eval's output of every item, in order.
        clusters: Names of the text that each item shares with others; None if they share none.
    """
    rows = choices_of(task, samples)
    if not rows:
        return Measured({}, {}, {})
    nats = [row.nats / row.bytes for row in rows]
    right = [row.right for row in rows]
    items = {
        P_GOLD: tuple(p_gold(each, gold) for each, gold in zip(nats, right, strict=True)),
        "margin": tuple(
            float(each[gold] - np.delete(each, gold).max()) for each, gold in zip(nats, right, strict=True)
        ),
        "bits_per_byte": tuple(
            float(-each[gold] / math.log(2)) for each, gold in zip(nats, right, strict=True)
        ),
    }
    chance = float(np.mean([1 / len(each) for each in nats]))
    labels: dict[str, Label] = {}
    if names := label_names([row.texts for row in rows]):
        weights = label_weights(rows)
        scores, labels = _calibrated(names, np.array([row.nats for row in rows]), right)
        items[CALIBRATED] = tuple((weights * scores).tolist())
        items[P_GOLD] = tuple((weights * items[P_GOLD]).tolist())
        chance = 1 / len(set(right))
    task_means = {
        name: Measure(
            score=float(np.mean(values)),
            stderr=standard_error("mean", values, clusters),
            chance=chance if name in COMPARED else None,
        )
        for name, values in items.items()
    }
    return Measured(items, task_means, labels)


def label_names(choices: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the labels of a task, or nothing: choices that are the same in every item, of several.

    The letters of options are no labels, because their order means nothing.
    """
    first, *others = dict.fromkeys(choices)
    same = len(choices) > 1 and not others
    different = len(first) > 1 and len(set(first)) == len(first)
    letters = all(_OPTION.fullmatch(choice) for choice in first)
    return tuple(choice.strip() for choice in first) if same and different and not letters else ()


def _calibrated(
    names: Sequence[str], nats: np.ndarray, right: Sequence[int]
) -> tuple[np.ndarray, dict[str, Label]]:
    """Return whether each item's calibrated answer is right, [items], and the labels' counts.

    Labels that are equally likely share an answer.

    Args:
        names: The K labels.
        nats: Log-likelihoods, [items, K].
        right: Index of each item's label.
    """
    log_p = log_softmax(nats, axis=1)
    log_prior = logsumexp(log_p, axis=0) - math.log(len(log_p))
    ratios = log_p - log_prior
    best = ratios >= ratios.max(axis=1, keepdims=True) - _TIE  # [items, K]
    scores = best[np.arange(len(right)), right] / best.sum(axis=1)
    gold, said, corrected = (
        Counter(each) for each in (right, nats.argmax(1).tolist(), best.argmax(1).tolist())
    )
    labels = {
        name: Label(gold=gold[place], predicted=said[place], calibrated=corrected[place])
        for place, name in enumerate(names)
    }
    return scores, labels


class Choice(NamedTuple):
    """An item: index of the right choice, choices' texts, log-likelihoods and bytes, [choices] each."""

    right: int
    texts: tuple[str, ...]
    nats: np.ndarray
    bytes: np.ndarray

    @property
    def p_gold(self) -> float:
        """Probability of the right choice, per byte."""
        return p_gold(self.nats / self.bytes, self.right)


def choices_of(task: Any, samples: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """Return the items of a task that is a choice by likelihood; none of any other task.

    Args:
        task: lm-eval's object.
        samples: lm-eval's output of every item, in order.
    """
    if task.OUTPUT_TYPE != "multiple_choice" or MUTUAL_INFORMATION in task.aggregation():
        return []
    found = [_choice(task, sample) for sample in samples]
    rows = [row for row in found if row is not None]
    return rows if len(rows) == len(found) else []


def label_weights(choices: Sequence[Choice]) -> np.ndarray:
    """Return weights with which every label counts the same, [items]; all 1 where choices are no labels."""
    if not label_names([choice.texts for choice in choices]):
        return np.ones(len(choices))
    counts = Counter(choice.right for choice in choices)
    return np.array([len(choices) / len(counts) / counts[choice.right] for choice in choices])


def _choice(task: Any, sample: Mapping[str, Any]) -> Choice | None:
    """Return an item; None if no one choice is right."""
    answers, texts = sample["filtered_resps"], tuple(str(text) for _, text in sample["arguments"])
    # where the choices are contexts of one continuation, the right one stands in their place
    several_contexts = getattr(task, "multiple_input", False)
    right = task.doc_to_text(sample["doc"]) if several_contexts else sample["target"]
    if isinstance(right, str):
        plain = [text.strip() for text in texts]
        right = plain.index(right.strip()) if plain.count(right.strip()) == 1 else None
    if not isinstance(right, int) or not 0 <= right < len(texts) or not 2 <= len(texts) == len(answers):
        return None
    nats = np.array([float(likelihood) for likelihood, _ in answers])
    return Choice(right, texts, nats, np.array([max(1, len(text.encode())) for text in texts]))
