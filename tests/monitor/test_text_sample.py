"""A probe's sample holds as many documents as it can."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import SENTENCES, varied_texts

from cpt.errors import DataError
from cpt.models.bits_per_byte import tokenise_text
from cpt.models.shared_windows import Reader
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.text_sample import sample_text, shared_sample

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


@pytest.mark.parametrize("start", ["<s>", None])
def test_a_shared_sample_holds_the_bytes_of_the_former_tokenizers(
    tiny_model: Path, another_model: Callable[..., Path], start: str | None
) -> None:
    """By its own tokens a coarser vocabulary would read more bytes, in windows of more bytes."""
    old, new = load_tokenizer(tiny_model), load_tokenizer(another_model("new", vocabulary=420))
    texts = [*LONG, "", "Ein Text mit Umlauten: äöü. " * 9]
    former, own = (Reader.of(each, 16, start) for each in (old, new))
    for tokens in (40, 7 * 16, 10**6):
        before = sample_text(old, texts, 16, start, tokens)
        shared = shared_sample(former, own, texts, tokens)
        assert all(len(window) <= 16 for window in shared.text.windows)
        if start is not None:
            assert shared.text.bytes.tolist() == before.text.bytes.tolist()
            assert shared.fingerprint == before.fingerprint
        if tokens == 7 * 16:
            assert sample_text(new, texts, 16, start, tokens).text.bytes.sum() > before.text.bytes.sum()
        scored = [w[c:] for w, c in zip(shared.text.windows, shared.text.context, strict=True)]
        assert len(b"".join(new.decode(ids.tolist()).encode() for ids in scored)) == shared.text.bytes.sum()
    same = shared_sample(former, former, texts, 10**6)
    whole = sample_text(old, texts, 16, start, 10**6)
    assert same.text.bytes.tolist() == whole.text.bytes.tolist()
    assert same.text.tokens == whole.text.tokens


def test_nothing_to_score_is_an_error_with_a_hint(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="no text to score") as caught:
        sample_text(load_tokenizer(tiny_model), ["", ""], 16, "<s>", 100)
    assert "empty" in str(caught.value)
    reader = Reader.of(load_tokenizer(tiny_model), 16, "<s>")
    with pytest.raises(DataError, match="no text to score"):
        shared_sample(reader, reader, ["", ""], 100)
