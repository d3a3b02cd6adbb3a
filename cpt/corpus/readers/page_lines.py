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
"""Number of lines at the top and at the bottom of a page that are compared with those of other pages."""

FEWEST_PAGES = 3
"""Fewest pages that have a running line."""

_SAME_COLUMN = 4
"""Most difference of the left edges of a column's lines, in heights of a line. An indent is less."""

_FEWEST_LINES = 3
"""Fewest lines that show the right edge of a column."""

_LEADING = 1.2
"""Most distance of two lines of a paragraph, in distances of the closest lines. TeX's lists have 1.22."""

_EVEN, _FEWEST_EVEN, _JUSTIFIED = 1.5, 5, 0.5
"""A column is justified if this number and share of its right edges differ by so many points at most."""

_LETTERS = 0.5
"""Least share of letters in a line of prose, spaces left out. Rows of tables have fewer."""

_PAGE_NUMBER = re.compile(
    r"[-\u2013\u2014|\[\]().,/\s]*(?:(?:page|pg|p|seite|s|p\u00e1gina|pagina|p\u00e1g)\.?\s*)?#"
    r"(?:\s*(?:/|of|von|de|di|sur)\s*\d{1,5})?[-\u2013\u2014|\[\]().,/\s]*",
    re.IGNORECASE,
)
"""A line that is a page number, written as #: # or - # - or Page # or Seite # von 90."""

_NUMBERS = re.compile(r"\d{1,5}")

_ITEM = re.compile(
    r"(?:[\u2022\u2023\u25aa\u25cf\u25e6\u2043\u2013\u2014*-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{2,4})[.)])\s"
)
"""The start of an item of a list: a bullet, a dash, or a number or letter with a mark."""

_ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u061f")
_BEFORE_A_LIST = (":", "\uff1a")
_WITHOUT_SPACES = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


class Line(NamedTuple):
    """A line of a page, in points from its lower left corner; mirrored if it is written from right to left.

    Attributes:
        text: Its text, not empty, without space around it.
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

    Running lines are at the same edge of at least `FEWEST_PAGES` pages. They are equal, or differ by a number
    that grows with the page. Lines of one word and a number that is no page's ("Chapter 3") are none.
    """
    keys = [list(_edge_keys(page, number)) for number, page in enumerate(pages)]
    counts = Counter(key for own in keys for key in {key for _, key in own})
    met: set[str] = set()
    found = []
    for page, own in zip(pages, keys, strict=True):
        gone = set()
        for at, key in own:
            if counts[key] < FEWEST_PAGES or at in gone:
                continue
            if _PAGE_NUMBER.fullmatch(key.text) or key.text in met:
                gone.add(at)
            else:
                met.add(key.text)
        found.append([line for at, line in enumerate(page) if at not in gone])
    return found


class _EdgeKey(NamedTuple):
    """The same for lines of several pages.

    Attributes:
        top: Whether they are at the top.
        text: Their text, without case; with # in the place of a number that grows with the page.
        offset: That number, less the number of the page.
    """

    top: bool
    text: str
    offset: int | None


def _edge_keys(page: Sequence[Line], number: int) -> Iterator[tuple[int, _EdgeKey]]:
    """Yield what lines at the edges of a page are compared by, with their place.

    Lines of a page that has no others, such as a slide, are no running lines, but may be page numbers.
    """
    short = len(page) <= 2 * EDGE
    for at, line in enumerate(page):
        for top in (True, False):
            if (at if top else len(page) - 1 - at) >= EDGE:
                continue
            text = line.text.casefold()
            if not short and any(map(str.isalpha, text)):
                yield at, _EdgeKey(top, text, None)
            for found in _NUMBERS.finditer(text):
                pattern = f"{text[: found.start()]}#{text[found.end() :]}"
                words = len(pattern.split()) - 1
                if _PAGE_NUMBER.fullmatch(pattern) or (words > 1 and not short):
                    yield at, _EdgeKey(top, pattern, int(found[0]) - number)


def _joined(pages: Sequence[Sequence[Line]]) -> Iterator[str]:
    """Yield the lines' texts, and what parts them from each other."""
    numbered = [(number, line) for number, page in enumerate(pages) for line in page]
    layouts = [_Layout(page) for page in pages]
    for (page, line), (next_page, following) in pairwise([*numbered, (-1, Line("", 0, 0, 0, 0))]):
        text = line.text
        new_page = page != next_page
        if not following.text or line.divided:
            parting = ""
        elif new_page and _is_divided(text, following.text):
            text, parting = text[:-1], ""
        elif layouts[page].goes_on(line, following, new_page):
            parting = "" if is_without_spaces(text[-1]) and is_without_spaces(following.text[0]) else " "
        else:
            parting = "\n\n" if new_page else "\n"
        yield text + parting


def _is_divided(line: str, following: str) -> bool:
    """Return True if the end of a page divides a word: PDFium marks such words within a page alone."""
    return line.endswith("-") and line[-2:-1].isalpha() and following[0].islower()


class _Layout:
    """The distances of a page's lines, and the right edges of its columns."""

    def __init__(self, page: Sequence[Line]) -> None:
        self._page = page
        steps = ((line, line.bottom - following.bottom) for line, following in pairwise(page))
        # not the usual one: on a page of lists most lines are paragraphs
        self._leading = _quantile(0.1, [step for line, step in steps if step > 0.9 * line.height] or [0.0])
        self._left = median([line.left for line in page] or [0.0])

    def goes_on(self, line: Line, following: Line, new_page: bool) -> bool:
        """Return True if a line ended because its column did, and not because its paragraph did."""
        if line.text.endswith(_BEFORE_A_LIST) or _ITEM.match(following.text):
            return False
        if abs(line.height - following.height) > 0.1 * line.height:
            return False
        if line.text[-1].isdigit() and following.text[-1].isdigit():  # a list of contents
            return False
        if new_page and line.text.endswith(_ENDS) and not following.text[0].islower():
            return False
        if not new_page and not self._is_next(line, following):
            return False
        return _is_prose(line.text) and _is_prose(following.text) and self._is_full(line, following)

    def _is_next(self, line: Line, following: Line) -> bool:
        """Return True if a line of the same page is next in its column, or begins the next column."""
        step = line.bottom - following.bottom
        if step < 0.5 * line.height:
            return step < 0 and following.left > line.right
        indented = following.left > line.left + 0.5 * line.height and not _ITEM.match(line.text)
        return step <= _LEADING * self._leading and not (indented and line.left <= self._left + line.height)

    def _is_full(self, line: Line, following: Line) -> bool:
        """Return True if a line reaches the right edge of its column, or the next word had no place in it."""
        rights = [
            each.right for each in self._page if abs(each.left - line.left) < _SAME_COLUMN * line.height
        ]
        if len(rights) < _FEWEST_LINES:
            return False
        end = _quantile(0.9, rights)
        even = sum(abs(right - end) < _EVEN for right in rights)
        if even >= max(_FEWEST_EVEN, _JUSTIFIED * len(rights)):
            return line.right > end - _EVEN
        first = following.text.split(maxsplit=1)[0]
        word = 1 if is_without_spaces(first[0]) else 1 + len(first)
        width = word * (following.right - following.left) / len(following.text)
        return line.right + width > end - 0.5 * line.height


def _quantile(share: float, values: Sequence[float]) -> float:
    """Return the value below which a share of some values are."""
    return sorted(values)[int(share * len(values))]


def _is_prose(text: str) -> bool:
    """Return True if half of a line's characters are letters, or marks of letters."""
    visible = [character for character in text if not character.isspace()]
    return sum(unicodedata.category(each)[0] in "LM" for each in visible) >= _LETTERS * len(visible)


def is_without_spaces(character: str) -> bool:
    """Return True for characters and marks of scripts without spaces between words; Hangul has them."""
    name = unicodedata.name(character, "")
    wide = unicodedata.east_asian_width(character) in "WF" and "HANGUL" not in name
    return wide or name.startswith(_WITHOUT_SPACES)


def is_right_to_left(text: str) -> bool:
    """Return True if most letters of a line are of a script that is written from right to left."""
    letters = [unicodedata.bidirectional(character) for character in text if character.isalpha()]
    return 2 * sum(each in ("R", "AL") for each in letters) > len(letters)
