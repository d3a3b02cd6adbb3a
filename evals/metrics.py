"""Aggregate the values of items to a score, for the sample and for resamples of it, and compute its error.

An aggregation is a function of the items' values and of weights: how often each item counts in each of many
resamples. `AGGREGATIONS` holds them by the name that a task file gives (`aggregation: macro_f1`).

Shapes: N items, R resamples, C classes.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Values = Sequence[Any]
"""A number per item, or a tuple: (gold, predicted), (true positives, predicted, gold), (nats, weight)."""

RESAMPLES = 1000
_CHUNK = 2**22
_NO_SPREAD = 1e-12


def aggregate(name: str, values: Values, weights: np.ndarray | None = None) -> Any:
    """Compute the score of items.

    Args:
        name: Name of the aggregation.
        values: [N] Values of the items.
        weights: [R, N] Count of each item in each resample; each item once if None.

    Returns:
        The score, or [R] scores of the resamples (NaN where one is not defined).
    """
    once = weights is None
    counts = np.ones((1, len(values))) if once else np.asarray(weights, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = AGGREGATIONS[name](values, counts)
    return float(scores[0]) if once else scores


def standard_error(name: str, values: Values, clusters: Sequence[str] | None = None) -> float | None:
    """Compute the standard error of a score; every output states this one.

    It is the jackknife: the effect on the score of leaving out one observation at a time (Efron and Stein
    1981, "The jackknife estimate of variance"). For a mean it is the usual s / √n, in closed form. It needs
    no seed, so the same answers have the same error in every output. A bootstrap does: the balanced accuracy
    of a model with one answer for everything varies only in resamples that lack a class, and one model's
    error was 0.0000, 0.005 or 0.018, depending on the seed.

    A share on which all observations agree has no spread to estimate from, yet its error is not zero: it is
    the standard deviation of Jeffreys' posterior (Brown, Cai and DasGupta 2001, "Interval estimation for a
    binomial proportion"), below that of a single dissent.

    Args:
        name: Name of the aggregation.
        values: [N] Values of the items.
        clusters: [N] Subject of each item; items of the same subject are one observation.

    Returns:
        The error; None for a single observation, and where leaving one out leaves no score.
    """
    _, unit_N = np.unique(range(len(values)) if clusters is None else clusters, return_inverse=True)
    count = int(unit_N.max()) + 1
    if count < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # a perplexity may overflow: it has no error
        if name == "mean":
            numbers = np.asarray(values, dtype=float)
            deviations = np.bincount(unit_N, numbers - numbers.mean())
            error = math.sqrt(count / (count - 1) * (deviations**2).sum()) / len(numbers)
        elif name == "median":
            error = _bootstrap(name, values, unit_N, clustered=clusters is not None)
        else:
            error = _jackknife(name, values, unit_N, clustered=clusters is not None)
    if not math.isfinite(error):
        return None
    return error if error > _NO_SPREAD or not _is_share(name, values) else _jeffreys_error(count)


def _jackknife(name: str, values: Values, unit_N: np.ndarray, *, clustered: bool) -> float:
    """Compute the spread of the scores without one unit; equal units of one item are put together."""
    if clustered:
        entries, times = list(values), np.ones(int(unit_N.max()) + 1)
        unit_of_entry, full = unit_N, np.ones(len(values))
    else:
        found = Counter(values)
        entries, times = list(found), np.array(list(found.values()), dtype=float)
        unit_of_entry, full = np.arange(len(entries)), times
    step = max(1, _CHUNK // len(entries))
    scores: list[np.ndarray] = []
    for first in range(0, len(times), step):
        units = np.arange(first, min(first + step, len(times)))
        scores.append(aggregate(name, entries, full - (unit_of_entry == units[:, None])))
    score_U, count = np.concatenate(scores), times.sum()
    centred = score_U - times @ score_U / count
    return math.sqrt((count - 1) / count * (times @ centred**2))


def _bootstrap(name: str, values: Values, unit_N: np.ndarray, *, clustered: bool) -> float:
    """Compute the spread of the scores of resampled units: a median's jackknife does not converge."""
    ordered = values if clustered else sorted(values)  # the error must not depend on the items' order
    count = int(unit_N.max()) + 1
    generator = np.random.default_rng(0)
    scores: list[np.ndarray] = []
    left = RESAMPLES
    while left:
        size = min(left, max(1, _CHUNK // len(values)))
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size)[:, unit_N]
        scores.append(aggregate(name, ordered, weights))
        left -= size
    return float(np.concatenate(scores).std(ddof=1))


def _is_share(name: str, values: Values) -> bool:
    """Return True for scores between 0 and 1, or -1 and 1."""
    if name in ("mean", "median"):
        return all(0 <= value <= 1 for value in values)
    return name not in ("perplexity", "weighted_perplexity", "bits_per_byte")


def _jeffreys_error(units: int) -> float:
    """Return the standard deviation of a share's posterior if all units agree: of Beta(1/2, units + 1/2)."""
    return math.sqrt(0.5 * (units + 0.5) / ((units + 1) ** 2 * (units + 2)))


def mean(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the arithmetic mean."""
    return weights_RN @ np.asarray(values, dtype=float) / weights_RN.sum(1)


def median(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the median; of an even number the upper of the two middle values, as in lm-eval."""
    numbers = np.asarray(values, dtype=float)
    order = np.argsort(numbers, kind="stable")
    reached_RN = weights_RN[:, order].cumsum(1)
    middle_R1 = np.floor(weights_RN.sum(1, keepdims=True) / 2) + 1
    return numbers[order][(reached_RN >= middle_R1).argmax(1)]


def perplexity(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute exp(-mean) of log-likelihoods in nats."""
    return np.exp(-mean(values, weights_RN))


def weighted_perplexity(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute exp(-Σ log-likelihood / Σ weight) of (log-likelihood, words or bytes)."""
    return np.exp(-_ratio(values, weights_RN))


def bits_per_byte(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute -Σ log-likelihood / (ln 2 · Σ bytes) of (log-likelihood in nats, bytes)."""
    return -_ratio(values, weights_RN) / math.log(2)


def f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the F1 of class 1 over (gold, predicted) of two classes; 0 where neither has it."""
    gold, predicted = (np.array([_number(pair[side]) == 1 for pair in values]) for side in (0, 1))
    return _f1(*(weights_RN @ x.astype(float) for x in (gold & predicted, predicted, gold)))


def macro_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean F1 of the classes that occur, as gold or predicted, over (gold, predicted)."""
    right_RC, predicted_RC, gold_RC = _by_class(values, weights_RN)
    scores_RC = _f1(right_RC, predicted_RC, gold_RC)
    return scores_RC.sum(1) / (predicted_RC + gold_RC > 0).sum(1)


def weighted_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean F1 of the classes, weighted by their gold count, over (gold, predicted)."""
    right_RC, predicted_RC, gold_RC = _by_class(values, weights_RN)
    return (_f1(right_RC, predicted_RC, gold_RC) * gold_RC).sum(1) / gold_RC.sum(1)


def mean_weighted_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean over groups of their weighted F1, over (group, gold, predicted)."""
    return _mean_of_groups(weighted_f1, values, weights_RN)


def mean_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean over groups of their F1 of class 1, over (group, gold, predicted)."""
    return _mean_of_groups(f1, values, weights_RN)


def accuracy_and_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean of accuracy and weighted F1, over (gold, predicted)."""
    right_RC, _, _ = _by_class(values, weights_RN)
    return (right_RC.sum(1) / weights_RN.sum(1) + weighted_f1(values, weights_RN)) / 2


def f1_and_mcc(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean of weighted F1 and Matthews' correlation, over (gold, predicted)."""
    return (weighted_f1(values, weights_RN) + matthews_corrcoef(values, weights_RN)) / 2


def balanced_accuracy(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean recall of the classes that are gold, over (gold, predicted)."""
    right_RC, _, gold_RC = _by_class(values, weights_RN)
    recall_RC = np.where(gold_RC > 0, right_RC / np.maximum(gold_RC, 1), 0.0)
    return recall_RC.sum(1) / (gold_RC > 0).sum(1)


def matthews_corrcoef(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute Matthews' correlation of (gold, predicted) for any classes (Gorodkin 2004); 0 if undefined."""
    right_RC, predicted_RC, gold_RC = _by_class(values, weights_RN)
    total_R = weights_RN.sum(1)
    covariance_R = right_RC.sum(1) * total_R - (predicted_RC * gold_RC).sum(1)
    spread_R = np.sqrt((total_R**2 - (predicted_RC**2).sum(1)) * (total_R**2 - (gold_RC**2).sum(1)))
    return np.where(spread_R > 0, covariance_R / np.where(spread_R > 0, spread_R, 1), 0.0)


def entity_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the micro F1 over (right, predicted, gold) counts of entities (or labels) of each item."""
    counts_N3 = np.asarray(values, dtype=float).reshape(len(values), 3)
    return _f1(*(weights_RN @ counts_N3).T)


def weighted_entity_f1(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    """Compute the mean F1 of the types of entities, weighted by their gold count, as seqeval's "weighted".

    Args:
        values: (right, predicted, gold) counts of entities, type after type, for each item.
        weights_RN: Count of each item in each resample.
    """
    counts_NT3 = np.asarray(values, dtype=float).reshape(len(values), -1, 3)
    sums_3TR = np.einsum("rn,ntk->ktr", weights_RN, counts_NT3)
    return (_f1(*sums_3TR) * sums_3TR[2]).sum(0) / sums_3TR[2].sum(0)


AGGREGATIONS: dict[str, Callable[[Values, np.ndarray], np.ndarray]] = {
    "mean": mean,
    "median": median,
    "perplexity": perplexity,
    "weighted_perplexity": weighted_perplexity,
    "bits_per_byte": bits_per_byte,
    "f1": f1,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "mean_weighted_f1": mean_weighted_f1,
    "mean_f1": mean_f1,
    "accuracy_and_f1": accuracy_and_f1,
    "f1_and_mcc": f1_and_mcc,
    "balanced_accuracy": balanced_accuracy,
    "matthews_corrcoef": matthews_corrcoef,
    "entity_f1": entity_f1,
    "weighted_entity_f1": weighted_entity_f1,
}


def register() -> None:
    """Register the aggregations that lm-eval lacks, so that task files can name them."""
    import lm_eval.api.metrics  # noqa: F401  fills the registry
    from lm_eval.api.registry import AGGREGATION_REGISTRY, register_aggregation

    for name in AGGREGATIONS.keys() - set(AGGREGATION_REGISTRY):
        register_aggregation(name)(_for_lm_eval(name))


def _for_lm_eval(name: str) -> Callable[[Values], float]:
    def score(values: Values) -> float:
        return float(aggregate(name, values))

    score.__name__ = name
    return score


def _mean_of_groups(
    score: Callable[[Values, np.ndarray], np.ndarray], values: Values, weights_RN: np.ndarray
) -> np.ndarray:
    """Compute the mean score of groups of (group, *rest), without groups that a resample did not draw."""
    groups = np.array([str(group) for group, *_ in values])
    of_groups = [groups == group for group in dict.fromkeys(groups)]
    scores_GR = []
    for mask in of_groups:
        own = [rest for (_, *rest), inside in zip(values, mask, strict=True) if inside]
        drawn_R = weights_RN[:, mask].sum(1) > 0
        scores_GR.append(np.where(drawn_R, score(own, weights_RN[:, mask]), np.nan))
    return np.nanmean(scores_GR, axis=0)


def _number(label: Any) -> float | None:
    return float(label) if isinstance(label, (int, float, np.number)) else None


def _ratio(values: Values, weights_RN: np.ndarray) -> np.ndarray:
    pairs_N2 = np.asarray(values, dtype=float).reshape(len(values), 2)
    sums_R2 = weights_RN @ pairs_N2
    return sums_R2[:, 0] / sums_R2[:, 1]


def _f1(right: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Compute 2 · right / (predicted + gold), 0 where nothing is predicted or gold."""
    both = predicted + gold
    return np.where(both > 0, 2 * right / np.where(both > 0, both, 1), 0.0)


def _by_class(values: Values, weights_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the items that are rightly predicted, predicted, and gold for each class: [R, C] each."""
    labels = {label: index for index, label in enumerate(dict.fromkeys(x for pair in values for x in pair))}
    gold_N, predicted_N = (np.array([labels[pair[side]] for pair in values]) for side in (0, 1))
    gold_NC, predicted_NC = (np.eye(len(labels))[x] for x in (gold_N, predicted_N))
    return weights_RN @ (gold_NC * predicted_NC), weights_RN @ predicted_NC, weights_RN @ gold_NC


def rouge_l(reference: str, answer: str) -> float:
    """Compute ROUGE-L, the F1 of the longest common subsequence of stemmed words (Lin 2004); 0 to 1."""
    score: float = _scorer().score(reference, answer)["rougeL"].fmeasure
    return score


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    return RougeScorer(["rougeL"], use_stemmer=True)


def task_weights(groups: Sequence[str]) -> np.ndarray:
    """Return each task's weight in the mean over groups of the means over their tasks: [tasks], sum 1."""
    sizes = Counter(groups)
    return np.array([1 / (len(sizes) * sizes[group]) for group in groups])


def propagate_errors(shares: np.ndarray, errors: Iterable[float | None]) -> float | None:
    """Compute the standard error of a weighted sum of independent values; None if an error is unknown."""
    known = [error for error in errors if error is not None]
    return None if len(known) < len(shares) else float(np.sqrt((shares**2) @ np.square(known)))


def sum_interval(
    value: float, shares: np.ndarray, errors: Iterable[float | None], units: Iterable[int], confidence: float
) -> tuple[float, float] | None:
    """Compute Student's interval of a weighted sum of independent values, with Satterthwaite's freedom.

    Args:
        value: Weighted sum.
        shares: Weights.
        errors: Standard errors of the values.
        units: Number of independent observations behind each error.
        confidence: Level of the interval.

    Returns:
        The limits; None where an error is unknown or all are zero.
    """
    from scipy.special import stdtrit

    stderr = propagate_errors(shares, errors)
    if not stderr:
        return None
    parts = np.square(shares * np.array(list(errors), dtype=float))
    freedom = stderr**4 / (parts**2 / (np.array(list(units)) - 1)).sum()
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * stderr
    return value - half, value + half
