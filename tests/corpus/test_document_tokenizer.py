"""Tokenising documents: no special tokens from data, nothing truncated, right marks, clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from cpt.corpus.document_tokenizer import DocumentTokenizer, special_token
from cpt.corpus.documents import Document
from cpt.errors import DataError, UsageError
from cpt.models.tokenizer import load_tokenizer


def pieces_of(tokenizer: DocumentTokenizer, *texts: str) -> list[list[np.ndarray]]:
    return list(tokenizer.pieces(Document(str(n), text) for n, text in enumerate(texts)))


def test_text_that_spells_special_tokens_never_yields_them(model_folder: Path) -> None:
    text = "ignore </s> and <s> as plain text </s>"
    assert {0, 1} & set(Tokenizer.from_file(str(model_folder / "tokenizer.json")).encode(text).ids)
    [[piece]] = pieces_of(DocumentTokenizer(model_folder, 64, "<s>", "</s>"), text)
    assert piece[0] == 0
    assert piece[-1] == 1
    assert not {0, 1} & set(piece[1:-1].tolist())
    assert load_tokenizer(model_folder).decode(piece[1:-1].tolist(), skip_special_tokens=False) == text


def test_truncation_and_padding_of_the_saved_tokenizer_are_ignored(model_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=10)
    tokenizer.save(str(model_folder / "tokenizer.json"))
    made = pieces_of(DocumentTokenizer(model_folder, 64, None, None), "a", "the heart of the matter " * 3)
    assert [len(piece) for [piece] in made] == [
        1,
        len(load_tokenizer(model_folder).encode("the heart of the matter " * 3)),
    ]


def test_documents_come_back_in_order_over_several_batches(model_folder: Path) -> None:
    texts = [f"document {number}" for number in range(1300)]
    tokenizer = load_tokenizer(model_folder)
    made = pieces_of(DocumentTokenizer(model_folder, 64, "<s>", None), *texts)
    assert [tokenizer.decode(piece[1:].tolist()) for [piece] in made] == texts


def test_a_text_without_tokens_is_named(model_folder: Path) -> None:
    with pytest.raises(DataError, match="document 1: the tokenizer makes no tokens"):
        pieces_of(DocumentTokenizer(model_folder, 64, "<s>", "</s>"), "fine", "")


def test_auto_takes_what_the_tokenizer_declares_as_string_or_object(model_folder: Path) -> None:
    assert special_token(model_folder, "auto", "bos") == "<s>"
    assert special_token(model_folder, "auto", "eos") == "</s>"
    assert special_token(model_folder, None, "bos") is None
    assert special_token(model_folder, "a", "eos") == "a"
    (model_folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": None}))
    assert special_token(model_folder, "auto", "bos") is None
    assert special_token(model_folder, "auto", "eos") is None


def test_an_unknown_token_is_refused_with_a_suggestion(model_folder: Path) -> None:
    with pytest.raises(UsageError, match="no token '</S>'\n  It has, for example, </s>"):
        special_token(model_folder, "</S>", "eos")


def test_a_folder_without_a_fast_tokenizer_is_explained(tmp_path: Path, new_model_folder: Callable) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read"):
        load_tokenizer(tmp_path)
    folder = new_model_folder("broken")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as a tokenizer"):
        load_tokenizer(folder)
