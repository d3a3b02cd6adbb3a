"""Signatures agree as the formulas say, and depend on nothing but a text's set of n-grams."""

from __future__ import annotations

import numpy as np
import pytest
from near_copies import WORDS, near_copy, unrelated

from cpt.corpus.minhash import MinHash, band_keys, found_by_bands, is_empty
from cpt.corpus.minhash import sign as sign_in_batches


def sign(texts: list[str], **settings: object) -> np.ndarray:
    return np.concatenate(list(sign_in_batches(texts, MinHash.model_validate(settings))))


def test_the_formula_has_the_published_values() -> None:
    published = {0.5: 0.053, 0.7: 0.565, 0.8: 0.924, 0.9: 0.9996}
    for similarity, probability in published.items():
        assert found_by_bands(similarity, 14, 8) == pytest.approx(probability, abs=6e-4)
    assert MinHash().similarity == pytest.approx(0.719, abs=1e-3)
    assert found_by_bands(MinHash().similarity, 14, 8) == pytest.approx(1 - (13 / 14) ** 14)


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("shared", [0.55, 0.7, 0.82, 0.9])
@pytest.mark.parametrize("shape", [(14, 8), (20, 5)])
def test_pairs_are_found_as_often_as_the_formula_says(
    size: int, shared: float, shape: tuple[int, int]
) -> None:
    bands, rows = shape
    generator = np.random.default_rng([size, round(shared * 100), bands])
    both = round(2 * size * shared / (1 + shared))
    similarity, pairs, texts = both / (2 * size - both), 400, []
    for _ in range(pairs):
        words = generator.choice(WORDS, 2 * size - both, replace=False)
        texts += [" ".join(words[:size]), " ".join([*words[:both], *words[size:]])]
    signatures = sign(texts, ngram=1, bands=bands, rows=rows)
    keys = np.stack([band_keys(signatures, band, rows) for band in range(bands)])
    found = (keys[:, ::2] == keys[:, 1::2]).any(axis=0).mean()
    expected = found_by_bands(similarity, bands, rows)
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / pairs) + 1 / pairs
    alike = (signatures[::2] == signatures[1::2]).mean()
    assert abs(alike - similarity) < 4 * np.sqrt(similarity * (1 - similarity) / pairs / bands / rows)


def test_keys_of_bands_are_equal_for_equal_bands_alone() -> None:
    signatures = sign(unrelated(np.random.default_rng(0), 300, 6))
    for band in range(14):
        _, keys = np.unique(band_keys(signatures, band, 8), return_inverse=True)
        rows = np.unique(signatures[:, band * 8 : band * 8 + 8], axis=0, return_inverse=True)[1]
        assert ((keys[:, None] == keys) == (rows[:, None] == rows)).all()


def test_case_punctuation_and_repetition_change_nothing() -> None:
    text = "the fever of the night comes back in the morning"
    same = [text, "The fever -- of the night -- comes back, in the MORNING!", f"{text} {text}"]
    signatures = sign([same[0], same[1], same[2]])
    assert (signatures[0] == signatures[1]).all()
    assert (signatures[0] == signatures[2]).mean() < 1  # n-grams over the joint
    words = sign([same[0], same[2]], ngram=1)
    assert (words[0] == words[1]).all()


def test_short_texts_are_their_words_and_texts_without_words_are_told() -> None:
    signatures = sign(["a cold", "A cold.", "a cough", "", "...", "one two three four five"])
    assert is_empty(signatures).tolist() == [False, False, False, True, True, False]
    assert (signatures[0] == signatures[1]).all()
    assert not (signatures[0] == signatures[2]).all()


def test_a_signature_does_not_depend_on_the_other_texts() -> None:
    texts = ["short", *unrelated(np.random.default_rng(1), 50), "", "two words"]
    together = sign(texts)
    alone = np.concatenate([sign([text]) for text in texts])
    assert (together == alone).all()
    assert (sign(texts[::-1]) == together[::-1]).all()


def test_a_long_text_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    [text] = unrelated(np.random.default_rng(2), 1, 30_000)  # more than one block of 65,536 characters
    copy, similarity = near_copy(text, 5, 3_000)
    signatures = sign([text, copy])
    monkeypatch.setattr("cpt.corpus.minhash._CHARACTERS_AT_ONCE", 1000)
    assert (sign(["short", text, copy, "short"])[1:3] == signatures).all()
    assert (signatures[0] == signatures[1]).mean() == pytest.approx(similarity, abs=0.15)


def test_a_long_text_of_few_words_is_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["x" * 3000, "x" * 3000 + " cold", "x" * 3000 + " cough", "." * 3000]
    expected = sign(texts)
    monkeypatch.setattr("cpt.corpus.minhash._CHARACTERS_AT_ONCE", 1000)
    assert (sign(texts) == expected).all()
    assert is_empty(expected).tolist() == [False, False, False, True]


def test_settings_change_signatures() -> None:
    [text] = unrelated(np.random.default_rng(3), 1)
    assert sign([text]).shape == (1, 112)
    assert sign([text], bands=3, rows=2).shape == (1, 6)
    assert not (sign([text], ngram=5) == sign([text], ngram=4)).all()
