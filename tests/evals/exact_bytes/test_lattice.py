"""Sequences that cover a text, of which only one ends with it."""

import random

import pytest
from few_characters import KINDS

from evals.exact_bytes.lattice import Lattice
from tokenizer_tools.canonical.tokens import CanonicalTokens, canonical_tokens

_PARTS = [
    " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u3000", "a", " the", "don't", "'s", "'S", "1", "12", "1234",
    ".", " .", "...", "é", "漢字", " việc", "lardan", "[REFERENCE_DOC_1", "]", "[", "🤔", "e\u0301", "Ünï",
    "</s>",
]  # fmt: skip


def _sequences(tokens: CanonicalTokens, text: str) -> list[list[int]]:
    lattice = Lattice(tokens)
    for byte in tokens.lead + tokens.bytes_of(text):
        lattice.advance(byte)
        assert len(lattice.ended) <= 3
    return [node.ids() for node in lattice.ended if node.may_end]


@pytest.mark.parametrize("kind", KINDS)
def test_the_librarys_tokens_are_the_only_ones_that_end_with_the_text(kind: str, tmp_path: object) -> None:
    toy = KINDS[kind](tmp_path)
    rng = random.Random(5)
    for _ in range(20):
        text = "".join(rng.choices(toy.characters, k=30))
        assert _sequences(toy.tokens, text) == [toy.tokens.bpe.tokenizer.encode(text).ids]


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["SmolLM2-135M-Instruct.Q4_1.gguf", "llama3/tokenizer.model", "240323.model.v3"]
)
def test_so_are_those_of_real_tokenizers(name: str) -> None:
    """White space, digits, contractions, scripts and looked-up words follow each other at random."""
    from cpt.references import PINNED_SHA256, resolve_tokenizer

    tokens = canonical_tokens(resolve_tokenizer(next(text for text in PINNED_SHA256 if text.endswith(name))))
    text = "".join(random.Random(3).choices(_PARTS, k=400))
    assert _sequences(tokens, text) == [tokens.bpe.tokenizer.encode(text, add_special_tokens=False).ids]
