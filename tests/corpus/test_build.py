"""Duplicates, the held-out rule, and the sums.

The least held-out text of a source: which documents are taken beside the share, and what is refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.corpus import read_documents
from cpt.corpus.build import check_sums, divide, rewritten, write_source
from cpt.corpus.digests import digest
from cpt.corpus.documents import Document, Removed
from cpt.corpus.heldout import Always, ByHash, Minimum, hold_out_more, require_heldout
from cpt.corpus.index import Amount, SourceCounts
from cpt.errors import DataError


def documents(*texts: str) -> list[Document]:
    return [Document(str(number), text) for number, text in enumerate(texts)]


def run(items: list, rule, heldout: set[bytes]) -> tuple[dict[str, list[str]], SourceCounts]:
    counts, sides = SourceCounts(), {"train": [], "heldout": []}
    for side, document in divide(items, rule, heldout, counts):
        sides[side].append(document.text)
    return sides, counts


def test_digest_ignores_unicode_form_and_white_space_only() -> None:
    assert digest("caf\u00e9  au\nlait ") == digest("cafe\u0301 au lait")
    assert digest("cafe au lait") != digest("caf\u00e9 au lait")
    assert digest("Fever") != digest("fever")
    assert digest("a b") != digest("ab")


def test_duplicates_and_empty_texts_are_counted_out() -> None:
    items = [*documents("a", "b", " a ", "", "  \n", "b"), Removed("x", "obsolete"), Removed("y", "empty")]
    sides, counts = run(items, Always("train"), set())
    assert sides["train"] == ["a", "b"]
    assert counts.documents_in == 8
    assert counts.removed_documents == {"duplicate": 2, "empty": 3, "duplicate_of_heldout": 0, "obsolete": 1}
    assert counts.splits["train"].documents == 2


def test_bytes_are_utf8_bytes() -> None:
    _, counts = run(documents("caf\u00e9", "\u65e5\u672c"), Always("train"), set())
    assert counts.splits["train"].bytes == 5 + 6


def test_the_share_held_out_is_about_what_was_asked() -> None:
    rule = ByHash(0.1, seed=17)
    held = sum(rule(digest(f"document {number}")) == "heldout" for number in range(10_000))
    assert 850 < held < 1150


def test_the_side_of_a_document_depends_on_seed_and_text_alone() -> None:
    texts = [f"document {number}" for number in range(200)]
    first, _ = run(documents(*texts), ByHash(0.2, 17), set())
    more, _ = run(documents(*reversed(texts), *(f"new {n}" for n in range(200))), ByHash(0.2, 17), set())
    assert set(first["heldout"]) <= set(more["heldout"])
    assert set(first["train"]) <= set(more["train"])
    other, _ = run(documents(*texts), ByHash(0.2, 18), set())
    assert set(other["heldout"]) != set(first["heldout"])


def test_a_larger_share_only_adds_held_out_documents() -> None:
    texts = [f"document {number}" for number in range(300)]
    small, _ = run(documents(*texts), ByHash(0.1, 17), set())
    large, _ = run(documents(*texts), ByHash(0.3, 17), set())
    assert set(small["heldout"]) < set(large["heldout"])


def test_no_held_out_document_stays_in_training_of_any_source() -> None:
    heldout: set[bytes] = set()
    run(documents("general one", "shared"), Always("heldout"), heldout)
    domain_texts = [f"domain {number}" for number in range(50)]
    domain, counts = run(documents("shared", *domain_texts), ByHash(0.3, 17), heldout)
    if "shared" not in domain["heldout"]:
        assert counts.removed_documents["duplicate_of_heldout"] == 1
    replay, counts = run(documents("shared", " general  one", "old", *domain_texts), Always("train"), heldout)
    assert replay["train"] == ["old", *domain["train"]]
    assert counts.removed_documents["duplicate_of_heldout"] == 2 + len(set(domain["heldout"]) - {"shared"})
    assert counts.documents_in == counts.splits["train"].documents + sum(counts.removed_documents.values())


def test_a_lost_document_is_an_error() -> None:
    with pytest.raises(DataError, match="internal error: 3 documents in, but 0 kept and 1 removed"):
        check_sums(SourceCounts(documents_in=3, removed={"empty": Amount(documents=1)}))


def test_a_document_that_was_cut_off_stays_so_and_is_counted() -> None:
    items = [Document("a", "one", ended=False), Document("b", "two"), Document("c", " one ", ended=True)]
    counts = SourceCounts()
    found = [document for _, document in divide(items, Always("train"), set(), counts)]
    assert [(document.id, document.ended) for document in found] == [("a", False), ("b", True)]
    assert (counts.splits["train"].cut, counts.removed_documents["duplicate"]) == (1, 1)
    rewrite = list(rewritten([*items, Removed("x", "empty")], str.upper))
    assert [getattr(item, "ended", None) for item in rewrite] == [False, True, True, None]


DOCUMENTS = [Document(f"d{number}", f"text {number:04d} ", ended=number % 2 == 0) for number in range(300)]
SIZE = 10


def made(folder: Path, share: float) -> tuple[SourceCounts, set[bytes]]:
    digests: set[bytes] = set()
    return write_source(folder, "domain", DOCUMENTS, ByHash(share, 17), digests), digests


def held(folder: Path) -> set[str]:
    return {document.text for document in read_documents(folder, "domain", "heldout")}


@pytest.mark.parametrize(
    ("minimum", "count"),
    [
        (Minimum(8, 1, 0.2), 8),
        (Minimum(1, 215, 0.2), 22),
        (Minimum(9, 215, 0.2), 22),
        (Minimum(60, 1, 0.2), 60),
        (Minimum(61, 1, 0.21), 61),
    ],
    ids=str,
)
def test_more_is_held_out_as_if_the_share_had_been_larger(
    tmp_path: Path, minimum: Minimum, count: int
) -> None:
    counts, digests = made(tmp_path / "a", 0.005)
    before = held(tmp_path / "a")
    assert 0 < len(before) < 8
    assert hold_out_more(tmp_path / "a", "domain", counts, minimum, 17, digests) == count - len(before)
    check_sums(counts)
    now = held(tmp_path / "a")
    assert before < now
    assert digests == {digest(text) for text in now}
    assert (counts.splits["heldout"].documents, counts.splits["heldout"].bytes) == (count, count * SIZE)
    trained = list(read_documents(tmp_path / "a", "domain", "train"))
    assert trained == [document for document in DOCUMENTS if document.text not in now]
    assert counts.splits["train"].cut == sum(not document.ended for document in trained)
    share = next(n / 10_000 for n in range(10_000) if _count(n / 10_000) >= count)
    made(tmp_path / "b", share)
    assert now <= held(tmp_path / "b")
    assert not list(tmp_path.rglob("*.tmp"))


def _count(share: float) -> int:
    rule = ByHash(share, 17)
    return sum(rule(digest(document.text)) == "heldout" for document in DOCUMENTS)


def test_enough_is_left_as_it_is(tmp_path: Path) -> None:
    counts, digests = made(tmp_path, 0.1)
    before = list(read_documents(tmp_path, "domain", "heldout"))
    assert hold_out_more(tmp_path, "domain", counts, Minimum(8, 80, 0.01), 17, digests) == 0
    assert list(read_documents(tmp_path, "domain", "heldout")) == before


def test_none_at_all_is_made_up_for(tmp_path: Path) -> None:
    counts, digests = made(tmp_path, 1e-9)
    assert "heldout" not in counts.splits
    assert hold_out_more(tmp_path, "domain", counts, Minimum(8, 1, 0.2), 17, digests) == 8
    assert list(counts.splits) == ["train", "heldout"]


@pytest.mark.parametrize("minimum", [Minimum(61, 1, 0.2), Minimum(1, 601, 0.2)], ids=str)
def test_a_corpus_that_is_too_small_is_refused_and_left_as_it_is(tmp_path: Path, minimum: Minimum) -> None:
    counts, digests = made(tmp_path, 0.005)
    before = held(tmp_path)
    with pytest.raises(
        DataError, match=r"20% of the 300 documents, .*, are 60 documents of 600 bytes"
    ) as caught:
        hold_out_more(tmp_path, "domain", counts, minimum, 17, digests)
    assert "heldout_min" in str(caught.value)
    assert held(tmp_path) == before


def test_text_that_is_held_out_as_a_whole_must_have_the_minimum(tmp_path: Path) -> None:
    counts = write_source(tmp_path, "general", DOCUMENTS[:9], Always("heldout"), set())
    require_heldout("general", counts, Minimum(9, 90, 0.2))
    for minimum in (Minimum(10, 1, 0.2), Minimum(1, 91, 0.2)):
        with pytest.raises(DataError, match="general: 9 documents of 90 bytes in all; held-out text must"):
            require_heldout("general", counts, minimum)
