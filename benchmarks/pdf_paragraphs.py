"""Paragraphs of chapters that are set as PDF files, and read again: as the pages' lines, and as cpt does.

    pip install fpdf2
    python benchmarks/pdf_paragraphs.py nursing.jsonl --chapters 80

A file has eight chapters with a running head and numbers of pages. A paragraph counts if it is a line of the
text that was read, whole and alone. Layouts: even or ragged right edges, with space between paragraphs or
without any, which is the hardest: only the lengths of lines tell where a paragraph ends.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import record
from fpdf import FPDF

from cpt.corpus.readers.page_lines import Line, running_text
from cpt.corpus.readers.pdf import pages_of

CHAPTERS = 8
"""Chapters of a file."""

HEAD = "Handbook for all wards, part"


class Pages(FPDF):
    """Pages with a running head and a number."""

    part = 0

    def header(self) -> None:
        self.set_font("Helvetica", "I", 8)
        self.cell(0, 8, f"{HEAD} {self.part}", align="R")
        self.ln(10)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", "I", 8)
        self.cell(0, 10, f"Page {self.page_no()}", align="C")


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, in the letters of the standard fonts."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    return [" ".join(line.split()) for line in plain.split("\n") if line.strip()]


def typeset(texts: Sequence[str], part: int, align: str, space: float) -> bytes:
    """Return a PDF file of some chapters.

    Args:
        align: "J": even right edges, "L": ragged ones.
        space: Millimetres between paragraphs.
    """
    pages = Pages()
    pages.part = part
    pages.set_auto_page_break(True, 20)
    pages.add_page()
    pages.set_font("Times", "", 11)
    for line in itertools.chain.from_iterable(map(paragraphs, texts)):
        pages.multi_cell(0, 5.5, line, align=align, new_x="LMARGIN", new_y="NEXT")
        pages.ln(space)
    return bytes(pages.output())


def as_lines(pages: Sequence[Sequence[Line]]) -> str:
    """Return the text of pages with their lines as they are."""
    return "\n".join("\n".join(line.text for line in page) for page in pages)


def shares(texts: Sequence[str], align: str, space: float) -> Iterator[tuple[str, float]]:
    """Yield the share of paragraphs found again, and the running heads left of those of all pages."""
    parts = [texts[at : at + CHAPTERS] for at in range(0, len(texts), CHAPTERS)]
    read = [pages_of(typeset(part, number, align, space)) for number, part in enumerate(parts, start=1)]
    for name, made in (("lines", as_lines), ("paragraphs", running_text)):
        wanted = found = heads = 0
        for part, pages in zip(parts, read, strict=True):
            text = made(pages)
            lines = set(text.split("\n"))
            own = [line for chapter in part for line in paragraphs(chapter)]
            wanted, found = wanted + len(own), found + sum(line in lines for line in own)
            heads += text.count(HEAD)
        yield name, round(found / wanted, 3)
        yield f"{name}_heads", round(heads / sum(map(len, read)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", type=Path, help="JSONL with a chapter a line, in text")
    parser.add_argument("--chapters", type=int, default=80)
    options = parser.parse_args()
    with options.texts.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in itertools.islice(file, options.chapters)]
    record.write(
        "pdf_paragraphs",
        {
            f"{'even' if align == 'J' else 'ragged'}, {space:g} mm": dict(shares(texts, align, space))
            for align in ("J", "L")
            for space in (0.0, 2.0)
        },
    )


if __name__ == "__main__":
    main()
