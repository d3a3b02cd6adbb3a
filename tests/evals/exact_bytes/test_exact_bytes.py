"""Exact probabilities of bytes, against sums over all token sequences of all short texts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice, product
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from few_characters import KINDS, Toy, write_model

from cpt.errors import DataError, UsageError
from evals.exact_bytes.cover import END
from evals.exact_bytes.model import (
    ByteModel,
    complete,
    ensemble,
    fill_in_the_middle,
    load,
    log_probability,
)

LENGTH = 5
"""Characters of the texts that are enumerated; probabilities are compared for beginnings of two."""


@dataclass(frozen=True)
class BruteForce:
    """A model whose tokens are those of some text, by enumeration."""

    toy: Toy
    model: ByteModel

    @cached_property
    def whole(self) -> set[tuple[int, ...]]:
        return set(self.toy.encoded(LENGTH).values())

    @cached_property
    def begun(self) -> set[tuple[int, ...]]:
        return {ids[:end] for ids in self.whole for end in range(len(ids) + 1)}

    def following(self, ids: tuple[int, ...]) -> tuple[dict[int, float], float]:
        """p(token | ids) of each token that may follow, and p(end | ids)."""
        if ids not in self._known:
            tokens = self.model.tokens
            full = [*self.model.start, *(int(tokens.ids[token]) for token in ids)]
            self._known[ids] = self._normalised(ids, _logits(self.model.packed.model, full))
        return self._known[ids]

    @cached_property
    def _known(self) -> dict[tuple[int, ...], tuple[dict[int, float], float]]:
        return {}

    def _normalised(self, ids: tuple[int, ...], logits: np.ndarray) -> tuple[dict[int, float], float]:
        tokens = self.model.tokens
        exact = np.exp(logits - logits.max())
        found = {
            token: float(exact[tokens.ids[token]])
            for token in range(len(tokens.ids))
            if (*ids, token) in self.begun and (ids or self._leads(token))
        }
        end = float(exact[[0, 1]].sum()) if ids in self.whole else 0.0
        total = sum(found.values()) + end
        return {token: value / total for token, value in found.items()}, end / total

    def _leads(self, token: int) -> bool:
        return self.model.tokens.surfaces[token].startswith(self.model.tokens.lead)

    def probability(self, data: bytes, *, ends: bool = False) -> float:
        """Σ of the probabilities of all sequences that cover the bytes; with `ends`, that stop there."""
        return sum(self._covering(self.model.tokens.lead + data, (), 1.0, ends))

    def _covering(self, data: bytes, ids: tuple[int, ...], weight: float, ends: bool) -> Iterator[float]:
        if not data and not ends:
            yield weight
            return
        following, end = self.following(ids)
        if not data:
            yield weight * end
            return
        for token, chance in following.items():
            surface = self.model.tokens.surfaces[token]
            if data.startswith(surface):
                yield from self._covering(data[len(surface) :], (*ids, token), weight * chance, ends)
            elif surface.startswith(data) and not ends:
                yield weight * chance


def _logits(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    model.set_attn_implementation("documents")
    return found.double().numpy()


@cache
def _brute_force(kind: str) -> BruteForce:
    toy = KINDS[kind](Path(mkdtemp()))
    return BruteForce(toy, load(write_model(toy), precision="fp32"))


def _beginnings(toy: Toy, count: int) -> list[bytes]:
    """Beginnings of texts of two characters, also within characters, spread over all of them."""
    texts = ("".join(each).encode() for each in product(toy.characters, repeat=2))
    found = sorted({text[:end] for text in texts for end in range(len(text) + 1)})
    if toy.tokens.bpe.lead == "missing":  # a text is what it is without its first space
        found = [data for data in found if not data.startswith(b" ")]
    return list(islice(found, 0, None, max(1, len(found) // count)))


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_sums_over_all_token_sequences(kind: str) -> None:
    brute = _brute_force(kind)
    for data in _beginnings(brute.toy, 12):
        whole = brute.probability(data)
        state = brute.model.begin(data)
        found = state.distribution()
        assert found.sum() == pytest.approx(1)
        expected = np.zeros(END + 1)
        for byte in set(brute.toy.characters.encode()):
            expected[byte] = brute.probability(data + bytes([byte])) / whole
        if data or not brute.model.tokens.lead:
            expected[END] = brute.probability(data, ends=True) / whole
            assert expected.sum() == pytest.approx(1)
            np.testing.assert_allclose(found, expected, atol=2e-6, err_msg=repr(data))


@pytest.mark.parametrize("kind", KINDS)
def test_byte_by_byte_is_as_from_scratch_and_as_all_at_once(kind: str) -> None:
    brute = _brute_force(kind)
    text = f"a {brute.toy.characters}{brute.toy.characters[::-1]} a"
    scores = brute.model.score(text)
    data = brute.model.tokens.bytes_of(text)
    growing = brute.model.begin()
    for place, byte in enumerate(data):
        assert growing.distribution().sum() == pytest.approx(1)
        scratch = brute.model.begin(data[:place]).distribution()
        np.testing.assert_allclose(growing.distribution(), scratch, atol=2e-6)
        assert scores.bytes[place] == pytest.approx(math.log(scratch[byte]), abs=1e-4)
        assert growing.advance(byte) == pytest.approx(scores.bytes[place], abs=1e-4)
    assert scores.bytes.sum() == pytest.approx(log_probability(brute.model, text), abs=1e-3)


def test_score_of_the_texts_own_tokens() -> None:
    """Exact probabilities gain what tokens of no text have, and longer tokens at the end."""
    brute = _brute_force("GPT-2")
    text = "sa 's a÷"
    scores = brute.model.score(text)
    ids = brute.model.tokens.bpe.tokenizer.encode(text).ids
    nats = 0.0
    for place, token in enumerate(ids):
        logits = _logits(brute.model.packed.model, [*brute.model.start, *ids[:place]])
        nats -= logits[token] - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    assert -scores.tokens == pytest.approx(nats, abs=1e-3)
    assert scores.left_out < -0.1
    # "÷" ends a piece of one token, so only sequences that end with it cover the text
    assert scores.bytes.sum() >= scores.tokens - scores.left_out - 1e-3


def test_is_the_probability_of_the_token_where_only_one_sequence_covers_the_text() -> None:
    """Nothing else begins with a tabulator than the token of it alone."""
    brute = _brute_force("white space")
    [tab] = (t for t, surface in enumerate(brute.model.tokens.surfaces) if surface.startswith(b"\t"))
    following, end = brute.following((tab,))
    found = brute.model.begin("\t").distribution()
    assert found[ord("\t")] == pytest.approx(following[tab], abs=1e-6)
    assert found[END] == pytest.approx(end, abs=1e-6)


def test_an_ensemble_of_a_model_with_itself_is_the_model() -> None:
    model = _brute_force("GPT-2").model
    both = ensemble([model, model], [3, 1])
    np.testing.assert_allclose(both.begin("sa").distribution(), model.begin("sa").distribution(), atol=1e-9)
    assert log_probability(both, "s 'a", "sa") == pytest.approx(log_probability(model, "s 'a", "sa"))


def test_an_ensemble_of_two_tokenizers_is_the_mean_of_their_bytes() -> None:
    one, other = (_brute_force(kind).model for kind in ("GPT-2", "Mistral"))
    state = ensemble([one, other], [1, 3]).begin("as \u00e9"[:3])
    expected = 0.25 * one.begin("as ").distribution() + 0.75 * other.begin("as ").distribution()
    np.testing.assert_allclose(state.distribution(), expected)
    assert state.distribution().sum() == pytest.approx(1)
    byte = ord("s")
    assert state.advance(byte) == pytest.approx(math.log(expected[byte]))
    assert state.distribution().sum() == pytest.approx(1)


def test_weights_of_an_ensemble_are_checked() -> None:
    model = _brute_force("GPT-2").model
    with pytest.raises(UsageError, match="no ensemble"):
        ensemble([])
    with pytest.raises(UsageError, match="no ensemble"):
        ensemble([model, model], [1.0, 0.0])


def test_completions_end_with_whole_characters() -> None:
    model = _brute_force("GPT-2").model
    found = {complete(model, b"a\xc3", 1, seed=seed) for seed in range(30)}
    assert found
    assert found <= {b"\xa9", b"\xb7"}
    assert complete(model, "sa", 12, seed=4) == complete(model, "sa", 12, seed=4)
    assert len({complete(model, "sa", 12, seed=seed) for seed in range(8)}) > 1
    assert len({complete(model, "sa", 6, temperature=0, seed=seed) for seed in range(4)}) == 1
    likeliest = model.begin("sa").distribution().argmax()
    assert complete(model, "sa", 1, temperature=0)[:1] in (bytes([likeliest % 256]), b"")


def test_bytes_are_drawn_as_they_are_distributed() -> None:
    model = _brute_force("Metaspace").model
    expected = model.begin("a").distribution()
    drawn = [complete(model, "a", 1, seed=seed)[:1] for seed in range(100)]
    space = expected[ord(" ")]
    assert drawn.count(b" ") / 100 == pytest.approx(space, abs=4 * math.sqrt(space * (1 - space) / 100))


def test_filling_in_the_middle_puts_the_text_after_before_the_text_before() -> None:
    brute = _brute_force("GPT-2")
    markup = [1, 0, *brute.model.tokens.bpe.tokenizer.encode("s a").ids, 1]
    with_markup = replace(brute.model, start=(*brute.model.start, *markup))
    expected = BruteForce(brute.toy, with_markup)
    state = brute.model.begin("a", markup)
    for byte in b"as":
        chance = expected.probability(b"a" + bytes([byte])) / expected.probability(b"a")
        assert state.distribution()[byte] == pytest.approx(chance, abs=2e-6)
    found = [
        fill_in_the_middle(brute.model, "a", "s a", 9, markers=("</s>", "<s>", "</s>"), seed=seed)
        for seed in range(5)
    ]
    assert found == [complete(with_markup, "a", 9, seed=seed).decode() for seed in range(5)]
    assert found != [complete(brute.model, "a", 9, seed=seed).decode() for seed in range(5)]
    with pytest.raises(UsageError, match="lacks some of the tokens"):
        fill_in_the_middle(brute.model, "a", "s", 1)


def test_text_that_cannot_be_spelt_is_refused() -> None:
    model = _brute_force("GPT-2").model
    with pytest.raises(DataError, match="cannot spell the text"):
        model.score("as z")
    with pytest.raises(DataError, match="cannot spell the prompt"):
        model.begin(b"a\xff")
    assert log_probability(model, "z", "as") == -math.inf


def test_text_that_is_too_long_is_refused() -> None:
    model = _brute_force("GPT-2").model
    text = "a' " * 80
    with pytest.raises(DataError, match="of which the model reads 128"):
        model.score(text)
    with pytest.raises(DataError, match="of which the model reads 128"):
        model.begin(text).distribution()
