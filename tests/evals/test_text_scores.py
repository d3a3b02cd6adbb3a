"""Bits per byte of texts: by hand, whatever the batch and the windows, across tokenizers."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SENTENCES, varied_texts
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.shared_windows import Reader
from cpt.models.tokenizer import load_tokenizer
from evals import text_scores
from evals.text_scores import TextScores, score_source, tokenise_source

LONG = "Ein längerer Text mit Umlauten: äöü, und 😀. " * 9
TEXTS = [*SENTENCES, "x", "😀", LONG, *varied_texts(12)]


def documents(texts: list[str]) -> list[Document]:
    return [Document(str(number), text) for number, text in enumerate(texts)]


def score_text(model: PackedLanguageModel, reader: Reader, texts: list[Document], **batch: int) -> TextScores:
    """Score texts under one model, in windows of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return score_source(model, tokenise_source([reader], texts, Path(folder) / "text"), 0, **batch)


@pytest.fixture(scope="module")
def score(tiny_model: Path) -> Callable[..., TextScores]:
    model, tokenizer = PackedLanguageModel(load_model(tiny_model)), load_tokenizer(tiny_model)

    def call(texts: list[str], **settings: Any) -> TextScores:
        settings = {"window": 128, "overlap": 0, "start_token": "<s>"} | settings
        batch = {name: settings.pop(name) for name in ("batch_tokens",) if name in settings}
        reader = Reader.of(tokenizer, settings["window"], settings["start_token"], settings["overlap"])
        return score_text(model, reader, documents(texts), **batch)

    call.model, call.tokenizer = model, tokenizer  # type: ignore[attr-defined]
    call.plain = AutoModelForCausalLM.from_pretrained(tiny_model)  # type: ignore[attr-defined]
    return call


def windowed_by_hand(model: Any, ids: list[int], window: int, overlap: int, start: list[int]) -> float:
    """Nats of all tokens (all but the first without a start token), each window read alone and unpacked."""
    back = max(overlap, 1 - len(start))
    nats, done = 0.0, 0
    while done < len(ids):
        context = start + ids[max(0, done - back if done else 0) : done]
        new = ids[done : done + window - len(context)]
        with torch.no_grad():
            log_p = model(torch.tensor([context + new])).logits[0].log_softmax(-1)
        nats -= sum(
            float(log_p[i, token]) for i, token in enumerate((context + new)[1:]) if i + 1 >= len(context)
        )
        done += len(new)
    return nats


@pytest.mark.parametrize("start", ["<s>", None])
@pytest.mark.parametrize(("window", "overlap"), [(128, 0), (32, 0), (32, 7), (32, 25), (128, 100)])
def test_windows_by_hand(score: Any, start: str | None, window: int, overlap: int) -> None:
    ids = score.tokenizer.encode(LONG).ids
    expected = windowed_by_hand(score.plain, ids, window, overlap, [0] if start else [])
    found = score([LONG], window=window, overlap=overlap, start_token=start)
    assert found.nats[0] == pytest.approx(expected, rel=1e-5)
    assert found.tokens[0] == len(ids) - (start is None)
    assert found.bytes[0] == len(LONG.encode()) - (0 if start else 1)


def test_more_overlap_is_more_context(score: Any) -> None:
    """With windows that slide by one token every token has all the context that fits."""
    ids = score.tokenizer.encode(LONG).ids
    sliding = score([LONG], window=16, overlap=14)
    with torch.no_grad():
        rows = [[0, *ids[max(0, i - 14) : i + 1]] for i in range(len(ids))]
        expected = -sum(
            float(score.plain(torch.tensor([row])).logits[0].log_softmax(-1)[-2, row[-1]]) for row in rows
        )
    assert sliding.nats[0] == pytest.approx(expected, rel=1e-5)
    assert sliding.nats[0] != score([LONG], window=16, overlap=0).nats[0]


def test_scores_do_not_depend_on_batches_or_chunks(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"window": 48, "overlap": 8}
    expected = score(TEXTS, **settings)
    alone = [score([text], **settings) for text in TEXTS]
    assert expected.nats == pytest.approx(np.concatenate([each.nats for each in alone]), rel=1e-5)
    for batch_tokens in (1, 60, 10**6):
        assert score(TEXTS, **settings, batch_tokens=batch_tokens).nats == pytest.approx(
            expected.nats, rel=1e-5
        )
    monkeypatch.setattr(text_scores, "_CHARACTERS_AT_ONCE", 100)
    chunked = score(TEXTS, **settings)
    assert chunked.nats == pytest.approx(expected.nats, rel=1e-5)
    assert chunked.ids == expected.ids


def test_bits_per_byte_of_documents_and_of_all(score: Any) -> None:
    found = score(TEXTS)
    assert found.total.bits_per_byte == pytest.approx(found.nats.sum() / found.bytes.sum() / math.log(2))
    assert found.bits_per_byte == pytest.approx(found.nats / found.bytes / math.log(2))
    assert found.bytes.tolist() == found.all_bytes.tolist() == [len(text.encode()) for text in TEXTS]


def test_without_start_token_the_first_character_is_context(score: Any) -> None:
    """An emoji is four bytes and several tokens here: none of them, or all of them, are scored."""
    assert len(score.tokenizer.encode("😀").ids) == 4
    found = score(["😀 heart", "x", "ab"], start_token=None)
    assert found.bytes.tolist() == [len(" heart"), 0, 1]
    assert found.tokens.tolist() == [len(score.tokenizer.encode("😀 heart").ids) - 4, 0, 1]
    assert found.all_bytes.tolist() == [10, 1, 2]
    assert math.isnan(found.bits_per_byte[1])
    assert len(found.total.nats) == 2


def test_bytes_count_whitespace_that_a_tokenizer_trims_from_its_offsets(score: Any) -> None:
    tokenizer = Tokenizer.from_str(score.tokenizer.to_str())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    text = " The heart. "
    found = score_text(score.model, Reader.of(tokenizer, 64, "<s>"), documents([text]))
    assert found.bytes.tolist() == [len(text)]
    assert tokenizer.encode(text, add_special_tokens=False).offsets[-1] == (12, 12)


def test_text_that_a_tokenizer_drops_or_cannot_spell_is_told(score: Any) -> None:
    words = ["[UNK]", "<s>", "the", "heart"]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    texts = documents(["the heart", "the ßx heart"])
    found = score_text(score.model, Reader.of(tokenizer, 64, "<s>"), texts)
    assert found.bytes.tolist() == [8, 11]
    assert found.all_bytes.tolist() == [9, 13]
    assert found.unknown.tolist() == [0, 1]
    assert score(TEXTS).unknown.sum() == 0


def test_two_tokenizers_are_scored_on_the_same_bytes(another_model: Any, tmp_path: Path) -> None:
    """Models that know nothing spend the logarithm of their vocabulary on each token."""
    folders = [another_model(str(vocabulary), vocabulary=vocabulary) for vocabulary in (280, 300)]
    readers = [Reader.of(load_tokenizer(folder), 128, "<s>", 32) for folder in folders]
    source = tokenise_source(readers, documents([*TEXTS, ""]), tmp_path / "text")
    found = []
    for which, (folder, vocabulary) in enumerate(zip(folders, (280, 300), strict=True)):
        model = PackedLanguageModel(load_model(folder))
        torch.nn.init.zeros_(model.model.get_input_embeddings().weight)
        found.append(score_source(model, source, which))
        assert found[-1].nats == pytest.approx(found[-1].tokens * math.log(vocabulary), rel=1e-5)
    assert found[0].bytes.tolist() == found[1].bytes.tolist()
    assert found[0].bytes.tolist() == [len(text.encode()) for text in TEXTS] + [0]
    assert found[0].tokens.sum() > found[1].tokens.sum()


def test_progress_counts_tokens_up_to_the_work(
    score: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_scores, "_CHARACTERS_AT_ONCE", 100)
    done: list[int] = []
    reader = Reader.of(score.tokenizer, 32, "<s>", 4)
    source = tokenise_source([reader], documents(TEXTS), tmp_path / "text", done.append)
    assert done[-1] == sum(len(text.encode()) for text in TEXTS)
    assert len(done) == len(source.chunks) > 3
    seen: list[int] = []
    score_source(score.model, source, 0, batch_tokens=60, on_progress=seen.append)
    assert sum(seen) == source.work[0]
    assert len(seen) > len(done)


def test_nothing_to_score_and_no_room_are_errors(score: Any) -> None:
    with pytest.raises(DataError, match="no text to score"):
        score([""])
    with pytest.raises(DataError, match="no room"):
        score(TEXTS, window=16, overlap=15)
    with pytest.raises(DataError, match="<nope>"):
        score(TEXTS, start_token="<nope>")
