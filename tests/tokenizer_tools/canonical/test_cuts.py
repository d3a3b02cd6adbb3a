"""States of pre-tokenizers, against the tokenizers library over all short texts."""

from collections.abc import Sequence
from itertools import product

import pytest
from tokenizers import Regex, pre_tokenizers

from cpt.errors import DataError
from cpt.references.tiktoken import _LLAMA_3, _LLAMA_4
from tokenizer_tools.canonical.characters import NUMERIC, Characters, spelt_by_bytes
from tokenizer_tools.canonical.cuts import DEAD, Cuts
from tokenizer_tools.canonical.pattern import compile_pattern, single
from tokenizer_tools.extension.ngram_pre_tokenizer import GPT2_PATTERN

CASES = {
    "GPT-2": ([GPT2_PATTERN], " \na's1."),
    "digits": ([NUMERIC, GPT2_PATTERN], " \na1²"),
    "Llama 3": ([_LLAMA_3], " \na's1\u017f"),
    "Llama 4": ([_LLAMA_4], " \naA'S/"),
    "one after another": ([r"\p{N}{1,3}", r"[一-龥]+", r"[A-Za-z]+|\s+(?!\S)|\s+"], "1a 漢.\n"),
    "text outside of matches": ([r"ab+|b(?=a)|aab|c{2}"], "abc"),
    "giving nothing back": ([r"[^\r\n\p{L}]?+\p{L}++|(?>\s+)(?=a|\p{Lu})|."], "aA 1"),
    "words in the pattern": ([r"\[A1\]|\[A\]|\[A11\]"], "[A1]"),
}


def _cuts(sources: Sequence[str]) -> tuple[Cuts, Characters]:
    patterns = [single(NUMERIC, repeated=False) if s == NUMERIC else compile_pattern(s) for s in sources]
    atoms = sorted(set().union(*(pattern.atoms for pattern in patterns)))
    every = spelt_by_bytes(range(256))
    characters = Characters(atoms, every, every)
    return Cuts(patterns, characters, atoms), characters


def _library(sources: Sequence[str]) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True)
            if source == NUMERIC
            else pre_tokenizers.Split(Regex(source), "isolated")
            for source in sources
        ]
    )


@pytest.mark.parametrize("name", CASES)
def test_states_are_alive_where_some_text_is_cut_so(name: str) -> None:
    """Every text of three characters, with every set of cuts: some continuation has them, or it is dead."""
    sources, alphabet = CASES[name]
    cuts, characters = _cuts(sources)
    library = _library(sources)
    length, shown = 5, 3
    possible: set[tuple[str, frozenset[int]]] = set()
    complete: set[tuple[str, frozenset[int]]] = set()
    for size in range(1, length + 1):
        for text in map("".join, product(alphabet, repeat=size)):
            starts = {start for _, (start, _) in library.pre_tokenize_str(text)}
            complete.add((text, frozenset(starts)))
            for end in range(1, size + 1):
                possible.add((text[:end], frozenset(start for start in starts if start < end)))
    for size in range(1, shown + 1):
        for text in map("".join, product(alphabet, repeat=size)):
            for flags in product((False, True), repeat=size):
                state = cuts.start
                for character, starts_piece in zip(text, flags, strict=True):
                    table = cuts.new_piece if starts_piece else cuts.same_piece
                    state = int(table[state, characters.of(character)])
                key = text, frozenset(place for place, starts_piece in enumerate(flags) if starts_piece)
                assert (state != DEAD) == (key in possible), key
                assert bool(cuts.may_end[state]) == (key in complete), key


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (r"a(?=bc)", "further than one character"),
        (r"(?<=a)b", "a special kind"),
        (r"\bword", "it has"),
        (r"a+?", "as little as it can"),
        (r"(?:ab)++", "gives nothing back"),
        (r"a*", "the empty text"),
        (r"(a|b", "not closed"),
        (r"a)", "not opened"),
        (r"[ab", "not closed"),
        (r"^a", "'^'"),
        (r"(?:a{40}){200}", "too long"),
    ],
)
def test_expressions_that_are_not_followed_are_refused(source: str, reason: str) -> None:
    with pytest.raises(DataError, match="cannot be followed") as caught:
        compile_pattern(source)
    assert reason in caught.value.message


def test_characters_are_of_a_class_if_the_library_matches_them_alike() -> None:
    atoms = [r"\p{L}", r"\s", "(?i:s)", r"[^\s\p{L}]", NUMERIC]
    every = spelt_by_bytes(range(256))
    characters = Characters(atoms, every, every)
    for character in "aA sS\u017féß漢\t\n\u3000²½1٣.'�\U000e0041\U0005ffff\U0010fffd":
        expected = [
            len(pre_tokenizers.Digits(True).pre_tokenize_str(f"a{character}a")) == 3
            if atom == NUMERIC
            else not pre_tokenizers.Split(Regex(atom), "removed").pre_tokenize_str(character)
            for atom in atoms
        ]
        assert characters.matches[characters.of(character)].tolist() == expected, character


def test_beginnings_of_characters() -> None:
    without = spelt_by_bytes(set(range(256)) - {0xA9})
    characters = Characters([r"\p{L}"], without, without)
    letter = characters.of("a")
    assert characters.of("é") == -1  # its second byte has no token
    assert characters.begun(b"\xc3")[letter]
    assert not characters.begun(b"\xc3\x28").any()
    assert not characters.begun(b"\xff").any()
    assert not characters.begun(b"\xe0\x80").any()  # two bytes would do
    assert not characters.begun(b"\xed\xa0").any()  # surrogates
    assert not characters.begun(b"a").any()  # complete
