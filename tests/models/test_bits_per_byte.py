import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SENTENCES
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import DataError
from cpt.models.bits_per_byte import Scores, score, tokenise_text
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer

TEXTS = [*SENTENCES, "x", "Ein längerer Text mit Umlauten: äöü. " * 9]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> PackedLanguageModel:
    return PackedLanguageModel(load_model(tiny_model))


def plain_nats(folder: Path, text: str, start: str | None) -> float:
    """The same by transformers alone, one document at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = ([tokenizer.convert_tokens_to_ids(start)] if start else []) + tokenizer.encode(
        text, add_special_tokens=False
    )
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(float(log_p[i, token]) for i, token in enumerate(ids[1:]))


def test_nats_equal_those_of_unpacked_documents(tiny_model: Path, model: PackedLanguageModel) -> None:
    text = tokenise_text(load_tokenizer(tiny_model), TEXTS[:5], window=100, start_token="<s>")
    scores = score(model, text, batch_tokens=60)
    assert scores.nats == pytest.approx([plain_nats(tiny_model, t, "<s>") for t in TEXTS[:5]], rel=1e-5)
    assert scores.bytes.tolist() == [len(t.encode()) for t in TEXTS[:5]]
    expected = scores.nats.sum() / math.log(2) / sum(len(t.encode()) for t in TEXTS[:5])
    assert scores.bits_per_byte == pytest.approx(expected)


class Reader:
    """One of several processes; keeps its own part of a sum."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def test_processes_share_the_batches_of_a_text_and_each_is_read_once(
    tiny_model: Path, model: PackedLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    per_token_loss = model.per_token_loss
    monkeypatch.setattr(
        model, "per_token_loss", lambda batch: read.append(batch.tokens) or per_token_loss(batch)
    )
    text = tokenise_text(load_tokenizer(tiny_model), SENTENCES, 32, "<s>")
    whole = score(model, text, batch_tokens=40).nats
    batches, read[:] = sorted(read), []
    parts = [score(model, text, batch_tokens=40, readers=Reader(rank, 3)).nats for rank in range(3)]
    assert sorted(read) == batches
    assert all(part.any() for part in parts)
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)


def test_without_start_token_the_first_token_is_context_and_its_bytes_are_not_counted(
    tiny_model: Path, model: PackedLanguageModel
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = tokenise_text(tokenizer, SENTENCES[:1], window=100, start_token=None)
    first = tokenizer.encode(SENTENCES[0]).offsets[0][1]
    assert text.bytes.tolist() == [len(SENTENCES[0]) - first]
    assert score(model, text).nats[0] == pytest.approx(plain_nats(tiny_model, SENTENCES[0], None), rel=1e-5)


@pytest.mark.parametrize("start", ["<s>", None])
def test_windows_predict_every_token_once(tiny_model: Path, start: str | None) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = tokenise_text(tokenizer, TEXTS[-1:], window=16, start_token=start)
    ids = tokenizer.encode(TEXTS[-1], add_special_tokens=False).ids
    assert all(len(window) <= 16 for window in text.windows)
    predicted = np.concatenate([window[1:] for window in text.windows]).tolist()
    assert predicted == (ids if start else ids[1:])


def test_special_tokens_in_a_text_are_plain_text(tiny_model: Path) -> None:
    text = tokenise_text(load_tokenizer(tiny_model), ["a</s>b"], 100, "<s>")
    assert 1 not in text.windows[0][1:]
    assert text.bytes.tolist() == [6]


def test_standard_error_is_that_of_a_ratio() -> None:
    scores = Scores(np.array([2.0, 4.0, 9.0]), np.array([1.0, 2.0, 3.0]))
    ratio = 15 / 6
    residuals = np.array([2 - ratio, 4 - 2 * ratio, 9 - 3 * ratio])
    expected = math.sqrt(3 / 2 * (residuals**2).sum()) / 6 / math.log(2)
    assert scores.standard_error == pytest.approx(expected)
    assert math.isnan(Scores(np.array([1.0]), np.array([1.0])).standard_error)


def test_no_text_and_unknown_start_token_are_errors(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    with pytest.raises(DataError, match="no text to score"):
        tokenise_text(tokenizer, [""], 100, "<s>")
    with pytest.raises(DataError, match="<nope>"):
        tokenise_text(tokenizer, ["a"], 100, "<nope>")
