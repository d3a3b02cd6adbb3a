"""Word vectors learned from texts, and weights by their cosines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from made_transfers import made_transfer, matrix
from scipy.sparse import csr_matrix
from tiny import SENTENCES, write_tiny_model

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import _weights, _word_vectors
from tokenizer_tools.embeddings._weights import (
    cosines,
    neighbour_weights,
    normal_rows,
    placed,
    sparsemax,
    top_softmax,
)
from tokenizer_tools.embeddings._word_vectors import (
    VectorParameters,
    WordVectors,
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
    """Another process with its own seed learns what this one does."""
    script = (
        "import sys, hashlib; from pathlib import Path\n"
        "from tokenizer_tools.embeddings import _word_vectors as learner\n"
        "from tokenizer_tools.vocabulary import read_vocabulary\n"
        "learner._BUCKETS = 5000\n"
        "texts = ['The heart of the matter is the heart.'] * 30\n"
        "vocabulary = read_vocabulary(Path(sys.argv[1]))\n"
        "vectors, _ = learner.token_vectors(vocabulary, texts, learner.VectorParameters(dimensions=4), 0)\n"
        "print(hashlib.sha256(vectors.tobytes()).hexdigest())"
    )
    own = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    found = subprocess.run(
        [sys.executable, "-c", script, str(vocabulary.folder)],
        env={**os.environ, "PYTHONHASHSEED": own},
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    texts = ["The heart of the matter is the heart."] * 30
    vectors, _ = token_vectors(vocabulary, texts, VectorParameters(dimensions=4), 0)
    assert hashlib.sha256(vectors.tobytes()).hexdigest() == found


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
    vectors, _ = space.of_learned(["kidney", "kidneys", "doctor"])
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
    assert np.array_equal(vectors[[0, 4]], space.of_learned(["fever", "heart"])[0])
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
    empty = WordVectors({}, np.zeros((0, 4), np.float32), np.zeros((10, 4), np.float32), np.zeros(10, bool))
    vectors, known = empty.of_any(["word", None])
    assert vectors.shape == (2, 4)
    assert not known.any()


def scores(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    """Of the projections on all faces, the nearest one that lies in the simplex."""
    best, least = np.zeros_like(point), np.inf
    for size in range(1, len(point) + 1):
        for face in combinations(range(len(point)), size):
            found = np.zeros_like(point)
            found[list(face)] = point[list(face)] - (point[list(face)].sum() - 1) / size
            if (found >= 0).all() and ((found - point) ** 2).sum() < least:
                best, least = found, ((found - point) ** 2).sum()
    return best


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 5.0])
def test_sparsemax_is_the_nearest_point_of_the_simplex(scale: float) -> None:
    points = scale * scores(50, 7)
    expected = np.array([nearest_on_simplex(point) for point in points.double().numpy()])
    assert np.allclose(sparsemax(points), expected, atol=1e-6)


def test_sparsemax_of_ends_and_middles() -> None:
    rows = torch.tensor([[0.0, 2.0, 0.5], [0.3, 0.3, 0.3], [0.6, 0.4, -1.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.6, 0.4, 0.0]])
    assert torch.allclose(sparsemax(rows), expected)
    assert torch.allclose(sparsemax(rows + 7), expected, atol=1e-6)


def test_sparsemax_of_many() -> None:
    weights = sparsemax(0.2 * scores(20, 5000))
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(20), atol=1e-5)
    assert ((weights > 0).sum(1) < 100).all()


@pytest.mark.parametrize("support", [100, 128, 129, 600])
def test_sparsemax_with_a_large_support(support: int) -> None:
    row = torch.cat([torch.full((support,), 0.5), torch.full((700 - support,), 0.1)])
    weights = sparsemax(torch.stack([row, row.flip(0), scores(1, 700)[0]]))
    expected = (row == 0.5) / support
    assert torch.allclose(weights[:2], torch.stack([expected, expected.flip(0)]), atol=1e-6)
    assert torch.allclose(weights[2:], sparsemax(scores(1, 700)), atol=1e-6)


def test_top_softmax() -> None:
    weights = top_softmax(torch.tensor([[0.1, 0.5, 0.4, -1.0]]), count=2, temperature=0.1)
    expected = torch.tensor([5.0, 4.0]).softmax(0)
    assert torch.allclose(weights, torch.tensor([[0, expected[0], expected[1], 0]]))
    everything = top_softmax(scores(3, 4), count=9, temperature=2.0)
    assert torch.allclose(everything, (scores(3, 4) / 2).softmax(1))


def test_cosines() -> None:
    queries, keys = scores(5, 3), torch.cat([scores(4, 3, seed=1), torch.zeros(1, 3)])
    found = torch.cat(list(cosines(queries, keys)))
    assert torch.allclose(found[:, :4], torch.cosine_similarity(queries[:, None], keys[None, :4], dim=2))
    assert torch.equal(found[:, 4], torch.zeros(5))


@pytest.mark.parametrize("share", [sparsemax, partial(top_softmax, count=3, temperature=0.1)])
def test_parts_give_the_same_weights(share: _weights.Share, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = scores(23, 8), scores(40, 8, seed=1)
    dense = share(torch.cat(list(cosines(queries, keys))))
    monkeypatch.setattr(_weights, "_CHUNK_ELEMENTS", 200)
    assert len(list(cosines(queries, keys))) == 5
    weights = neighbour_weights(queries, keys, share)
    assert np.allclose(weights.toarray(), dense, atol=1e-6)
    assert weights.nnz == (dense != 0).sum()


def test_no_queries_have_no_weights() -> None:
    assert neighbour_weights(scores(0, 8), scores(4, 8), sparsemax).shape == (0, 4)
    assert neighbour_weights(scores(0, 8), scores(0, 8), sparsemax).shape == (0, 0)


def test_weights_are_placed_at_their_ids() -> None:
    weights = neighbour_weights(
        scores(2, 8), scores(3, 8, seed=1), partial(top_softmax, count=3, temperature=1)
    )
    found = placed(weights, np.array([1, 3]), np.array([5, 0, 2]), (4, 6)).toarray()
    expected = np.zeros((4, 6))
    expected[np.ix_([1, 3], [5, 0, 2])] = weights.toarray()
    assert (found == expected).all()
