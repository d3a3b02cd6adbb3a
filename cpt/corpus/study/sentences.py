"""Split texts into sentences, within their lines, and into passages of whole lines or sentences."""
# ruff: noqa: RUF001 - quotes, dashes and full-width marks of texts

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise, takewhile

from cpt.corpus.study.language import Language

Span = tuple[int, int]

_BREAK = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_CLOSING = r"\"'”’»)\]}"
_PLACE = re.compile(
    # The mark of a note may stand behind the full stop: "was held.[12]", "was held.3"
    rf"[.!?…]+[{_CLOSING}]*(?:\[\d{{1,3}}\])*(?:(?<=[^\W\d]{{2}}\.)(?P<note>\d{{1,2}}))?(?=\s)"
    rf"|[。！？]+[{_CLOSING}」』）]*"
    rf"|[{_BREAK}]"
)
"""Places where a sentence may end."""

_LINE_BREAK = re.compile(rf"[{_BREAK}]")
_OPENING = re.compile(r"\s*([\"'“‘«(\[{¿¡*_–—•-]*)\s*(\S?)")
_HEAD = re.compile(r"[\w’'-]+")
_MIXED = re.compile(r"[^\W\d_]{1,2}[A-Z]")
"""Begin of a word such as mRNA, pH and eBay, which may begin a sentence."""

_WORD = re.compile(r"[^\W\d_]+\b(?!\.)")
_NUMBER = re.compile(r"\d|§|[IVXL]{2,}\b|[VX]\b|[A-Z]\d")
_BETWEEN = re.compile(r"[\s(\[{\"“‘«—–/]")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}\Z")
"""Letters with full stops between them: U.S, a.m, Ph.D."""

_ENTRY = re.compile(r"[§(\[]*\s*(?:\d{1,4}(?:\.\d+)*[a-z]?|[A-Za-z]|[ivxIVX]{1,5})[.)]+\Z")
"""Number of a list's entry or of a section: it belongs to the sentence behind it."""

_LONGEST = 24
"""Characters that are looked at in front of a full stop: no abbreviation is longer."""

_WHOLE = re.compile(rf"[.!?…。！？][{_CLOSING}」』）]*(?:\[\d{{1,3}}\])*\d{{0,2}}\Z")
_WRAPPED = 60
"""Least length of a line that may go on in the next one: headings are shorter."""

_WRAPPED_IF_PLAIN = 40


_NUMBERED = re.compile(r"[-–—\[(]?\s*\d{1,4}\s*[-–—\])]?")
_EMPTY = re.compile(r"\s*(?:\(\s*\)|\[\s*\])")
_BROKEN = r"[(,]\s*[,.;)]|\(\s|\.\s\.|(?:[a-z]{4}|\))\. [a-z]|\b(?:https?|www|doi)\b"
"""Signs of a lost reference, an omission or an address."""

_NOTE = re.compile(r"(?<=[^\W\d]{2}[.!?])\d{1,2}\Z|(?<=[.!?])(?:\[\d{1,3}\])+\Z")
_PAIRS = (("(", ")"), ("[", "]"), ("“", "”"))
_WORDS = 4
"""Fewest words of a sentence: shorter ones are headings, answers and rests of references."""


class _Abbreviations:
    """The abbreviations of a language, and the words that begin a sentence behind one."""

    def __init__(self, language: Language) -> None:
        keys = ("abbreviations", "before_numbers", "may_end", "starters", "labelled")
        self.never, self.before_numbers, self.may_end, self.starters, self.labelled = (
            frozenset(language.of("sentences", key)) for key in keys
        )

    def holds(self, text: str, start: int, stop: int, after: int) -> bool:
        """Return True if the full stop at `stop` belongs to an abbreviation that ends no sentence.

        Args:
            start: Begin of the sentence.
            after: Begin of the next word.
        """
        if stop - start < _LONGEST and _ENTRY.match(text[start : stop + 1]):
            return True
        token = _BETWEEN.split(text[max(start, stop - _LONGEST) : stop])[-1]
        if not token:
            # The last full stop of an ellipsis with spaces: "the court . . . Held"
            return text[start:stop].rstrip().endswith(".")
        both = {token, token.lower()}
        if both & self.never or (both & self.before_numbers and _NUMBER.match(text, after)):
            return True
        initial = len(token) == 1 and token.isupper() and not self._is_label(text[start : stop - 1])
        if not initial and not both & self.may_end and not _DOTTED.match(token):
            return False
        word = _WORD.match(text, after)
        return word is None or word[0] not in self.starters

    def _is_label(self, before: str) -> bool:
        words = before.rsplit(maxsplit=1)
        return bool(words) and words[-1].lower() in self.labelled


def sentences(text: str, language: Language) -> Iterator[Span]:
    """Yield the places (start, end) of a text's sentences. A line break ends a sentence.

    Args:
        language: Language whose abbreviations end no sentence.
    """
    abbreviations = _Abbreviations(language)
    start = 0
    for place in _PLACE.finditer(text):
        mark = text[place.start()]
        if mark in ".!?…":
            if not _ends(text, start, place, abbreviations):
                continue
            end = place.end()
        else:
            end = place.end() if mark in "。！？" else place.start()
        yield from _trimmed(text, start, end)
        start = place.end()
    yield from _trimmed(text, start, len(text))


def paragraphs(text: str, language: Language) -> Iterator[list[Span]]:
    """Yield the whole sentences of each line that has any.

    Left out are sentences without a mark at their end (headings), and the rest of a sentence that a line
    break cut: one in lower case, or one that follows a long line without a mark at its end.
    """
    lines: list[list[Span]] = []
    at = 0
    for span in sentences(text, language):
        if not lines or _LINE_BREAK.search(text, at, span[0]):
            lines.append([])
        lines[-1].append(span)
        at = span[1]
    cut = False
    for line in lines:
        # The number of a page in the middle of a sentence
        if _NUMBERED.fullmatch(text, line[0][0], line[-1][1]):
            continue
        whole = [span for span in line if _WHOLE.search(text, *span)]
        if line[0] in whole and (cut or text[line[0][0]].islower()):
            del whole[0]
        cut = (
            line[-1] not in whole
            and text[line[-1][1] - 1] != ":"
            and _is_wrapped(text[line[0][0] : line[-1][1]])
        )
        if whole:
            yield whole


def _is_wrapped(line: str) -> bool:
    """Return True for a line that is no heading: a long one, or one of words without capitals and a comma."""
    words = line.split()
    plain = sum(word[0].islower() for word in words) * 2 > len(words) and "," in line
    return len(line) >= (_WRAPPED_IF_PLAIN if plain else _WRAPPED)


def _ends(text: str, start: int, place: re.Match[str], abbreviations: _Abbreviations) -> bool:
    opening = _OPENING.match(text, place.end())
    assert opening is not None
    first = opening[2]
    if first in ",;:.!?)]…§":
        return False
    if first.islower() and "•" not in opening[1] and not _MIXED.match(text, opening.start(2)):
        return False
    after = place.start("note") if place["note"] else opening.start(2)
    mark = place.start()
    single = text[mark] == "." and text[mark + 1] not in ".!?…"
    return not (single and abbreviations.holds(text, start, mark, after))


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if left < len(piece):
        yield start + left, start + len(piece.rstrip())


class SentenceCheck:
    """Checks of single sentences: can a question use them."""

    def __init__(self, language: Language) -> None:
        dependent, lost = (language.of("sentences", key) for key in ("dependent", "lost_after"))
        self._dependent = tuple(f"{start} " for start in dependent)
        self._lost = re.compile(rf"\b(?:{any_of(lost)})\s*[.,;)]|{_BROKEN}")

    def is_sound(self, sentence: str) -> bool:
        """Return True for a sentence of words without one-sided brackets, addresses or a lost reference."""
        words = sentence.split()
        return (
            len(words) >= _WORDS
            and sum(word[0].islower() for word in words) * 2 >= len(words)
            and all(sentence.count(left) == sentence.count(right) for left, right in _PAIRS)
            and sentence.count('"') % 2 == 0
            and not self._lost.search(sentence)
        )

    def stands_alone(self, sentence: str) -> bool:
        """Return True for a sentence whose first words do not refer to the one before it."""
        head = " ".join(_HEAD.findall(sentence[: 2 * _LONGEST])).lower()
        return not f"{head} ".startswith(self._dependent)


def in_one_line(sentence: str) -> str:
    """Return a sentence with single spaces, without the mark of a note and brackets that hold nothing."""
    return _NOTE.sub("", " ".join(_EMPTY.sub("", sentence).split()))


def capital(text: str) -> str:
    """Return a sentence that lost its first words with a capital; mRNA and pH stay."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def any_of(words: Iterable[str]) -> str:
    """Return a pattern for any of the words, longer ones first."""
    return "|".join(map(re.escape, sorted(words, key=lambda word: (-len(word), word))))


def opening(text: str, size: int, language: Language) -> str:
    """Return the first sentences of a text, at most `size` characters; empty if the first one is longer."""
    if len(text) <= size:
        return text
    ends = [end for _, end in takewhile(lambda span: span[1] <= size, sentences(text, language))]
    return text[: ends[-1]] if ends else ""


def passages(text: str, most: int, language: Language) -> Iterator[tuple[int, int]]:
    """Divide a text into passages of at most so many characters, at ends of lines or else of sentences.

    A sentence that is longer is a passage of its own.
    """
    begin = end = 0
    for _, stop in _units(text, most, language):
        if end > begin and stop - begin > most:
            yield begin, end
            begin = end
        end = stop
    if text[begin:end].strip():
        yield begin, end


def _units(text: str, most: int, language: Language) -> Iterator[tuple[int, int]]:
    """Yield the lines of a text, those that are too long in sentences, so that they cover all of it."""
    at = 0
    for line in text.splitlines(keepends=True):
        stop = at + len(line)
        if len(line) <= most:
            yield at, stop
        else:
            ends = [at + end for _, end in sentences(line, language)]
            borders = [at, *ends[:-1], stop]
            yield from pairwise(borders)
        at = stop
