"""Beginnings of documents that several models score byte by byte."""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from few_characters import KINDS, byte_level, write_model

from cpt.corpus.documents import Document
from cpt.errors import DataError
from cpt.models.bits_per_byte import score, tokenise_text
from evals.exact_bytes.excerpts import MARGIN, score_ensemble, score_excerpts, take_excerpts
from evals.exact_bytes.model import ByteModel, ensemble, load, log_probability

DOCUMENTS = [
    Document(id="one", text="sa as a"),
    Document(id="two", text="a 's saa s"),
    Document(id="three", text="a"),
]


@pytest.fixture(scope="module")
def models() -> list[ByteModel]:
    kinds = ("GPT-2", "one piece")
    return [
        load(write_model(KINDS[kind](Path(mkdtemp())), seed), precision="fp32")
        for seed, kind in enumerate(kinds)
    ]


def _taken(model: ByteModel, most: int) -> tuple[str, ...]:
    return take_excerpts(DOCUMENTS, [model.tokens], [128], most).texts


def test_documents_end_before_white_space_where_they_are_cut(models: list[ByteModel]) -> None:
    first, second, third = (document.text for document in DOCUMENTS)
    assert _taken(models[0], 100) == (first, second, third)
    assert _taken(models[0], len(first) + 5) == (first, "a 's")
    assert _taken(models[0], len(first)) == (first,)
    assert _taken(models[0], 1) == ("s",)


def test_all_models_can_read_the_beginnings() -> None:
    """The one without merges takes most tokens."""
    models = [KINDS["GPT-2"](Path(mkdtemp())).tokens, byte_level(Path(mkdtemp()), "as' ", []).tokens]
    long = Document(id="long", text="aa sas aa 'saa " * 9)
    found = take_excerpts([long, *DOCUMENTS], models, (128, 1 + MARGIN + 12), 10_000)
    assert found.texts[0] == "aa sas aa"  # ten are the most before white space within twelve bytes
    assert found.texts[1:] == tuple(document.text for document in DOCUMENTS)
    assert found.bytes.tolist() == [9, 7, 10, 1]
    with pytest.raises(DataError, match="no room"):
        take_excerpts(DOCUMENTS, models, (128, 1 + MARGIN), 100)


def test_documents_that_a_tokenizer_cannot_spell_are_left_out_for_all(models: list[ByteModel]) -> None:
    tokens = [models[0].tokens, models[1].tokens]  # the second has no apostrophe
    found = take_excerpts(DOCUMENTS, tokens, (128, 128), 100)
    assert found.ids == ("one", "three")
    assert found.left_out == {"the tokenizer cannot spell the text": 1}
    with pytest.raises(DataError, match="no text that can be scored") as caught:
        take_excerpts([Document(id="x", text="xyz")], tokens, (128, 128), 100)
    assert "cannot spell" in str(caught.value)


def test_scores_are_those_of_each_text(models: list[ByteModel]) -> None:
    excerpts = take_excerpts(DOCUMENTS, [model.tokens for model in models], (128, 128), 100)
    seen: list[int] = []
    scores = [score_excerpts(model, excerpts, seen.append) for model in models]
    assert seen == [7, 1, 7, 1]
    for model, of_model in zip(models, scores, strict=True):
        expected = [-log_probability(model, text) for text in excerpts.texts]
        np.testing.assert_allclose(of_model.exact.nats, expected, rtol=1e-4)
        tokenised = tokenise_text(model.tokens.bpe.tokenizer, excerpts.texts, 128, "<s>")
        by_tokens = score(model.packed, tokenised)
        np.testing.assert_allclose(of_model.by_tokens.nats, by_tokens.nats, rtol=1e-4)
        assert of_model.by_tokens.bytes.tolist() == by_tokens.bytes.tolist()
        assert of_model.left_out > 0
        assert of_model.exact.bits_per_byte < of_model.by_tokens.bits_per_byte
    both = ensemble(models)
    expected = [-log_probability(both, text) for text in excerpts.texts]
    np.testing.assert_allclose(score_ensemble(scores).nats, expected, rtol=1e-4)
