"""WECHSEL: closed form for given word vectors, one space and two, dictionaries, what each parameter does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_transfers import ROLES, made_rows, matrix, vocabulary
from pydantic import ValidationError
from tiny import SENTENCES, write_tiny_model

from cpt.errors import DataError, StageFailed
from tokenizer_tools.embeddings import _word_vectors, wechsel
from tokenizer_tools.embeddings._weights import normal_rows
from tokenizer_tools.embeddings._word_vectors import WordVectors
from tokenizer_tools.transfer import Transfer, plan_transfer

SOURCE = ["heart", " heart", " liver", "\n", " lung", None]
SETTINGS = {"dimensions": 8}


@pytest.fixture(autouse=True)
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_word_vectors, "_BUCKETS", 5000)


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    folder = tmp_path_factory.mktemp("models")
    source, target = write_tiny_model(folder / "old"), write_tiny_model(folder / "new", vocabulary=330)
    return plan_transfer(source, target, source, texts=lambda: iter(SENTENCES * 30))


def space(vectors: torch.Tensor, words: list[str]) -> WordVectors:
    """A space of these words, without n-grams."""
    places = {word: index for index, word in enumerate(words)}
    return WordVectors(
        places, vectors.numpy(), np.zeros((100, vectors.shape[1]), np.float32), np.zeros(100, bool)
    )


def made_of_words(new: list[str]) -> Transfer:
    """New tokens after five source tokens, none of which is shared."""
    none = np.empty(0, np.int64)
    return Transfer(
        source=vocabulary(SOURCE),
        target=vocabulary(new),
        model=Path(),
        shared_source=none,
        shared_target=none,
        new=np.arange(len(new)),
        pieces=[[] for _ in new],
        seed=2,
        texts=lambda: iter([]),
    )


def expected_row(word: torch.Tensor, keys: torch.Tensor, rows: torch.Tensor, top: int, temperature: float):
    scores, places = torch.cosine_similarity(word, keys, dim=1).topk(top)
    return (scores / temperature).softmax(0) @ rows[places]


@pytest.mark.parametrize("parameters", [{}, {"neighbours": 2}, {"temperature": 0.7}])
def test_rows_in_closed_form(parameters: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces around a word do not count; a line break is no word, nor is a token that the space lacks."""
    vectors = matrix(4, 3, seed=1)
    found = space(vectors, ["heart", "liver", "lung", "kidney"])
    monkeypatch.setattr(wechsel, "word_space", lambda *_: found)
    source, transfer = matrix(), made_of_words([" kidney", "unheard"])
    rows = made_rows("wechsel", transfer, source, **parameters)
    top, temperature = int(parameters.get("neighbours", 4)), parameters.get("temperature", 0.1)
    expected = expected_row(vectors[3], vectors[[0, 0, 1, 2]], source[[0, 1, 2, 4]], top, temperature)
    assert torch.allclose(rows[0], expected, atol=1e-6)
    drawn = normal_rows(source[:5], 1, torch.Generator().manual_seed(2))
    assert torch.equal(rows[1:], drawn)


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_turned_space_is_turned_back(
    dictionary: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another language's words have the source words' vectors, turned: rows are as in one space."""
    source_words, vectors = ["heart", "liver", "lung", "kidney"], matrix(4, 3, seed=1)
    words = ["Herz", "Leber", "Lunge", "Niere"] if dictionary else source_words
    turn = torch.linalg.qr(matrix(3, 3, seed=3)).Q
    spaces = {False: space(2 * vectors @ turn, words), True: space(vectors, source_words)}
    monkeypatch.setattr(wechsel, "word_space", lambda texts, *_: spaces["any words" in texts()])
    (tmp_path / "texts").write_text("any words\n")
    settings = {"source_texts": tmp_path / "texts"}
    if dictionary:
        lines = ["heart\tHerz", "liver Leber", "", "lung  Lunge", "big house\tgroßes Haus"]
        (tmp_path / "dictionary").write_text("\n".join(lines), encoding="utf-8")
        settings["dictionary"] = tmp_path / "dictionary"
    source = matrix()
    row = made_rows("wechsel", made_of_words([" " + words[3]]), source, **settings)[0]
    expected = expected_row(vectors[3], vectors[[0, 0, 1, 2]], source[[0, 1, 2, 4]], 4, 0.1)
    assert torch.allclose(row, expected, atol=1e-5)


def test_spaces_without_a_common_word() -> None:
    spaces = space(matrix(1, 3), ["heart"]), space(matrix(1, 3), ["Herz"])
    with pytest.raises(StageFailed, match="cannot be aligned"):
        wechsel.rotation(*spaces, [("liver", "Herz")])


def test_a_damaged_dictionary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wechsel, "word_space", lambda *_: space(matrix(1, 3), ["heart"]))
    (tmp_path / "dictionary").write_text("heart Herz\nliver\n")
    with pytest.raises(DataError, match="dictionary:2: a line"):
        made_rows(
            "wechsel",
            made_of_words([" kidney"]),
            matrix(),
            source_texts=tmp_path / "texts",
            dictionary=tmp_path / "dictionary",
        )


def test_source_texts_that_are_no_text(transfer: Transfer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as text"):
        made_rows("wechsel", transfer, matrix(300), source_texts=tmp_path / "missing", **SETTINGS)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read as text"):
        made_rows("wechsel", transfer, matrix(300), source_texts=tmp_path / "bytes", **SETTINGS)


def test_a_dictionary_needs_a_second_language() -> None:
    with pytest.raises(ValidationError, match="a dictionary needs source_texts"):
        wechsel.Parameters(dictionary=Path("dictionary"))


def test_weights_are_convex_and_few(transfer: Transfer) -> None:
    rows = {role: made_rows("wechsel", transfer, torch.eye(300), role, **SETTINGS) for role in ROLES}
    weights = rows["input"]
    made = (weights >= 0).all(1)
    assert made.sum() > len(transfer.new) / 2
    assert torch.allclose(weights[made].sum(1), torch.ones(int(made.sum())), atol=1e-5)
    assert ((weights[made] > 0).sum(1) == 10).all()
    assert all(torch.equal(weights, other) for other in rows.values())


def test_seeds(transfer: Transfer) -> None:
    first, again, other = (
        made_rows("wechsel", replace(transfer, seed=seed), matrix(300), **SETTINGS) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_texts_in_another_language_change_the_rows(transfer: Transfer, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("\n".join(SENTENCES[:3] * 40))
    source = matrix(300)
    one = made_rows("wechsel", transfer, source, **SETTINGS)
    two = made_rows("wechsel", transfer, source, source_texts=tmp_path / "texts", **SETTINGS)
    assert two.isfinite().all()
    assert not torch.allclose(one, two)


def test_texts_are_needed(transfer: Transfer) -> None:
    with pytest.raises(StageFailed, match="there are none"):
        made_rows("wechsel", replace(transfer, texts=None), matrix(300))
