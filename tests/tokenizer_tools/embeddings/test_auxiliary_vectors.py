"""Auxiliary vectors: which tokens and words have one, seeds, n-grams, drawn rows."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from made_transfers import made_transfer, matrix
from scipy.sparse import csr_matrix
from tiny import SENTENCES, write_tiny_model

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import _word_vectors
from tokenizer_tools.embeddings._weights import normal_rows
from tokenizer_tools.embeddings._word_vectors import (
    Space,
    VectorParameters,
    texts_of,
    token_vectors,
    weighted_or_normal,
    word_space,
)
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

TEXTS = SENTENCES * 30
SMALL = VectorParameters(dimensions=8, epochs=1, min_count=10)


@pytest.fixture(autouse=True)
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_word_vectors, "_BUCKETS", 5000)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return read_vocabulary(write_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("min_count", [1, 31, 100])
def test_frequent_tokens_have_a_vector(vocabulary: Vocabulary, min_count: int) -> None:
    settings = VectorParameters(dimensions=8, epochs=1, min_count=min_count)
    vectors, known = token_vectors(vocabulary, TEXTS, settings, seed=0)
    ids = [token_id for text in TEXTS for token_id in vocabulary.tokenizer.encode(text).ids]
    assert vectors.shape == (300, 8)
    assert vectors.dtype == np.float32
    assert (known == (np.bincount(ids, minlength=300) >= min_count)).all()
    assert (vectors.any(axis=1) == known).all()
    assert not known[list(vocabulary.special.values())].any()


def test_seeds(vocabulary: Vocabulary) -> None:
    first, again, other = (token_vectors(vocabulary, TEXTS, SMALL, seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_hash_seed_of_the_process_does_not_matter(vocabulary: Vocabulary) -> None:
    script = (
        "import sys, hashlib; from pathlib import Path\n"
        "from tokenizer_tools.embeddings._word_vectors import VectorParameters, token_vectors\n"
        "from tokenizer_tools.vocabulary import read_vocabulary\n"
        "texts = ['The heart of the matter is the heart.'] * 30\n"
        "vocabulary = read_vocabulary(Path(sys.argv[1]))\n"
        "vectors, _ = token_vectors(vocabulary, texts, VectorParameters(dimensions=4), 0)\n"
        "print(hashlib.sha256(vectors.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, str(vocabulary.folder)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_only_so_many_tokens_are_read(vocabulary: Vocabulary) -> None:
    settings = VectorParameters(dimensions=8, epochs=1, min_count=1, tokens=5)
    _, known = token_vectors(vocabulary, TEXTS, settings, seed=0)
    assert known.sum() == len(set(vocabulary.tokenizer.encode(TEXTS[0]).ids[:5]))


def test_long_texts_are_read_to_their_end(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_word_vectors, "_LONGEST", 7)
    passes = list(_word_vectors._Corpus(lambda: iter([["a"] * 20, [], ["b"] * 3])))
    assert [len(words) for words in passes] == [7, 7, 6, 3]


def test_texts_in_which_all_is_rare(vocabulary: Vocabulary) -> None:
    with pytest.raises(StageFailed, match="hold nothing 10 times"):
        token_vectors(vocabulary, ["A text."], SMALL, seed=0)


def test_without_gensim(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(StageFailed) as failure:
        token_vectors(vocabulary, TEXTS, SMALL, seed=0)
    assert failure.value.hint == "pip install 'cpt-workbench[vectors]'"


def test_words_of_like_spelling_are_near() -> None:
    space = word_space(lambda: iter(["kidney doctor kidneys"] * 30), VectorParameters(), seed=0)
    vectors, _ = space.of_learnt(["kidney", "kidneys", "doctor"])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert units[0] @ units[1] > units[0] @ units[2] + 0.2


def test_words_of_a_space() -> None:
    def texts() -> Iterator[str]:
        yield from ["Fever, fever: 40 degrees!"] * 10

    space = word_space(texts, SMALL, seed=0)
    assert set(space.places) == {"Fever", "fever", ",", ":", "40", "degrees", "!"}
    limited = word_space(texts, VectorParameters(dimensions=8, min_count=1, tokens=2), seed=0)
    assert set(limited.places) == {"Fever", ","}


def test_words_that_were_not_learnt_are_made_of_trained_ngrams() -> None:
    from gensim.models.fasttext import ft_ngram_hashes

    space = word_space(lambda: iter(["fever heart"] * 10), SMALL, seed=0)
    vectors, known = space.of_any(["fever", "fevers", "zzzz", None, "heart"])
    assert known.tolist() == [True, True, False, False, True]
    assert np.array_equal(vectors[[0, 4]], space.of_learnt(["fever", "heart"])[0])
    assert not vectors[[2, 3]].any()
    shared = [
        bucket
        for bucket in ft_ngram_hashes("fevers", 3, 6, 5000)
        if bucket in ft_ngram_hashes("fever", 3, 6, 5000) + ft_ngram_hashes("heart", 3, 6, 5000)
    ]
    assert np.allclose(vectors[1], space.ngrams_BD[shared].mean(axis=0), atol=1e-6)


def test_drawn_rows_and_weighted_rows() -> None:
    weights = csr_matrix([[0.5, 0.5, 0, 0, 0, 0], [0] * 6, [0] * 6])
    drawn = np.array([False, True, True])
    rule = weighted_or_normal(weights, drawn, np.array([0, 2, 4]), seed=5)
    source = matrix()
    expected = normal_rows(source[[0, 2, 4]], 2, torch.Generator().manual_seed(5))
    rows = rule(source, "input")
    assert torch.allclose(rows[0], source[:2].mean(0))
    assert torch.equal(rows[1:], expected)
    assert rule(source.bfloat16(), "tied").dtype == torch.bfloat16
    assert rule(source[:, :1], "bias").shape == (3, 1)


def test_texts_are_needed() -> None:
    with pytest.raises(StageFailed, match="learnt from texts, and there are none"):
        texts_of(made_transfer())


def test_an_unlearnt_space_is_empty() -> None:
    empty = Space({}, np.zeros((0, 4), np.float32), np.zeros((10, 4), np.float32), np.zeros(10, bool))
    vectors, known = empty.of_any(["word", None])
    assert vectors.shape == (2, 4)
    assert not known.any()
