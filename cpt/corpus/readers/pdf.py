"""Extract the text of a PDF file, page by page, with PDFium.

PDFium found the same words as pypdf and pdfminer.six, in less time (docs/corpus.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cpt.corpus.readers.extracted import NoText
from cpt.corpus.readers.page_lines import Line, is_right_to_left, running_text

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

_HYPHENS = "\x02\ufffe"
"""Marks that PDFium puts for a hyphen at a line's end; the rest of the word follows at once."""

_ENDS = f"\r\n{_HYPHENS}"

_ENCRYPTED = 4
"""PDFium's error code of a password (FPDF_ERR_PASSWORD); 5 is a security handler that it does not know."""


def extract(content: bytes) -> str:
    """Return the pages' running text: whole paragraphs, without running heads and page numbers.

    Raises:
        NoText: It is encrypted or damaged, or no page has text (scanned pages need OCR).
    """
    pages = pages_of(content)
    text = running_text(pages)
    if not text:  # also where all text is page numbers
        raise NoText("no_text", f"none of the {len(pages)} pages has text: scanned pages need OCR")
    return text


def pages_of(content: bytes) -> list[list[Line]]:
    """Return the lines of each page of a file.

    Raises:
        NoText: It is encrypted or damaged.
    """
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code in (_ENCRYPTED, _ENCRYPTED + 1):
            raise NoText("encrypted", "it needs a password") from error
        raise NoText("damaged", str(error)) from error
    pages = []
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage()
            pages.append(list(_lines(text)))
            text.close()
            page.close()
        except pdfium.PdfiumError as error:
            raise NoText("damaged", f"page {number + 1}: {error}") from error
    return pages


def _lines(page: PdfTextPage) -> Iterator[Line]:
    """Yield the lines of a page that have text."""
    characters = _characters(page)
    start = 0
    for at, character in enumerate([*characters, "\n"]):
        if character in _ENDS:
            words = "".join(characters[start:at])
            shown = range(start + len(words) - len(words.lstrip()), start + len(words.rstrip()))
            if text := _clean(words):
                yield _line(page, shown, text, character in _HYPHENS)
            start = at + 1


def _characters(page: PdfTextPage) -> Sequence[str]:
    """Return the characters of a page, each in its place of PDFium's list, by which it tells their boxes."""
    from pypdfium2.raw import FPDFText_GetUnicode

    # six times as fast as one at a time, but 16 bits a character, and some may be left out
    plain = page.get_text_range()
    if len(plain) == page.count_chars() and max(page.get_text_bounded(), default="") <= "\uffff":
        return plain
    return [chr(FPDFText_GetUnicode(page, at)) for at in range(page.count_chars())]


def _line(page: PdfTextPage, characters: range, text: str, divided: bool) -> Line:
    """Return a line with its place on the page."""
    places = (characters[0], characters[len(characters) // 2], characters[-1])  # their type may differ
    lefts, bottoms, rights, tops = zip(*(page.get_charbox(at, loose=True) for at in places), strict=True)
    left, right = min(lefts), max(rights)
    if is_right_to_left(text):
        left, right = -right, -left
    return Line(text, left, right, min(bottoms), max(tops), divided)


def _clean(text: str) -> str:
    """Return a line's text with whole code points, and without those that stand for nothing."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
