"""The order of training text: each text once in an epoch, and always the same one at a place."""

import pytest

from cpt.errors import DataError
from tokenizer_tools.hypernetwork.training.texts import TextStream, cut

DOCUMENTS = ["one two three four five", "  \n ", "alpha", "x" * 25]


def test_documents_are_cut_before_spaces_and_nothing_is_lost() -> None:
    pieces = list(cut("one two three four", 9))
    assert pieces == ["one two", " three", " four"]
    assert all(len(piece) <= 9 for piece in pieces)
    assert list(cut("x" * 25, 10)) == ["x" * 10, "x" * 10, "x" * 5]
    assert list(cut("ab cd", 5)) == ["ab cd"]
    assert list(cut("   ", 2)) == []


def test_every_epoch_reads_each_text_once_in_another_order() -> None:
    stream = TextStream(DOCUMENTS, 10, seed=1)
    size = len(stream)
    first, second = stream.read(0, size), stream.read(size, 2 * size)
    assert sorted(first) == sorted(second) == sorted(piece for each in DOCUMENTS for piece in cut(each, 10))
    assert first != second
    assert stream.read(0, size) != TextStream(DOCUMENTS, 10, seed=2).read(0, size)


def test_a_place_has_its_text_without_those_before_it() -> None:
    stream = TextStream(DOCUMENTS, 6, seed=1)
    whole = stream.read(0, 40)
    assert [text for place in range(40) for text in stream.read(place, place + 1)] == whole
    assert stream.read(13, 31) == whole[13:31]


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(DataError, match="no text to train the hypernetwork on"):
        TextStream(["", " \n"], 10, seed=1)
