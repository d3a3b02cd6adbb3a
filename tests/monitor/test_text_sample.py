"""A probe's sample holds as many documents as it can."""

from pathlib import Path

import numpy as np
import pytest
from tiny import SENTENCES, varied_texts

from cpt.errors import DataError
from cpt.model_folder.tokenizer import load_tokenizer
from cpt.monitor.bits_per_byte import tokenise_text
from cpt.monitor.text_sample import sample_text

LONG = [" ".join(varied_texts(8, f"document {n} ")) for n in range(5)]


@pytest.mark.parametrize("start", ["<s>", None])
def test_the_first_window_of_every_document_comes_before_any_second(tiny_model: Path, start) -> None:
    tokenizer = load_tokenizer(tiny_model)
    two = sample_text(tokenizer, LONG, 16, start, max_tokens=32).text
    assert [len(window) for window in two.windows] == [16, 16]
    assert two.document.tolist() == [0, 1]
    more = sample_text(tokenizer, LONG, 16, start, max_tokens=7 * 16).text
    assert np.bincount(more.document).tolist() == [2, 2, 1, 1, 1]
    assert more.document.tolist() == sorted(more.document)


@pytest.mark.parametrize("start", ["<s>", None])
def test_with_room_for_all_it_is_the_whole_text(tiny_model: Path, start) -> None:
    tokenizer = load_tokenizer(tiny_model)
    texts = [*LONG, "", *SENTENCES, "Ein Text mit Umlauten: äöü. " * 9]
    sample = sample_text(tokenizer, texts, 16, start, max_tokens=10**6).text
    whole = tokenise_text(tokenizer, texts, 16, start)
    assert sample.bytes.tolist() == whole.bytes.tolist()
    assert sample.document.tolist() == whole.document.tolist()
    scored = [
        np.concatenate([w[c:] for w, c, d in zip(t.windows, t.context, t.document, strict=True) if d == 7])
        for t in (sample, whole)
    ]
    assert scored[0].tolist() == scored[1].tolist()


def test_the_last_window_is_cut_to_what_is_left(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    first = len(tokenizer.encode(SENTENCES[0]).ids) + 1
    text = sample_text(tokenizer, SENTENCES, 100, "<s>", max_tokens=first + 5).text
    assert [len(window) for window in text.windows] == [first, 5]
    assert text.bytes.tolist() == [len(SENTENCES[0]), tokenizer.encode(SENTENCES[1]).offsets[3][1]]


@pytest.mark.parametrize("start", ["<s>", None])
def test_a_window_ends_with_a_whole_character(tiny_model: Path, start) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = "漢字" * 30
    for tokens in range(3, 40):
        sample = sample_text(tokenizer, [text], 16, start, max_tokens=tokens).text
        assert sample.bytes[0] % 3 == 0
        assert all(len(window) <= 16 for window in sample.windows)
        scored = [w[c:] for w, c in zip(sample.windows, sample.context, strict=True)]
        assert tokenizer.decode(np.concatenate(scored).tolist()) in text


def test_the_fingerprint_is_of_documents_and_sizes_in_any_order(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)

    def mark(texts: list[str], tokens: int = 10**6) -> str:
        return sample_text(tokenizer, texts, 16, "<s>", tokens).fingerprint

    assert mark(LONG) == mark(LONG[::-1])
    assert len({mark(LONG), mark(LONG[:4]), mark([*LONG[:4], "another"]), mark(LONG, 80)}) == 4


def test_nothing_to_score_is_an_error_with_a_hint(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="no text to score") as caught:
        sample_text(load_tokenizer(tiny_model), ["", ""], 16, "<s>", 100)
    assert "empty" in str(caught.value)
