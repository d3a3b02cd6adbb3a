"""Rate documents by a linear classifier of hashed word n-grams, trained on positive and negative examples.

The model is that of fastText (Joulin et al. 2017, arXiv 1607.01759) without its hidden layer: logistic
regression on hashed words and word pairs, as in scikit-learn's guide to large text collections. Such
classifiers chose GPT-3's web text (Brown et al. 2020, appendix A) and DCLM's (Li et al. 2024,
arXiv 2406.11794). scikit-learn's is convex: it ends at the same weights whatever the seed, without a learning
rate or a number of epochs to suit to the number of examples. fastText is repeatable only in one thread, and
with its default rate learned nothing from 600 documents.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from cpt.corpus.digests import digest
from cpt.corpus.extras import ExtraSettings
from cpt.corpus.heldout import position
from cpt.corpus.ratings.words import vectorizer
from cpt.errors import DataError


class ClassifierSettings(ExtraSettings):
    """Settings of a classifier of good and bad examples."""

    kind: Literal["classifier"] = "classifier"
    ngrams: int = Field(
        default=2, ge=1, le=5, description="Words of the longest n-grams; 2 counts words and pairs."
    )
    buckets: int = Field(default=1 << 18, ge=2, description="Number of buckets that n-grams are hashed into.")
    penalty: float = Field(
        default=0.1, gt=0, description="Strength of the L2 penalty on the classifier's weights."
    )
    examples: int = Field(
        default=20_000,
        ge=20,
        description="Most examples of each class that are used; of more, a seeded sample.",
    )
    tested: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the examples of each class on which the classifier is tested instead of "
        "trained; accuracy and AUC are in the metrics and the report.",
    )


class Examples:
    """A bounded, seeded sample of one class's texts, independent of their order."""

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._kept: list[tuple[float, bytes, str]] = []

    def add(self, text: str) -> None:
        """Take one text; the ones with the lowest hash of (seed, digest) stay."""
        key = digest(text)
        entry = (-_place(key, self._seed), key, text)
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def split(self, tested: float) -> tuple[list[str], list[str]]:
        """Return the texts to train and to test on, at least one on each side.

        Raises:
            ValueError: There are fewer than two texts.
        """
        if len(self._kept) < 2:
            raise ValueError(f"a classifier needs two examples of each class, not {len(self._kept)}")
        ordered = sorted(self._kept, key=lambda entry: position(entry[1], self._seed))
        first = min(max(1, round(tested * len(ordered))), len(ordered) - 1)
        texts = [text for _, _, text in ordered]
        return texts[first:], texts[:first]

    def __len__(self) -> int:
        return len(self._kept)


def _place(key: bytes, seed: int) -> float:
    salt = seed.to_bytes(16, "little", signed=True)
    hashed = hashlib.blake2b(key, digest_size=8, salt=salt, person=b"examples").digest()
    return int.from_bytes(hashed, "little") / 2**64


@dataclass(frozen=True)
class Test:
    """The result of a classifier on examples that it was not trained on.

    Attributes:
        accuracy: Mean of the shares of positives and of negatives that are told right; 0.5 is guessing.
        auc: Probability that a positive has higher log odds than a negative; 0.5 is guessing.
    """

    trained: int
    tested: int
    accuracy: float
    auc: float


class Classifier:
    """Logistic regression on hashed n-grams; classes weigh equally, whatever their number of examples."""

    def __init__(
        self, settings: ClassifierSettings, positive: Sequence[str], negative: Sequence[str]
    ) -> None:
        """Train on texts of both classes.

        Raises:
            DataError: The texts have no words.
        """
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

        self._vectorizer = vectorizer(settings.ngrams, settings.buckets, unit_length=True)
        features = self._vectorizer.transform([*positive, *negative])
        if not features.nnz:
            raise DataError("the examples have no words", hint="Check the sources' text_field.")
        labels = np.repeat([1, 0], [len(positive), len(negative)])
        self._model: Any = LogisticRegression(
            C=1 / settings.penalty, class_weight="balanced", max_iter=1000, random_state=0
        )
        self._model.fit(features, labels)

    def log_odds(self, texts: Sequence[str]) -> np.ndarray:
        """Return the natural log odds that texts are positive, float64 (texts,)."""
        return np.asarray(self._model.decision_function(self._vectorizer.transform(texts)), dtype=np.float64)


def trained(settings: ClassifierSettings, positive: Examples, negative: Examples) -> tuple[Classifier, Test]:
    """Train a classifier on most of the examples, and test it on the others.

    Raises:
        ValueError: A class has fewer than two examples.
        DataError: The examples have no words.
    """
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score  # type: ignore[import-untyped]

    good, good_test = positive.split(settings.tested)
    bad, bad_test = negative.split(settings.tested)
    classifier = Classifier(settings, good, bad)
    labels = np.repeat([1, 0], [len(good_test), len(bad_test)])
    odds = classifier.log_odds([*good_test, *bad_test])
    return classifier, Test(
        trained=len(good) + len(bad),
        tested=len(labels),
        accuracy=float(balanced_accuracy_score(labels, odds > 0)),
        auc=float(roc_auc_score(labels, odds)),
    )


def collected(texts: Iterable[str], settings: ClassifierSettings, seed: int) -> Examples:
    """Return a sample of the texts of one class."""
    sample = Examples(settings.examples, seed)
    for text in texts:
        sample.add(text)
    return sample
