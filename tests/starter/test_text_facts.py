"""Facts about a text."""

from pathlib import Path

import pytest
from tiny import clinical_texts

from cpt.corpus.documents import Document, Removed
from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from cpt.starter.text_facts import languages, look


def documents(texts: list[str]) -> list[Document]:
    return [Document(id=str(number), text=text) for number, text in enumerate(texts)]


def test_a_text_is_counted_once(tiny_model: Path) -> None:
    texts = clinical_texts()[:50]
    items = [*documents(texts), *documents(texts[:7]), Removed("x", "no text"), Document("blank", " \n")]
    tokenizer = load_tokenizer(tiny_model)
    found = look(items, tokenizer)
    assert (found.documents, found.duplicates, found.unread, found.complete) == (50, 7, 2, True)
    assert found.bytes == sum(len(text.encode()) for text in texts)
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    assert found.tokens == pytest.approx(tokens, abs=1)
    assert found.bytes_per_token == pytest.approx(found.bytes / tokens)
    assert found.continuable == 1.0


def test_no_more_is_read_than_needed(tiny_model: Path) -> None:
    found = look(documents(clinical_texts()), load_tokenizer(tiny_model), most_bytes=500)
    assert not found.complete
    assert 500 <= found.bytes < 1_500


def test_a_text_without_documents(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="no document"):
        look([Document("blank", "")], load_tokenizer(tiny_model))


def test_languages_are_shares_of_the_documents() -> None:
    english = "The patient was given the treatment that the doctors had chosen for the disease."
    german = "Der Patient erhielt die Behandlung, die von den Ärzten ausgewählt worden war."
    assert languages([english, english, german, "123"]) == pytest.approx({"en": 2 / 3, "de": 1 / 3})
