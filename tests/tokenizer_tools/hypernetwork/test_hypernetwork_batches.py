"""Batches: a pure function of the step, whose tokens spell the texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_hypernetworks import SMALL, TEXTS, small

from tokenizer_tools.hypernetwork.surface_forms import surface_forms
from tokenizer_tools.hypernetwork.training.batches import Batch, batches_of
from tokenizer_tools.hypernetwork.training.texts import TextStream
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary


@pytest.fixture(scope="module")
def source(tiny_model: Path) -> Vocabulary:
    return read_vocabulary(tiny_model)


def batches(source: Vocabulary, first: int, last: int, seed: int = 17, **settings: object) -> list[Batch]:
    return list(batches_of(source, TEXTS, small(**settings), seed).of_steps(first, last))


def same(one: Batch, other: Batch) -> bool:
    return (
        all(np.array_equal(a, b) for a, b in zip(one.texts, other.texts, strict=True))
        and torch.equal(one.forms.ids_NL, other.forms.ids_NL)
        and torch.equal(one.forms.mask_NL, other.forms.mask_NL)
        and np.array_equal(one.bytes, other.bytes)
        and (one.vocabulary, one.noise) == (other.vocabulary, other.noise)
    )


def test_a_step_has_the_same_batch_wherever_the_run_begins(source: Vocabulary) -> None:
    whole = batches(source, 0, 7, predicted=400)
    for first in (0, 3, 6):
        for found, expected in zip(batches(source, first, 7, predicted=400), whole[first:], strict=True):
            assert same(found, expected)
    assert not same(whole[0], whole[1])
    assert not same(batches(source, 0, 1, seed=3, predicted=400)[0], whole[0])


def spelt(batch: Batch, surfaces: Sequence[bytes]) -> list[bytes]:
    return [b"".join(surfaces[place] for place in text) for text in batch.texts]


def surfaces_of(batch: Batch, source: Vocabulary) -> list[bytes]:
    """The bytes of the predicted tokens, by their pieces."""
    forms = batch.forms
    return [
        b"".join(source.surfaces[i] or b"?" for i in ids[mask].tolist())
        for ids, mask in zip(forms.ids_NL, forms.mask_NL, strict=True)
    ]


def test_tokens_spell_the_texts_of_the_step(source: Vocabulary) -> None:
    settings = {"sequence_length": 400, "network": {**SMALL["network"], "pieces": 20}}
    made, stream = batches_of(source, TEXTS, small(**settings), 17), TextStream(TEXTS, 5 * 400, 17)
    for step, batch in enumerate(made.of_steps(0, 3)):
        texts = stream.read(16 + 3 * step, 16 + 3 * step + 3)
        surfaces = surfaces_of(batch, source)
        assert spelt(batch, surfaces) == [text.encode() for text in texts]
        assert batch.bytes.tolist() == list(map(len, surfaces))
        assert batch.tokens == sum(map(len, batch.texts))
        assert batch.targets == batch.tokens - 3
        firsts = [len(surfaces[text[0]]) for text in batch.texts]
        assert batch.target_bytes == sum(len(text.encode()) for text in texts) - sum(firsts)
        assert batch.forms.truncated == 0
        again = surface_forms(source, surfaces, 20)
        assert torch.equal(again.ids_NL, batch.forms.ids_NL)


def test_settings_bound_the_batch(source: Vocabulary) -> None:
    (short,) = batches(source, 0, 1, sequence_length=5)
    assert all(len(text) <= 5 for text in short.texts)
    (many,) = batches(source, 0, 1, texts=7)
    assert len(many.texts) == 7
    (cut,) = batches(source, 0, 1, network={**SMALL["network"], "pieces": 2})
    assert cut.forms.ids_NL.shape[1] == 2
    assert cut.forms.truncated > 0


def test_only_some_tokens_of_a_vocabulary_are_predicted(source: Vocabulary) -> None:
    (whole,) = batches(source, 0, 1)
    (some,) = batches(source, 0, 1, predicted=200)
    (fewest,) = batches(source, 0, 1, predicted=1)
    used = len(np.unique(np.concatenate(whole.texts)))
    assert (len(whole.bytes), len(some.bytes), len(fewest.bytes)) == (whole.vocabulary, 200, used)
    assert some.vocabulary == whole.vocabulary == 450
    for batch in (some, fewest):
        assert spelt(batch, surfaces_of(batch, source)) == spelt(whole, surfaces_of(whole, source))


MERGED = {"dynamic": 1.0, "sampling": {}, "sequence_length": 400}


def test_merged_batches_are_the_texts_in_own_and_merged_tokens(source: Vocabulary) -> None:
    """In every step another share of the tokens is merged, and rows are those of pieces."""
    settings = {**MERGED, "network": {**SMALL["network"], "pieces": 40}}
    plain, cut, stream = [], [], TextStream(TEXTS, 5 * 400, 17)
    lengths = []
    for step, batch in enumerate(batches(source, 0, 6, **settings)):
        texts = stream.read(3 * step, 3 * step + 3)
        surfaces = surfaces_of(batch, source)
        assert spelt(batch, surfaces) == [text.encode() for text in texts]
        assert batch.bytes.tolist() == list(map(len, surfaces))
        own = batch.forms.is_source_token(len(source.tokens))
        assert own[: len(source.tokens) - 2].all()  # all but its two special tokens have their own rows
        assert batch.vocabulary == len(surfaces)
        own_lengths = [len(source.tokenizer.encode(text).ids) for text in texts]
        plain.append(sum(own_lengths))
        cut.append(sum(min(length, 400) for length in own_lengths))
        lengths.append(batch.tokens)
    shares = [1 - after / before for before, after in zip(plain, lengths, strict=True)]
    assert max(shares) > 0.6 > 0.3 > min(shares) > 0
    few = batches(source, 0, 6, **{**settings, "dynamic": 0.01})
    left = [each.tokens / before for each, before in zip(few, cut, strict=True)]
    assert min(left) > 0.9  # one merge alone removes 3% of so little text


def test_merged_batches_are_the_same_wherever_the_run_begins(source: Vocabulary) -> None:
    whole = batches(source, 0, 4, **MERGED, predicted=100)
    for found, expected in zip(batches(source, 2, 4, **MERGED, predicted=100), whole[2:], strict=True):
        assert same(found, expected)
    assert not same(batches(source, 0, 1, seed=3, **MERGED, predicted=100)[0], whole[0])
    (cut,) = batches(source, 0, 1, **{**MERGED, "sequence_length": 5}, predicted=100)
    assert all(len(text) <= 5 for text in cut.texts)
    assert len(whole[0].bytes) < 300 <= len(batches(source, 0, 1, **MERGED)[0].bytes)
