"""The classifier of examples: what it learns, its test, its seeds, its settings."""

from __future__ import annotations

import numpy as np
import pytest

from cpt.corpus.ratings import ClassifierSettings
from cpt.corpus.ratings.classifier import Classifier, Examples, collected, trained
from cpt.errors import DataError

GOOD = [f"The patient number {n} has fever and pain in the liver." for n in range(60)]
BAD = [f"The tenant number {n} pays rent to the lessor in full." for n in range(40)]


def classifier_of(**given: object) -> Classifier:
    return Classifier(ClassifierSettings(**{"buckets": 4096, **given}), GOOD, BAD)  # type: ignore[arg-type]


def test_it_tells_classes_apart_on_examples_that_it_has_not_seen() -> None:
    settings = ClassifierSettings(buckets=4096)
    classifier, test = trained(settings, collected(GOOD, settings, 17), collected(BAD, settings, 17))
    assert (test.trained, test.tested, test.accuracy, test.auc) == (80, 20, 1.0, 1.0)
    odds = classifier.log_odds(["fever of the liver", "rent of the lessor", ""])
    assert odds[0] > 0 > odds[1]
    assert np.isfinite(odds).all()


def test_labels_without_meaning_are_not_told_apart() -> None:
    settings = ClassifierSettings(tested=0.5, buckets=4096)
    texts = [
        f"{' '.join(str(word) for word in np.random.default_rng(n).integers(0, 50, 20))}" for n in range(600)
    ]
    _, test = trained(settings, collected(texts[::2], settings, 1), collected(texts[1::2], settings, 1))
    assert test.auc == pytest.approx(0.5, abs=0.12)
    assert test.accuracy == pytest.approx(0.5, abs=0.12)


def test_log_odds_are_the_weights_of_the_regression() -> None:
    """The optimum's own condition: the penalty's gradient is the sum of the weighted residuals."""
    classifier = classifier_of(ngrams=1, buckets=64, penalty=1.0)
    features = classifier._vectorizer.transform([*GOOD, *BAD]).toarray()
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(100))
    labels = np.repeat([1, 0], [60, 40])
    balance = np.repeat([100 / 2 / 60, 100 / 2 / 40], [60, 40])
    wrong = balance * (1 / (1 + np.exp(-classifier.log_odds([*GOOD, *BAD]))) - labels)
    assert classifier._model.coef_[0] == pytest.approx(-(wrong @ features), rel=0.02, abs=0.01)


def test_a_stronger_penalty_pulls_log_odds_to_nothing() -> None:
    weak, strong = (classifier_of(penalty=penalty).log_odds(GOOD[:1])[0] for penalty in (0.1, 100))
    assert weak > 5 * strong > 0


def test_pairs_of_words_tell_order() -> None:
    good, bad = ["heart attack"] * 5, ["attack heart"] * 5
    words, pairs = (
        Classifier(ClassifierSettings(ngrams=n), good, bad).log_odds(["heart attack"])[0] for n in (1, 2)
    )
    assert abs(words) < 1e-6 < 0.5 < pairs


def test_few_buckets_collide() -> None:
    assert abs(classifier_of(buckets=2).log_odds(GOOD[:1])[0]) < classifier_of().log_odds(GOOD[:1])[0]


def test_examples_are_a_seeded_sample_that_no_order_changes() -> None:
    settings = ClassifierSettings(examples=20)
    forwards, backwards = (collected(texts, settings, 17) for texts in (GOOD, GOOD[::-1]))
    assert forwards.split(0.2) == backwards.split(0.2)
    train, test = forwards.split(0.2)
    assert (len(train), len(test), len(forwards)) == (16, 4, 20)
    assert not set(train) & set(test)
    other = collected(GOOD, settings, 18).split(0.2)
    assert set(other[0] + other[1]) != set(train + test)


def test_two_examples_are_the_least() -> None:
    sample = Examples(20, 17)
    sample.add("one")
    with pytest.raises(ValueError, match="two examples of each class, not 1"):
        sample.split(0.2)
    sample.add("two")
    assert list(map(len, sample.split(0.01))) == [1, 1]
    assert list(map(len, sample.split(0.99))) == [1, 1]


def test_examples_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="no words"):
        Classifier(ClassifierSettings(), [" "], [" "])
