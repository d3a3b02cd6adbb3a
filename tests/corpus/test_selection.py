"""Which documents are selected: tokens, ties, guards, and ratings that a killed run goes on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpt.corpus.build import write_source
from cpt.corpus.digests import Digests, digest
from cpt.corpus.document_tokenizer import DocumentTokenizer
from cpt.corpus.documents import Document, read_documents
from cpt.corpus.heldout import Always, ByHash
from cpt.corpus.selection import (
    Candidates,
    best,
    candidates,
    chance,
    keep,
    nearest,
    rate,
    repetition,
    texts_to_rate,
    unfit,
)
from cpt.errors import DataError
from cpt.progress import NullProgress


def found(tokens: list[int], repeated: list[float] | None = None) -> Candidates:
    digests = Digests(bytes([number]) * 16 for number in range(len(tokens)))
    return Candidates(digests, np.array(tokens), np.array(repeated or [0.0] * len(tokens)))


def kept(reasons: np.ndarray) -> list[int]:
    return np.flatnonzero(reasons == "").tolist()


@pytest.mark.parametrize(
    ("tokens", "chosen"),
    [(1, [2]), (10, [2]), (11, [0, 2]), (30, [0, 2]), (31, [0, 1, 2]), (36, [0, 1, 2, 3])],
)
def test_the_fewest_best_documents_that_hold_enough_tokens(tokens: int, chosen: list[int]) -> None:
    among = found([20, 5, 10, 1])
    ratings = np.array([0.2, 0.3, 0.1, 0.4])
    assert kept(best(among, ratings, unfit(among, 0, 1), tokens)) == chosen


def test_ties_go_by_the_text_and_not_by_the_order_of_reading() -> None:
    among = found([10] * 6)
    backwards = Candidates(among.digests[::-1], among.tokens, among.repeated)
    no_reasons = unfit(among, 0, 1)
    chosen = {among.digests[at] for at in kept(best(among, np.ones(6), no_reasons, 25))}
    assert chosen == {backwards.digests[at] for at in kept(best(backwards, np.ones(6), no_reasons, 25))}
    assert len(chosen) == 3


def test_the_order_is_that_of_pairs_of_rating_and_digest() -> None:
    random = np.random.default_rng(3)
    among = Candidates(Digests(random.bytes(16) for _ in range(200)), np.ones(200, int), np.zeros(200))
    ratings = random.integers(0, 5, 200) / 4
    pairs = sorted(range(200), key=lambda at: (ratings[at], among.digests[at]))
    assert sorted(pairs[:80]) == kept(nearest(among, ratings, 80))


def test_what_is_short_or_repeats_itself_cannot_be_selected_however_well_it_rates() -> None:
    among = found([9, 50, 50, 9], [0.0, 0.31, 0.3, 0.9])
    reasons = unfit(among, min_tokens=10, max_repetition=0.3)
    assert reasons.tolist() == ["too_short", "repetitive", "", "too_short"]
    after = best(among, np.array([0.0, 0.0, 9.0, 0.0]), reasons, 50)
    assert after.tolist() == reasons.tolist()


def test_nearest_takes_what_comes_closest_to_the_tokens_and_never_nothing() -> None:
    among, ratings = found([10, 10, 10]), np.array([0.3, 0.1, 0.2])
    assert [kept(nearest(among, ratings, tokens)) for tokens in (0.1, 14, 16, 99)] == [
        [1],
        [1],
        [1, 2],
        [0, 1, 2],
    ]


def test_chance_is_uniform_seeded_and_each_documents_own() -> None:
    keys = [digest(f"document {number}") for number in range(2000)]
    ratings = chance(keys, 17)
    assert abs(ratings.mean() - 0.5) < 0.03
    assert abs((ratings < 0.1).mean() - 0.1) < 0.03
    assert np.array_equal(ratings, chance(keys, 17))
    assert ratings[5] == chance(keys[5:6], 17)[0]
    assert abs(np.corrcoef(ratings, chance(keys, 18))[0, 1]) < 0.1
    held_out_first = [ByHash(0.5, 17)(key) == "heldout" for key in keys]
    assert abs(np.corrcoef(ratings, held_out_first)[0, 1]) < 0.1


def test_repetition_is_the_share_of_stretches_that_stood_before() -> None:
    random = np.random.default_rng(0)
    fresh = random.permutation(1000)
    assert repetition(fresh) == 0
    assert repetition(np.zeros(100, dtype=np.uint32)) == pytest.approx(1 - 1 / 93)
    twice = np.concatenate([fresh[:100], fresh[:100]])
    assert repetition(twice) == pytest.approx(93 / 193)
    assert repetition(np.zeros(8, dtype=np.uint32)) == 0
    assert repetition(np.arange(3)) == 0


def test_candidates_are_counted_and_what_is_not_kept_is_counted_out(
    tmp_path: Path, model_folder: Path
) -> None:
    texts = [f"fever {number} " * (number + 1) for number in range(8)]
    documents = [Document(str(number), text, ended=number % 3 > 0) for number, text in enumerate(texts)]
    counts = write_source(tmp_path, "domain", documents, Always("train"), set())
    tokenizer = DocumentTokenizer(model_folder, 64, "<s>", "</s>")
    among = candidates(tmp_path, "domain", tokenizer)
    pieces = list(tokenizer.pieces(documents))
    assert among.tokens.tolist() == [sum(map(len, each)) for each in pieces]
    assert list(among.digests) == [digest(text) for text in texts]
    assert among.repeated[0] == 0 < among.repeated[-1]
    reasons = unfit(among, min_tokens=int(among.tokens[2]), max_repetition=float(among.repeated[-2]))
    rated = [document.text for document in texts_to_rate(tmp_path, "domain", reasons)]
    assert rated == texts[2:7]
    keep(tmp_path, "domain", counts, reasons)
    assert list(read_documents(tmp_path, "domain", "train")) == documents[2:7]
    assert counts.removed_documents == {
        "duplicate": 0,
        "empty": 0,
        "duplicate_of_heldout": 0,
        "too_short": 2,
        "repetitive": 1,
    }
    assert (counts.splits["train"].documents, counts.splits["train"].cut) == (5, 2)
    assert counts.splits["train"].bytes == sum(len(text) for text in texts[2:7])
    assert not list(tmp_path.rglob("*.tmp"))


class Killed(Exception):
    pass


def test_a_killed_rating_goes_on_where_it_was(tmp_path: Path) -> None:
    documents = [Document(str(number), "x" * number) for number in range(100)]
    rated: list[int] = []
    left = 70

    def lengths(texts: list[str]) -> np.ndarray:
        if len(rated) + len(texts) > left:
            raise Killed
        rated.extend(map(len, texts))
        return np.array([len(text) / 7 for text in texts])

    kept = tmp_path / "work" / "ratings"
    with pytest.raises(Killed):
        rate(documents, 100, lambda: lengths, kept, NullProgress())
    assert rated == list(range(64))
    with kept.open("ab") as file:
        file.write(b"torn")
    left = 1000
    ratings = rate(documents, 100, lambda: lengths, kept, NullProgress())
    assert rated == list(range(100))
    assert ratings.tolist() == [number / 7 for number in range(100)]

    def unwanted() -> None:
        raise AssertionError("everything is rated already")

    assert rate(documents, 100, unwanted, kept, NullProgress()).tolist() == ratings.tolist()


def test_a_rating_that_is_no_number_names_the_document(tmp_path: Path) -> None:
    def broken() -> object:
        return lambda texts: np.array([1.0, np.nan])

    with pytest.raises(DataError, match="document b: its rating is nan"):
        rate([Document("a", "x"), Document("b", "y")], 2, broken, tmp_path / "ratings", NullProgress())
