"""FOCUS: closed form for given vectors, convex weights on shared tokens, what each parameter does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_transfers import ROLES, made_rows, made_transfer, matrix
from tiny import SENTENCES, write_tiny_model

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import _word_vectors, focus
from tokenizer_tools.embeddings._weights import normal_rows, sparsemax
from tokenizer_tools.transfer import Transfer, plan_transfer

SETTINGS = {"dimensions": 8, "min_count": 20}


@pytest.fixture(autouse=True)
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_word_vectors, "_BUCKETS", 5000)


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    folder = tmp_path_factory.mktemp("models")
    source, target = write_tiny_model(folder / "old"), write_tiny_model(folder / "new", vocabulary=330)
    return plan_transfer(source, target, source, texts=lambda: iter(SENTENCES * 30))


def given(monkeypatch: pytest.MonkeyPatch, vectors: torch.Tensor, known: list[bool]) -> None:
    """Auxiliary vectors that were not learnt."""
    monkeypatch.setattr(focus, "token_vectors", lambda *_: (vectors.numpy(), np.array(known)))


def test_rows_are_shared_rows_by_the_sparsemax_of_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six source tokens four are shared, of those three have a vector; one new token has none."""
    vectors = matrix(8, 3, seed=1)
    given(monkeypatch, vectors, [True, True, True, False, True, True, True, False])
    transfer = replace(made_transfer([[0], [1]], shared=[0, 2, 3, 5]), texts=lambda: iter([]), seed=4)
    source = matrix()
    cosines = torch.cosine_similarity(vectors[6], vectors[[0, 2, 5]], dim=1)
    expected = sparsemax(cosines[None]) @ source[[0, 2, 5]]
    rows = made_rows("focus", transfer, source)
    assert torch.allclose(rows[:1], expected, atol=1e-6)
    drawn = normal_rows(source[[0, 2, 3, 5]], 1, torch.Generator().manual_seed(4))
    assert torch.equal(rows[1:], drawn)


def test_without_shared_vectors_all_rows_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, matrix(8, 3), [False] * 6 + [True] * 2)
    transfer = replace(made_transfer([[0], [1]]), texts=lambda: iter([]))
    source = matrix()
    expected = normal_rows(source, 2, torch.Generator().manual_seed(0))
    assert torch.equal(made_rows("focus", transfer, source), expected)


def test_weights_are_convex_and_on_shared_tokens(transfer: Transfer) -> None:
    rows = {role: made_rows("focus", transfer, torch.eye(300), role, **SETTINGS) for role in ROLES}
    weights = rows["input"]
    made = (weights >= 0).all(1)
    assert 0 < made.sum() < len(transfer.new)
    assert torch.allclose(weights[made].sum(1), torch.ones(int(made.sum())), atol=1e-5)
    unshared = np.setdiff1d(np.arange(300), transfer.shared_source)
    assert not weights[made][:, unshared].any()
    assert all(torch.equal(weights, other) for other in rows.values())


def test_bias_and_embedding_have_the_same_weights(transfer: Transfer) -> None:
    source = matrix(300, 5)
    embedding = made_rows("focus", transfer, source, "output", **SETTINGS)
    bias = made_rows("focus", transfer, source[:, :1], "bias", **SETTINGS)
    made = (made_rows("focus", transfer, torch.eye(300), **SETTINGS) >= 0).all(1)
    assert torch.allclose(bias[made], embedding[made, :1], atol=1e-6)


def test_seeds(transfer: Transfer) -> None:
    first, again, other = (
        made_rows("focus", replace(transfer, seed=seed), matrix(300), **SETTINGS) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "change", [{"dimensions": 9}, {"epochs": 1}, {"negative": 3}, {"min_count": 61}, {"tokens": 1100}]
)
def test_every_parameter_changes_the_rows(change: dict[str, int], transfer: Transfer) -> None:
    source, settings = matrix(300), SETTINGS | change
    assert not torch.allclose(
        made_rows("focus", transfer, source, **SETTINGS), made_rows("focus", transfer, source, **settings)
    )


def test_texts_are_needed(transfer: Transfer) -> None:
    with pytest.raises(StageFailed, match="there are none"):
        made_rows("focus", replace(transfer, texts=None), matrix(300))
