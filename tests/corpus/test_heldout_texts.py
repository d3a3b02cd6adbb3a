"""Held-out texts by number against a list of all of them, in row groups of a few documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpt.corpus import documents as documents_module
from cpt.corpus import heldout_texts as heldout_texts_module
from cpt.corpus.document_columns import DocumentColumns
from cpt.corpus.documents import Document, DocumentWriter, documents_path
from cpt.corpus.texts import heldout_texts, iterate_texts, shuffled
from cpt.halves import half_of


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two parts with documents, conversations and study documents; texts are read three and more ahead."""
    monkeypatch.setattr(documents_module, "_ROWS_OF_A_GROUP", 5)
    monkeypatch.setattr(heldout_texts_module, "_AHEAD", 3)
    for part, count in (("a", 33), ("b", 18)):
        with DocumentWriter(documents_path(tmp_path, f"domain.{part}", "heldout")) as writer:
            for number in range(count):
                text = f"{part} fever " + "näht " * (number * 7 % 11)
                study = "reading" if number % 5 == 0 else part
                writer.write(Document(str(number), text, part=study, marked=number % 7 == 3))
    return tmp_path


def test_texts_by_number_are_those_of_the_list(corpus: Path) -> None:
    expected, texts = list(iterate_texts(corpus, "domain", "heldout")), heldout_texts(corpus, "domain")
    assert len(texts) == len(expected) < 51
    assert list(texts) == expected
    order = np.random.default_rng(5).permutation(len(expected))
    assert list(texts.at(order)) == [expected[at] for at in order]
    assert list(texts.at(order[:1].repeat(2))) == [expected[order[0]]] * 2
    assert texts.lengths().tolist() == [len(text) for text in expected]
    assert list(shuffled(texts, 5)) == list(shuffled(expected, 5)) == [expected[at] for at in order]


@pytest.mark.parametrize("half", ["search", "report"])
def test_halves_are_those_of_the_list(corpus: Path, half: Any) -> None:
    expected = [text for text in iterate_texts(corpus, "domain", "heldout") if half_of(text) == half]
    assert list(heldout_texts(corpus, "domain", half)) == expected


def test_a_source_that_is_not_there_has_no_texts(corpus: Path) -> None:
    texts = heldout_texts(corpus, "general")
    assert (len(texts), list(texts), texts.lengths().tolist()) == (0, [], [])


def test_only_the_row_groups_of_what_is_asked_for_are_read(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    read = DocumentColumns.read

    def spied(self: DocumentColumns, folder: str, wanted: np.ndarray) -> Any:
        rows.extend(wanted.tolist())
        return read(self, folder, wanted)

    monkeypatch.setattr(DocumentColumns, "read", spied)
    ordered = shuffled(heldout_texts(corpus, "domain"), 1)
    assert rows == []
    for _ in range(3):
        next(ordered)
    assert len(rows) == 3
    next(ordered)
    assert len(rows) == 3 + 6


def test_corpora_of_earlier_versions_lack_columns(corpus: Path) -> None:
    for part in ("a", "b"):
        path = documents_path(corpus, f"domain.{part}", "heldout")
        pq.write_table(pq.read_table(path, columns=["id", "text"]), path)
    assert list(heldout_texts(corpus, "domain")) == list(iterate_texts(corpus, "domain", "heldout"))
    assert len(heldout_texts(corpus, "domain")) == 51
