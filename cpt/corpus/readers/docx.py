"""Extract the text of a Word file (DOCX): body, tables, text boxes, and notes.

python-docx opens the package; its own walk over paragraphs leaves out content controls, text boxes and notes,
so the elements are walked here. Source: ECMA-376, part 1, section 17 (WordprocessingML).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from cpt.corpus.readers.extracted import NoText

MOST_UNPACKED = 1 << 28
"""Bytes of all parts of a package: text that is longer has no place in one file, and a zip bomb has."""

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CHOICE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_NOTES = ("/footnotes", "/endnotes")
_ENCRYPTED = bytes.fromhex("d0cf11e0a1b11ae1")
"""The mark of a compound file, in which Word puts encrypted packages, and of the older .doc format."""


def extract(content: bytes) -> str:
    """Return the paragraphs, one a line, rows of tables with tabs, then the notes. Deleted text stays out.

    Raises:
        NoText: It is encrypted, damaged, larger than `MOST_UNPACKED`, or has no text.
    """
    if content.startswith(_ENCRYPTED):
        raise NoText("encrypted", "an encrypted package, or the older format .doc")
    _check_size(content)
    import docx
    from docx.opc.exceptions import PackageNotFoundError
    from lxml import etree

    try:
        part = docx.Document(io.BytesIO(content)).part
        lines = list(_blocks(part.element.body))
        for relation in part.rels.values():
            if not relation.is_external and relation.reltype.endswith(_NOTES):
                notes = etree.fromstring(relation.target_part.blob, _parser(etree))
                lines += [line for note in notes for line in _blocks(note)]
    except (PackageNotFoundError, etree.LxmlError, zipfile.BadZipFile, zlib.error) as error:
        raise NoText("damaged", str(error)) from error
    except (KeyError, ValueError, AttributeError, TypeError, NotImplementedError, EOFError, OSError) as error:
        # python-docx raises these at packages without their parts
        raise NoText("damaged", f"{type(error).__name__}: {error}") from error
    text = "\n".join(lines).strip()
    if not text:
        raise NoText("no_text", "the document has no text")
    return text


def _parser(etree: Any) -> Any:
    return etree.XMLParser(resolve_entities=False, no_network=True)


def _check_size(content: bytes) -> None:
    """Raise if the parts are too large, by the sizes that the package's directory gives.

    A directory that gives too small sizes is damaged: zipfile reads no more than it gives.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            size = sum(part.file_size for part in package.infolist())
            locked = any(part.flag_bits & 1 for part in package.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise NoText("damaged", str(error)) from error
    if locked:
        raise NoText("encrypted", "the package needs a password")
    if size > MOST_UNPACKED:
        raise NoText("too_large", f"unpacked it has {size:,} bytes, more than {MOST_UNPACKED:,}")


def _blocks(element: Any) -> Iterator[str]:
    """Yield the lines of paragraphs and tables below an element, whatever they are wrapped in."""
    for child in element:
        if child.tag == f"{_WORD}p":
            yield "".join(_runs(child))
            yield from _boxes(child)
        elif child.tag == f"{_WORD}tbl":
            yield from _rows(child)
        elif isinstance(child.tag, str) and child.tag not in _GONE:
            yield from _blocks(child)


def _runs(element: Any) -> Iterator[str]:
    """Yield the text of a paragraph, without that of text boxes and of runs that are gone."""
    for child in element:
        if child.tag == f"{_WORD}t":
            yield child.text or ""
        elif child.tag == f"{_WORD}tab":
            yield "\t"
        elif child.tag in (f"{_WORD}br", f"{_WORD}cr"):
            yield "\n"
        elif child.tag == f"{_WORD}noBreakHyphen":
            yield "-"
        elif child.tag not in _APART and isinstance(child.tag, str):
            yield from _runs(child)


_GONE = (f"{_WORD}del", f"{_WORD}moveFrom", f"{_CHOICE}Fallback")
"""Elements whose text is not read: deleted, moved to where `moveTo` has it again, or repeated."""

_APART = (*_GONE, f"{_WORD}pPr", f"{_WORD}txbxContent")


def _boxes(paragraph: Any) -> Iterator[str]:
    """Yield the lines of a paragraph's text boxes."""
    for child in paragraph:
        if child.tag == f"{_WORD}txbxContent":
            yield from _blocks(child)
        elif child.tag not in _GONE and isinstance(child.tag, str):
            yield from _boxes(child)


def _rows(table: Any) -> Iterator[str]:
    """Yield the rows of a table; a table in a cell is part of the cell's text."""
    for row in _own(table, f"{_WORD}tr"):
        cells = [" ".join(_blocks(cell)).strip() for cell in _own(row, f"{_WORD}tc")]
        if any(cells):
            yield "\t".join(cells)


def _own(element: Any, tag: str) -> Iterator[Any]:
    """Yield the elements of a tag below an element, also in content controls, but none below another one."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag not in _GONE and isinstance(child.tag, str):
            yield from _own(child, tag)
