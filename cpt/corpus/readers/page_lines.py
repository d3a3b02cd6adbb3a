"""Make running text of the lines of pages: without running heads, and with whole paragraphs.

A PDF file has glyphs in places, no paragraphs. Trained on its lines as they are, a model learns to end a line
every 90 characters, and the title of the book in the middle of sentences.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

EDGE = 2
"""Lines at the top and at the bottom of a page that may be running heads and feet."""

FEWEST_PAGES = 3
"""Pages that have the same line at the same edge, from which on it is a running head."""

_SAME_COLUMN = 4
"""Difference of the left edges of lines in one column, in heights of a line: an indent is less."""

_FEWEST_LINES = 3
"""Lines of a column by which its right edge is told."""

_LEADING = 1.2
"""Distance of two lines, in distances of a paragraph's, beyond which it ends. TeX's lists have 1.22."""

_EVEN, _FEWEST_EVEN, _JUSTIFIED = 1.5, 5, 0.5
"""Points by which right edges of justified lines differ; number and share of a column's lines that are so."""

_LETTERS = 0.5
"""Least share of letters in a line of prose, spaces left out. Rows of tables have fewer."""

_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(r"\W*(?:[^\W\d]{1,6}\.?\s*)?\d{1,4}(?:\s*(?:/|[^\W\d]{1,3})\s*\d{1,4})?\W*")
"""A number with at most a word before it, and another number: 12, - 12 -, Page 12, Seite 12 von 90."""

_ITEM = re.compile(
    r"(?:[\u2022\u2023\u25aa\u25cf\u25e6\u2043\u2013\u2014*-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{2,4})[.)])\s"
)
"""The start of an item of a list: a bullet, a dash, or a number with a mark."""


class Line(NamedTuple):
    """A line of a page, in points from its lower left corner; mirrored if it is written from right to left.

    Attributes:
        text: Its text, without space around it.
        divided: Whether its last word goes on in the next line.
    """

    text: str
    left: float
    right: float
    bottom: float
    top: float
    divided: bool = False

    @property
    def height(self) -> float:
        """Return the height of its type."""
        return self.top - self.bottom


def running_text(pages: Sequence[Sequence[Line]]) -> str:
    """Return the text of pages, a line for each paragraph; an empty line where one ends with its page."""
    return "".join(_joined(without_running_lines(pages)))


def without_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Return the lines of pages without page numbers, and without all but the first of each running line.

    A running line is one of the first or the last `EDGE` lines of at least `FEWEST_PAGES` pages, where all
    numbers are equal.
    """
    counts: Counter[tuple[bool, str]] = Counter()
    for page in pages:
        counts.update({(at < EDGE, _key(page[at])) for at in _edges(page)})
    met: set[str] = set()
    found = []
    for page in pages:
        gone = set()
        for at in _edges(page):
            key = _key(page[at])
            if counts[at < EDGE, key] < FEWEST_PAGES:
                continue
            if key in met or _PAGE_NUMBER.fullmatch(page[at].text):
                gone.add(at)
            elif any(map(str.isalpha, key)):  # else a row of a table with numbers alone
                met.add(key)
        found.append([line for at, line in enumerate(page) if at not in gone])
    return found


def _edges(page: Sequence[Line]) -> list[int]:
    """Return the places of the lines at both ends of a page, those of a short page once."""
    return sorted({*range(min(EDGE, len(page))), *range(max(0, len(page) - EDGE), len(page))})


def _key(line: Line) -> str:
    return _DIGITS.sub("0", line.text).casefold()


def _joined(pages: Sequence[Sequence[Line]]) -> Iterator[str]:
    """Yield the lines' texts, and what parts them from each other."""
    numbered = [(number, line) for number, page in enumerate(pages) for line in page]
    layouts = [_Layout(page) for page in pages]
    if numbered:
        yield numbered[0][1].text
    for (page, line), (next_page, following) in pairwise(numbered):
        if line.divided:
            yield following.text
        elif layouts[page].goes_on(line, following, page != next_page):
            spaced = not (_is_ideograph(line.text[-1]) and _is_ideograph(following.text[0]))
            yield " " * spaced + following.text
        else:
            yield ("\n" if page == next_page else "\n\n") + following.text


class _Layout:
    """The distances of a page's lines, and the right edges of its columns."""

    def __init__(self, page: Sequence[Line]) -> None:
        self._page = page
        steps = ((line, line.bottom - following.bottom) for line, following in pairwise(page))
        # not the usual one: on a page of lists most lines are paragraphs
        self._leading = _quantile(0.1, [step for line, step in steps if step > 0.9 * line.height] or [0.0])

    def goes_on(self, line: Line, following: Line, new_page: bool) -> bool:
        """Return True if a line ended because its column did, and not because its paragraph did."""
        column = [other for other in self._page if abs(other.left - line.left) < _SAME_COLUMN * line.height]
        if len(column) < _FEWEST_LINES or not (_is_prose(line.text) and _is_prose(following.text)):
            return False
        if line.text.endswith(":") or _ITEM.match(following.text):
            return False
        if abs(line.height - following.height) > 0.1 * line.height:
            return False
        if new_page and line.text.endswith((".", "!", "?")) and not following.text[0].islower():
            return False
        if not new_page and not self._is_next(line, following):
            return False
        rights = [other.right for other in column]
        end = _quantile(0.9, rights)
        even = sum(abs(right - end) < _EVEN for right in rights)
        if even >= max(_FEWEST_EVEN, _JUSTIFIED * len(rights)):
            return line.right > end - _EVEN
        word = 1 if _is_ideograph(following.text[0]) else 1 + len(following.text.split(maxsplit=1)[0])
        width = word * (following.right - following.left) / len(following.text)
        return line.right + width > end - 0.5 * line.height  # the next word had no place

    def _is_next(self, line: Line, following: Line) -> bool:
        """Return True if a line of the same page is next in its column, or begins the next column."""
        step = line.bottom - following.bottom
        if step < 0.5 * line.height:
            return step < 0 and following.left > line.right
        lefts = [other.left for other in self._page]
        indented = following.left > line.left + 0.5 * line.height and not _ITEM.match(line.text)
        return step <= _LEADING * self._leading and not (
            indented and line.left <= median(lefts) + line.height
        )


def _quantile(share: float, values: Sequence[float]) -> float:
    """Return the value below which a share of some values are."""
    return sorted(values)[int(share * len(values))]


def _is_prose(text: str) -> bool:
    """Return True if half of a line's characters are letters."""
    visible = [character for character in text if not character.isspace()]
    return sum(map(str.isalpha, visible)) >= _LETTERS * len(visible)


def _is_ideograph(character: str) -> bool:
    """Return True for characters of scripts without spaces between words: Han and kana, not Hangul."""
    return unicodedata.name(character, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC"))
