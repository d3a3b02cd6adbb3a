"""Aggregations against scikit-learn's and lm-eval's, for the items and for resamples of them."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from lm_eval.api.registry import AGGREGATION_REGISTRY, get_aggregation

from evals.metrics import AGGREGATIONS, aggregate, register, standard_error

GENERATOR = np.random.default_rng(0)
NUMBERS = GENERATOR.normal(-2, 1, 41).tolist()
BINARY = [(float(a), float(b)) for a, b in GENERATOR.integers(0, 2, (40, 2))]
CLASSES = [(["a", "b", "c"][a], ["a", "b", "d"][b]) for a, b in GENERATOR.integers(0, 3, (40, 2))]
WEIGHTED = [(float(a), float(b)) for a, b in zip(NUMBERS, GENERATOR.integers(1, 9, 41), strict=True)]
COUNTS = [(float(min(a, b)), float(a), float(b)) for a, b in GENERATOR.integers(0, 4, (30, 2))]
GROUPED = [("xyz"[a], "ab"[b], "abc"[c]) for a, b, c in GENERATOR.integers(0, [3, 2, 3], (60, 3))]


TYPED = [
    tuple(float(number) for a, b in row for number in (min(a, b), a, b))
    for row in GENERATOR.integers(0, 4, (30, 3, 2))
]
YES_NO = [("xyz"[a], float(b), float(c)) for a, b, c in GENERATOR.integers(0, [3, 2, 2], (60, 3))]


def by_sklearn(function, values, **options) -> float:
    gold, predicted = zip(*values, strict=True)
    return float(function(gold, predicted, **options))


def micro(values) -> float:
    right, predicted, gold = np.sum(values, axis=0)
    precision, recall = right / predicted, right / gold
    return 2 * precision * recall / (precision + recall)


def by_group(values, average: str = "weighted") -> float:
    groups = [[pair for group, *pair in values if group == name] for name in "xyz"]
    return float(np.mean([by_sklearn(reference.f1_score, pairs, average=average) for pairs in groups]))


def by_type(values) -> float:
    scores = [micro([item[first : first + 3] for item in values]) for first in (0, 3, 6)]
    return float(np.average(scores, weights=np.sum(values, axis=0)[2::3]))


def halves(values, first, second) -> float:
    options = {reference.f1_score: {"average": "weighted", "labels": sorted({gold for gold, _ in values})}}
    return sum(by_sklearn(each, values, **options.get(each, {})) for each in (first, second)) / 2


DEFINED = {
    "mean": (NUMBERS, lambda values: float(np.mean(values))),
    "median": (NUMBERS, lambda values: sorted(values)[len(values) // 2]),
    "perplexity": (NUMBERS, lambda values: math.exp(-np.mean(values))),
    "weighted_perplexity": (WEIGHTED, lambda v: math.exp(-np.sum(v, 0)[0] / np.sum(v, 0)[1])),
    "bits_per_byte": (WEIGHTED, lambda v: -np.sum(v, 0)[0] / np.sum(v, 0)[1] / math.log(2)),
    "f1": (BINARY, lambda values: by_sklearn(reference.f1_score, values)),
    "macro_f1": (CLASSES, lambda values: by_sklearn(reference.f1_score, values, average="macro")),
    "weighted_f1": (CLASSES, lambda values: by_sklearn(reference.f1_score, values, average="weighted")),
    "mean_weighted_f1": (GROUPED, by_group),
    "mean_f1": (YES_NO, lambda values: by_group(values, "binary")),
    "accuracy_and_f1": (CLASSES, lambda v: halves(v, reference.accuracy_score, reference.f1_score)),
    "f1_and_mcc": (CLASSES, lambda v: halves(v, reference.f1_score, reference.matthews_corrcoef)),
    "balanced_accuracy": (CLASSES, lambda v: by_sklearn(reference.balanced_accuracy_score, v)),
    "matthews_corrcoef": (CLASSES, lambda values: by_sklearn(reference.matthews_corrcoef, values)),
    "entity_f1": (COUNTS, micro),
    "weighted_entity_f1": (TYPED, by_type),
}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("name", DEFINED)
def test_scores_are_those_of_the_definition_for_items_and_for_resamples(name: str) -> None:
    values, defined = DEFINED[name]
    assert aggregate(name, values) == pytest.approx(defined(values), abs=1e-12)
    weights = np.random.default_rng(1).multinomial(len(values), np.full(len(values), 1 / len(values)), 5)
    expected = [
        defined([v for v, times in zip(values, w, strict=True) for _ in range(times)]) for w in weights
    ]
    assert aggregate(name, values, weights) == pytest.approx(expected, abs=1e-12)


def test_every_aggregation_has_a_definition_here() -> None:
    assert DEFINED.keys() == AGGREGATIONS.keys()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_lm_eval_knows_them_and_keeps_its_own() -> None:
    own = {name: AGGREGATION_REGISTRY[name] for name in AGGREGATION_REGISTRY}
    register()
    register()
    for name in AGGREGATIONS:
        values, defined = DEFINED[name]
        function = get_aggregation(name)
        assert function is own.get(name, function)
        assert float(function(values)) == pytest.approx(defined(values), abs=1e-12)


def test_classes_that_never_occur_score_nothing() -> None:
    assert aggregate("f1", [(0.0, 0.0), (0.0, 0.0)]) == 0
    assert aggregate("matthews_corrcoef", [(1.0, 1.0), (1.0, 1.0)]) == 0
    assert aggregate("entity_f1", [(0.0, 0.0, 0.0)]) == 0
    assert aggregate("weighted_entity_f1", [(0.0, 1.0, 0.0, 1.0, 1.0, 1.0)]) == 1
    assert aggregate("balanced_accuracy", [("a", "a"), ("a", "b"), ("b", "b")]) == 0.75


def test_standard_errors_are_those_of_the_textbook() -> None:
    right = [1.0] * 30 + [0.0] * 10
    assert standard_error("mean", right) == pytest.approx(math.sqrt(0.75 * 0.25 / 39))
    normal = np.random.default_rng(2).normal(0, 1, 400).tolist()
    delta = math.exp(-np.mean(normal)) * np.std(normal) / 20
    assert standard_error("perplexity", normal) == pytest.approx(delta, rel=0.1)
    middle = math.sqrt(math.pi / 2) / 20
    assert standard_error("median", normal) == pytest.approx(middle, rel=0.35)
    assert standard_error("mean", [1.0]) is None
    assert standard_error("f1", [(1.0, 1.0)]) is None


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_standard_errors_are_the_spread_of_scores_of_other_items(name: str) -> None:
    """Samples of 120 items of the definition's example: the scores' spread, and the errors' mean."""
    values, _ = DEFINED[name]
    generator = np.random.default_rng(4)
    scores, errors = [], []
    for _ in range(150):
        sample = [values[place] for place in generator.integers(len(values), size=120)]
        scores.append(aggregate(name, sample))
        errors.append(standard_error(name, sample))
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.25)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_standard_errors_depend_on_nothing_but_the_items(name: str) -> None:
    values, _ = DEFINED[name]
    mixed = [values[place] for place in np.random.default_rng(5).permutation(len(values))]
    assert standard_error(name, mixed) == pytest.approx(standard_error(name, values), rel=1e-9)


def test_a_model_with_one_answer_for_everything_has_the_same_error_however_often_one_looks() -> None:
    """A bootstrap's error is here that of the draws that lack a class: 0.0000, 0.005, 0.018 by the seed."""
    constant = [("yes", "yes")] * 6 + [("no", "yes")] * 6
    drawn = []
    for seed in range(8):
        weights = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), size=1000)
        drawn.append(np.std(aggregate("balanced_accuracy", constant, weights)))
    assert min(drawn) == 0.0
    assert max(drawn) > 0.01
    assert standard_error("balanced_accuracy", constant) == pytest.approx(0.0514, abs=1e-4)


def test_unanimous_shares_have_an_error_below_that_of_one_dissent() -> None:
    for count in (2, 5, 40, 400):
        none, one = ([float(place < right) for place in range(count)] for right in (0, 1))
        error = standard_error("mean", none)
        assert error is not None
        assert 0 < error < standard_error("mean", one)  # type: ignore[operator]
        assert error == standard_error("mean", [1.0] * count)
    assert standard_error("entity_f1", [(0.0, 1.0, 1.0)] * 20) == pytest.approx(0.0325, abs=1e-4)
    assert standard_error("perplexity", [-1.0] * 20) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["mean", "perplexity"])
def test_items_about_the_same_are_one_observation(name: str) -> None:
    values = np.random.default_rng(3).normal(0, 0.1, 100)
    alone = standard_error(name, values.tolist())
    fourfold = np.repeat(values, 4).tolist()
    texts = [f"{number:03}" for number in range(100) for _ in range(4)]
    assert standard_error(name, fourfold, clusters=texts) == pytest.approx(alone, rel=1e-9)
    assert standard_error(name, fourfold) == pytest.approx(alone / 2, rel=0.1)
    assert standard_error(name, fourfold, clusters=["one"] * 400) is None
