"""The n-gram model against sums to one, a plain implementation with dictionaries, and figures by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from cpt.corpus.kneser_ney import KneserNey

VOCABULARY = 7


def documents(seed: int = 1, count: int = 12) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCABULARY - 1, size=int(random.integers(1, 9))) for _ in range(count)]


class Plain:
    """The definition, n-gram by n-gram; `None` marks a document's beginning."""

    def __init__(self, texts: list[np.ndarray], order: int) -> None:
        raw: list[Counter] = [Counter() for _ in range(order + 1)]
        for text in texts:
            marked = (None, *text.tolist())
            for end in range(1, len(marked)):
                for length in range(1, min(order, end + 1) + 1):
                    raw[length][marked[end + 1 - length : end + 1]] += 1
        self.counts: list[dict] = [{} for _ in range(order + 1)]
        for length in range(1, order + 1):
            longer = raw[length + 1] if length < order else {}
            ways = Counter(gram[1:] for gram in longer)
            self.counts[length] = {gram: ways.get(gram) or count for gram, count in raw[length].items()}
        self.order = order

    def discount(self, length: int) -> float:
        once, twice = (sum(c == times for c in self.counts[length].values()) for times in (1, 2))
        return once / (once + 2 * twice) if once else 0.5

    def probability(self, context: tuple, token: int) -> float:
        result = 1 / VOCABULARY
        for length in range(1, self.order + 1):
            if length - 1 > len(context):
                break
            before = context[len(context) - length + 1 :]
            followers = {gram: c for gram, c in self.counts[length].items() if gram[:-1] == before}
            if followers:
                discount, total = self.discount(length), sum(followers.values())
                own = followers.get((*before, token), discount)
                result = (own - discount + discount * len(followers) * result) / total
        return result

    def bits(self, text: np.ndarray) -> float:
        marked = (None, *text.tolist())
        return -sum(math.log2(self.probability(marked[:end], marked[end])) for end in range(1, len(marked)))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_the_definition(order: int) -> None:
    model, plain = KneserNey(documents(), order, VOCABULARY), Plain(documents(), order)
    asked = [*documents(), *documents(seed=2), np.array([6, 6, 0, 6])]
    np.testing.assert_allclose(model.bits(asked), [plain.bits(text) for text in asked], rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_of_all_tokens_sum_to_one_after_any_context(order: int) -> None:
    model = KneserNey(documents(), order, VOCABULARY)
    for context in ([], [0], [6], [1, 2, 3], [5, 6, 0, 0], documents()[0].tolist()):
        all_next = [np.array([*context, token]) for token in range(VOCABULARY)]
        own = model.bits([np.array(context, dtype=np.int64)])[0]
        assert 2.0 ** -(model.bits(all_next) - own) @ np.ones(VOCABULARY) == pytest.approx(1)


def test_figures_by_hand() -> None:
    # "0 1" twice: bigrams (mark 0) and (0 1) count 2 each, none once, so the discount is 0.5; either token
    # ends one kind of bigram: unigrams count 1 each, one discount of 1, which leaves all to the uniform one.
    model = KneserNey([np.array([0, 1]), np.array([0, 1])], order=2, vocabulary=4)
    after = (2 - 0.5 + 0.5 * 0.25) / 2
    assert model.bits([np.array([0, 1])])[0] == pytest.approx(-2 * math.log2(after))
    assert model.bits([np.array([3])])[0] == pytest.approx(-math.log2(0.5 * 0.25 / 2))


def test_documents_are_apart_in_what_is_asked() -> None:
    model = KneserNey(documents(), 3, VOCABULARY)
    one, other = documents()[:2]
    assert model.bits([one, other]).tolist() == [model.bits([one])[0], model.bits([other])[0]]


def test_text_like_the_reference_takes_fewer_bits() -> None:
    model = KneserNey([np.tile([0, 1, 2], 10)] * 5, 3, VOCABULARY)
    like, unlike = model.bits([np.tile([0, 1, 2], 4), np.tile([2, 1, 0], 4)])
    assert like < unlike / 3
