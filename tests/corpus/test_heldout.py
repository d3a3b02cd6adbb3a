"""The most held-out text of a source: the lowest positions stay, the rest trains once, nothing leaks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cpt.corpus import read_documents
from cpt.corpus.build import check_sums, write_source
from cpt.corpus.digests import digest
from cpt.corpus.documents import Document
from cpt.corpus.heldout import Always, ByHash, Minimum, position
from cpt.corpus.index import SourceCounts

SEED = 17
TEXTS = [f"document {number} " + "x" * (number % 40) for number in range(300)]


def size(text: str) -> int:
    return len(text.encode())


def expected(texts: list[str], share: float, most: int, minimum: Minimum) -> set[str]:
    """The lowest positions below the share, as many as the size allows, and the minimum in any case."""
    able = [text for text in texts if position(digest(text), SEED) < share]
    held: list[str] = []
    for text in sorted(able, key=lambda text: position(digest(text), SEED)):
        total = sum(map(size, held))
        if total + size(text) > most and minimum.is_met(len(held), total):
            break
        held.append(text)
    return set(held)


def written(
    folder: Path, documents: list[Document], rule: ByHash, heldout: set[bytes] | None = None
) -> tuple[dict[str, list[Document]], SourceCounts, set[bytes], set[bytes]]:
    """Documents by side, counts, and the digests of both sides."""
    held, trained = set() if heldout is None else heldout, set[bytes]()
    counts = write_source(folder, "domain", documents, rule, held, trained=trained)
    sides = {side: list(read_documents(folder, "domain", side)) for side in counts.splits}
    return sides, counts, held, trained


@pytest.mark.parametrize("most", [1, 100, 1000, 2500, 10**6])
@pytest.mark.parametrize("documents", [1, 8])
def test_the_lowest_positions_stay_in_any_order_of_reading(tmp_path: Path, most: int, documents: int) -> None:
    minimum = Minimum(documents, 50, 0.2)
    wanted = expected(TEXTS, 0.3, most, minimum)
    for number, seed in enumerate((None, 1, 2)):
        texts = TEXTS if seed is None else random.Random(seed).sample(TEXTS, len(TEXTS))
        documents_of = [Document(str(at), text) for at, text in enumerate(texts)]
        folder = tmp_path / str(number)
        sides, counts, held, trained = written(folder, documents_of, ByHash(0.3, SEED, most, minimum))
        assert {each.text for each in sides["heldout"]} == wanted
        assert sorted(each.text for side in sides.values() for each in side) == sorted(TEXTS)
        assert held == {digest(text) for text in wanted}
        assert trained == {digest(text) for text in TEXTS if text not in wanted}
        check_sums(counts)
        for side, found in sides.items():
            split = counts.splits[side]
            assert (split.documents, split.bytes) == (len(found), sum(size(each.text) for each in found))


def test_without_a_maximum_nothing_moves(tmp_path: Path) -> None:
    documents = [Document(str(at), text) for at, text in enumerate(TEXTS)]
    whole, *_ = written(tmp_path / "a", documents, ByHash(0.3, SEED))
    roomy, *_ = written(tmp_path / "b", documents, ByHash(0.3, SEED, 10**9))
    assert whole == roomy
    assert [each.text for each in whole["train"]] == [
        text for text in TEXTS if position(digest(text), SEED) >= 0.3
    ]


def test_documents_that_train_after_all_come_last_and_part_by_part(tmp_path: Path) -> None:
    parts = ["notes" if at < 150 else "papers" for at in range(300)]
    documents = [Document(str(at), text, part=parts[at]) for at, text in enumerate(TEXTS)]
    rule = ByHash(0.3, SEED, 500, Minimum(2, 1, 0.2))
    sides, *_ = written(tmp_path, documents, rule)
    at_once, later = sides["train"][: -len(rule.returned)], sides["train"][-len(rule.returned) :]
    assert [int(each.id) for each in at_once] == sorted(int(each.id) for each in at_once)
    assert {digest(each.text) for each in later} == {
        key for key in map(digest, TEXTS) if key in rule.returned
    }
    assert [int(each.id) for each in later] == sorted(int(each.id) for each in later)
    assert {each.part for each in later} == {"notes", "papers"}
    assert len(sides["heldout"]) + len(later) < sum(position(digest(text), SEED) < 0.3 for text in TEXTS)


def test_copies_of_documents_that_train_after_all_are_duplicates(tmp_path: Path) -> None:
    twice = [Document(f"{turn}.{at}", text) for turn in range(2) for at, text in enumerate(TEXTS)]
    sides, counts, held, trained = written(tmp_path, twice, ByHash(0.3, SEED, 500, Minimum(2, 1, 0.2)))
    assert sorted(each.text for side in sides.values() for each in side) == sorted(TEXTS)
    assert counts.removed_documents["duplicate"] == len(TEXTS)
    replay = write_source(
        tmp_path, "replay", [*twice, Document("z", "new")], Always("train"), held, trained=trained
    )
    assert replay.splits["train"].documents == 1
    assert replay.removed_documents["duplicate_of_heldout"] == len(sides["heldout"])


def test_what_is_held_out_of_an_earlier_source_never_trains(tmp_path: Path) -> None:
    general = {digest(text) for text in TEXTS}
    documents = [Document(str(at), text) for at, text in enumerate(TEXTS)]
    new = [Document(f"n{at}", f"other {at}") for at in range(300)]
    rule = ByHash(0.3, SEED, 200, Minimum(1, 1, 0.2))
    sides, counts, held, _ = written(tmp_path, [*documents, *new], rule, set(general))
    assert general <= held
    assert not {digest(each.text) for each in sides["train"]} & general
    assert counts.removed_documents["duplicate_of_heldout"] > 0
