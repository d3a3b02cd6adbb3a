"""Split text into words and sentences by rules: a light splitter for the filters of datatrove."""

from __future__ import annotations

from collections.abc import Iterator

import regex
from datatrove.utils.text import TERMINAL_PUNCTUATION
from datatrove.utils.word_tokenizers import WordTokenizer

# Scripts that write no spaces: each letter with its marks is a word of its own, as by Unicode's rules without
# a dictionary (UAX #29, section 4.1).
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]+"
_WORD = regex.compile(
    rf"{_LETTERS}(?:['\u2019.,]{_LETTERS})*|[{_UNSPACED}]\p{{M}}*|([^\s\p{{L}}\p{{M}}\p{{N}}_])\1*|\S",
    regex.VERSION1,
)
_ENDS = "".join(sorted(TERMINAL_PUNCTUATION))
# An end is followed by white space, or is one of the ends that need none; "J. Smith" has no end.
_END = regex.compile(
    rf"(?<!\b\p{{Lu}})[{regex.escape(_ENDS)}]+[\"'\u201d\u2019\u00bb)\]]*(?=\s|\Z|(?<=[\u3002\uff01\uff1f\uff61]))|\n+",
    regex.VERSION1,
)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text: runs of letters, marks and digits, and runs of one punctuation mark.

    Points, commas and apostrophes within a word belong to it ("don't", "3.5", "U.S"); a hyphen divides.
    """
    return (match.group() for match in _WORD.finditer(text))


class Splitter(WordTokenizer):
    """A splitter for every language, without a model.

    It differs from spaCy, which datatrove uses for English, in contractions ("don't" is one word, not two),
    abbreviations and web addresses. Chinese, Japanese, Thai, Lao, Khmer and Burmese have one word for each
    letter, so their words are shorter than any limit that is made for English.
    """

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return list(words(text))

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the sentences of a text, without the white space around them."""
        sentences = (text[start:end].strip() for start, end in self.span_tokenize(text))
        return [sentence for sentence in sentences if sentence]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return first and last position of each sentence; together they are the whole text."""
        ends = [match.end() for match in _END.finditer(text)]
        if not ends or text[ends[-1] :].strip():
            ends.append(len(text))
        ends[-1] = len(text)
        return list(zip([0, *ends[:-1]], ends, strict=True))
