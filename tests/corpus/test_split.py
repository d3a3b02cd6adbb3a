"""Duplicates, the held-out rule, and the sums."""

from __future__ import annotations

import pytest

from cpt.corpus.build import always, by_hash, check_sums, digest, divide, rewritten
from cpt.corpus.documents import Document, Removed
from cpt.corpus.index import SourceCounts
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
    sides, counts = run(items, always("train"), set())
    assert sides["train"] == ["a", "b"]
    assert counts.documents_in == 8
    assert counts.removed == {"duplicate": 2, "empty": 3, "duplicate_of_heldout": 0, "obsolete": 1}
    assert counts.splits["train"].documents == 2


def test_bytes_are_utf8_bytes() -> None:
    _, counts = run(documents("caf\u00e9", "\u65e5\u672c"), always("train"), set())
    assert counts.splits["train"].bytes == 5 + 6


def test_the_share_held_out_is_about_what_was_asked() -> None:
    rule = by_hash(0.1, seed=17)
    held = sum(rule(digest(f"document {number}")) == "heldout" for number in range(10_000))
    assert 850 < held < 1150


def test_the_side_of_a_document_depends_on_seed_and_text_alone() -> None:
    texts = [f"document {number}" for number in range(200)]
    first, _ = run(documents(*texts), by_hash(0.2, 17), set())
    more, _ = run(documents(*reversed(texts), *(f"new {n}" for n in range(200))), by_hash(0.2, 17), set())
    assert set(first["heldout"]) <= set(more["heldout"])
    assert set(first["train"]) <= set(more["train"])
    other, _ = run(documents(*texts), by_hash(0.2, 18), set())
    assert set(other["heldout"]) != set(first["heldout"])


def test_a_larger_share_only_adds_held_out_documents() -> None:
    texts = [f"document {number}" for number in range(300)]
    small, _ = run(documents(*texts), by_hash(0.1, 17), set())
    large, _ = run(documents(*texts), by_hash(0.3, 17), set())
    assert set(small["heldout"]) < set(large["heldout"])


def test_no_held_out_document_stays_in_training_of_any_source() -> None:
    heldout: set[bytes] = set()
    run(documents("general one", "shared"), always("heldout"), heldout)
    domain_texts = [f"domain {number}" for number in range(50)]
    domain, counts = run(documents("shared", *domain_texts), by_hash(0.3, 17), heldout)
    if "shared" not in domain["heldout"]:
        assert counts.removed["duplicate_of_heldout"] == 1
    replay, counts = run(documents("shared", " general  one", "old", *domain_texts), always("train"), heldout)
    assert replay["train"] == ["old", *domain["train"]]
    assert counts.removed["duplicate_of_heldout"] == 2 + len(set(domain["heldout"]) - {"shared"})
    assert counts.documents_in == counts.splits["train"].documents + sum(counts.removed.values())


def test_a_lost_document_is_an_error() -> None:
    with pytest.raises(DataError, match="internal error: 3 documents in, but 0 kept and 1 removed"):
        check_sums(SourceCounts(documents_in=3, removed={"empty": 1}))


def test_a_document_that_was_cut_off_stays_so_and_is_counted() -> None:
    items = [Document("a", "one", ended=False), Document("b", "two"), Document("c", " one ", ended=True)]
    counts = SourceCounts()
    found = [document for _, document in divide(items, always("train"), set(), counts)]
    assert [(document.id, document.ended) for document in found] == [("a", False), ("b", True)]
    assert (counts.splits["train"].cut, counts.removed["duplicate"]) == (1, 1)
    rewrite = list(rewritten([*items, Removed("x", "empty")], str.upper))
    assert [getattr(item, "ended", None) for item in rewrite] == [False, True, True, None]
