"""The least held-out text of a source: which documents are taken beside the share, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.corpus import read_documents
from cpt.corpus.build import (
    Minimum,
    always,
    by_hash,
    check_sums,
    digest,
    hold_out_more,
    require_heldout,
    write_source,
)
from cpt.corpus.documents import Document
from cpt.corpus.index import SourceCounts
from cpt.errors import DataError

DOCUMENTS = [Document(f"d{number}", f"text {number:04d} ", ended=number % 2 == 0) for number in range(300)]
SIZE = 10


def made(folder: Path, share: float) -> tuple[SourceCounts, set[bytes]]:
    digests: set[bytes] = set()
    return write_source(folder, "domain", DOCUMENTS, by_hash(share, 17), digests), digests


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
    rule = by_hash(share, 17)
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
    counts = write_source(tmp_path, "general", DOCUMENTS[:9], always("heldout"), set())
    require_heldout("general", counts, Minimum(9, 90, 0.2))
    for minimum in (Minimum(10, 1, 0.2), Minimum(1, 91, 0.2)):
        with pytest.raises(DataError, match="general: 9 documents of 90 bytes in all; held-out text must"):
            require_heldout("general", counts, minimum)
