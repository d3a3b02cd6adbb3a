"""Extract the text of a PDF file, page by page, with PDFium.

PDFium found the same words as pypdf and pdfminer.six, in a half to a tenth of the time (docs/corpus.md).
"""

from __future__ import annotations

from cpt.corpus.readers.extracted import NoText

_HYPHEN = "\x02"
"""The mark that PDFium puts for a hyphen at a line's end, with the parts of the word joined."""

_ENCRYPTED = 4
"""PDFium's error code of a password (FPDF_ERR_PASSWORD); 5 is a security handler that it does not know."""


def extract(content: bytes) -> str:
    """Return the pages' text, with an empty line between pages. Words divided at line ends are joined.

    Raises:
        NoText: It is encrypted or damaged, or no page has text (scanned pages need OCR).
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
            pages.append(_clean(text.get_text_bounded()))
            text.close()
            page.close()
        except pdfium.PdfiumError as error:
            raise NoText("damaged", f"page {number + 1}: {error}") from error
    if not any(pages):
        raise NoText("no_text", f"none of the {len(pages)} pages has text: scanned pages need OCR")
    return "\n\n".join(page for page in pages if page)


def _clean(text: str) -> str:
    lines = text.replace(_HYPHEN, "").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return lines.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
