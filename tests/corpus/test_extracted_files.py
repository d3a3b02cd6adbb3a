"""Web pages, PDF and Word files: their text, every reason for which one is left out, and the limits."""

from __future__ import annotations

import gzip
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_documents import WORD, docx, paragraph, pdf

from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.readers import Extracting, Options, ReadFiles, extracted, missing_library, read
from cpt.corpus.readers.docx import MOST_UNPACKED
from cpt.corpus.readers.docx import extract as docx_text
from cpt.corpus.readers.extracted import Extraction, NoText
from cpt.corpus.readers.html import extract as html_text
from cpt.corpus.readers.pdf import _lines as pdf_lines
from cpt.corpus.readers.pdf import extract as pdf_text
from cpt.errors import CptError, SourceError

SENTENCE = "The heart pumps blood through the vessels of the body, and they bring it back. "
PAGE = (
    "<html><head><title>Heart</title></head><body><nav><a href='/'>Home</a> <a href='/a'>All pages</a></nav>"
    f"<main><h1>Heart</h1><p>{SENTENCE * 3}</p><p>Caf\u00e9 {SENTENCE * 3}</p></main>"
    "<footer>Copyright, imprint, contact</footer></body></html>"
)


def reason(extract, content: bytes) -> str:
    with pytest.raises(NoText) as caught:
        extract(content)
    return caught.value.reason


# Web pages


def test_a_page_is_its_main_text() -> None:
    text = html_text(PAGE.encode())
    assert text.count(SENTENCE.strip()) == 6
    assert not {"Home", "All pages", "imprint"} & set(text.replace(",", "").split())


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        ("<meta charset=windows-1252>", "cp1252"),
        ("<meta charset='ISO-8859-1'>", "cp1252"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=shift_jis">', "shift_jis"),
        ('<meta name="about" content="charset=shift_jis"><meta charset=no-such-code>', "utf-8"),
        ('<script charset="iso-8859-1" src="a.js"></script><meta charset=utf-8>', "utf-8"),
        ('<!-- <meta charset="iso-8859-1"> --><form accept-charset="iso-8859-1">', "utf-8"),
        ("<script>f('<meta charset=big5>')</script><p title='charset=big5'><![a[", "utf-8"),
        (
            '<link charset=utf-8><meta content="text/html;charset=shift_jis" http-equiv=content-type>',
            "shift_jis",
        ),
        ("<meta charset=hex><META CHARSET=Shift_JIS />", "shift_jis"),
        ("", "utf-16"),
        ("", "utf-8-sig"),
        ("", "utf-8"),
    ],
)
def test_a_page_is_decoded_as_it_declares(mark: str, encoding: str) -> None:
    word = "\u5fc3\u81d3" if encoding == "shift_jis" else "Caf\u00e9"
    page = PAGE.replace("<head>", f"<head>{mark}").replace("Caf\u00e9", word)
    assert f"{word} The heart" in html_text(page.encode(encoding))


@pytest.mark.parametrize(("meta", "encoding"), [("", "cp1252"), ("<meta charset=utf-8>", "utf-8")])
def test_an_xml_declaration_counts_if_no_meta_element_does(meta: str, encoding: str) -> None:
    page = "<?xml version='1.0' encoding='ISO-8859-1'?>" + PAGE.replace("<head>", f"<head>{meta}")
    assert "Caf\u00e9 The heart" in html_text(page.encode(encoding))


def test_a_page_that_cannot_be_decoded_is_left_out() -> None:
    assert reason(html_text, PAGE.encode("latin-1")) == "undecodable"
    assert reason(html_text, b"<meta charset=no-such-code>" + PAGE.encode("latin-1")) == "undecodable"
    assert reason(html_text, b"<html><body><img src='a.png'></body></html>") == "no_text"


# PDF


def test_pages_of_a_pdf_are_joined() -> None:
    assert pdf_text(pdf("First page.", "", "Third page.")) == "First page.\n\nThird page."


class Page:
    """A page of PDFium's with some characters in a row, of which each code is one of its list."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes

    def count_chars(self) -> int:
        return len(self.codes)

    def get_text_range(self) -> str:
        return "".join(chr(code & 0xFFFF) for code in self.codes)  # it knows 16 bits

    def get_text_bounded(self) -> str:
        return "".join(map(chr, self.codes))

    def get_charbox(self, at: int, loose: bool) -> tuple[float, float, float, float]:
        assert loose
        return 5.0 * at, 0.0, 5.0 * at + 5, 10.0


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (" one\r\ntwo ", [("one", 5.0, 20.0, False), ("two", 30.0, 45.0, False)]),
        ("temper\x02ature", [("temper", 0.0, 30.0, True), ("ature", 35.0, 60.0, False)]),
        ("temper\ufffeature", [("temper", 0.0, 30.0, True), ("ature", 35.0, 60.0, False)]),
        ("a\r\n\0\0\r\nb", [("a", 0.0, 5.0, False), ("b", 35.0, 40.0, False)]),
        ("\U0001d538 and b", [("\U0001d538 and b", 0.0, 35.0, False)]),
        ("\u0627\u0628", [("\u0627\u0628", -10.0, 0.0, False)]),
        ("", []),
    ],
)
def test_lines_have_their_places(
    text: str, lines: list[tuple[str, float, float, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(list(map(ord, text)))
    monkeypatch.setattr("pypdfium2.raw.FPDFText_GetUnicode", lambda page, at: page.codes[at])
    found = list(pdf_lines(page))  # type: ignore[arg-type]
    assert [(line.text, line.left, line.right, line.divided) for line in found] == lines


def test_a_pdf_of_page_numbers_has_no_text() -> None:
    assert reason(pdf_text, pdf("1", "2", "3", "4")) == "no_text"


def test_a_pdf_without_text_is_left_out_with_the_reason() -> None:
    assert reason(pdf_text, pdf("", "")) == "no_text"
    assert reason(pdf_text, pdf("Secret.", encrypted=True)) == "encrypted"
    assert reason(pdf_text, b"%PDF-1.4 and no more") == "damaged"


# Word


def test_all_text_of_a_word_file_is_read() -> None:
    body = (
        paragraph("Title")
        + f"<w:sdt><w:sdtContent>{paragraph('In a control')}</w:sdtContent></w:sdt>"
        + "<w:p><w:ins><w:r><w:t>inserted </w:t></w:r></w:ins><w:del><w:r><w:delText>gone</w:delText></w:r>"
        "</w:del><w:hyperlink><w:r><w:t>link</w:t><w:tab/><w:t>tab</w:t><w:br/></w:r></w:hyperlink></w:p>"
        + "<w:tbl><w:tr>"
        + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in ("A", "B"))
        + "</w:tr></w:tbl>"
        + f"<w:p><w:r><w:txbxContent>{paragraph('In a box')}</w:txbxContent></w:r></w:p>"
    )
    text = docx_text(docx(body, f"<w:footnote>{paragraph('A note.')}</w:footnote>"))
    assert [line for line in text.split("\n") if line] == [
        "Title", "In a control", "inserted link\ttab", "A\tB", "In a box", "A note.",
    ]  # fmt: skip


def cell(content: str) -> str:
    return f"<w:tc>{content}</w:tc>"


def wrapped(content: str) -> str:
    return f"<w:sdt><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def test_a_table_in_a_cell_is_read_once() -> None:
    inner = f"<w:tbl><w:tr>{cell(paragraph('C'))}{wrapped(cell(paragraph('D')))}</w:tr></w:tbl>"
    first = f"<w:tr>{cell(paragraph('A'))}{cell(paragraph('B') + inner)}</w:tr>"
    second = wrapped(f"<w:tr>{cell(paragraph('E'))}{cell(paragraph('F'))}</w:tr>")
    assert docx_text(docx(f"<w:tbl>{first}{second}</w:tbl>")).split("\n") == ["A\tB C\tD", "E\tF"]


def test_moved_text_is_read_where_it_was_moved_to() -> None:
    box = f"<w:r><w:txbxContent>{paragraph('In a box')}</w:txbxContent></w:r>"
    run = "<w:r><w:t>Moved.</w:t></w:r>"
    body = (
        f"<w:p><w:moveFrom>{run}{box}</w:moveFrom></w:p>{paragraph('Between.')}"
        f"<w:p><w:moveTo>{run}{box}</w:moveTo></w:p><w:moveFrom>{paragraph('Old place.')}</w:moveFrom>"
    )
    assert docx_text(docx(body)).split("\n") == ["Between.", "Moved.", "In a box"]


def test_a_word_file_without_text_is_left_out_with_the_reason() -> None:
    assert reason(docx_text, docx("")) == "no_text"
    assert reason(docx_text, bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)) == "encrypted"
    assert reason(docx_text, docx(paragraph("text"))[:-40]) == "damaged"
    assert reason(docx_text, docx("<w:p>")) == "damaged"


def test_a_zip_bomb_is_not_unpacked() -> None:
    bomb = docx(paragraph("text"), beside={"word/more.bin": bytes(MOST_UNPACKED)})
    assert len(bomb) < MOST_UNPACKED / 500
    assert reason(docx_text, bomb) == "too_large"


@pytest.mark.parametrize("part", ["document", "footnotes"])
def test_entities_of_entities_are_not_expanded(part: str) -> None:
    laughs = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    body = f"<w:body>{paragraph('&a9;')}</w:body>" if part == "document" else paragraph("&a9;")
    root = f'<w:{part} xmlns:w="{WORD}">{body}</w:{part}>'
    bomb = f'<!DOCTYPE w [<!ENTITY a0 "ha">{laughs}]>{root}'.encode()
    assert reason(docx_text, docx("", beside={f"word/{part}.xml": bomb})) in ("damaged", "no_text")


# The process


@pytest.fixture(scope="module")
def extraction() -> Iterator[Extraction]:
    with Extraction() as found:
        yield found


def read_one(extraction: Extraction, path: Path, content: bytes) -> Item:
    path.write_bytes(content)
    return extraction.read(path, path.name, path.name.split(".")[1])


def test_files_are_read_in_a_process(tmp_path: Path, extraction: Extraction) -> None:
    assert read_one(extraction, tmp_path / "a.pdf", pdf("A page.")) == Document("a.pdf", "A page.")
    assert read_one(extraction, tmp_path / "a.pdf", b"") == Removed("a.pdf", "empty")
    zipped = read_one(extraction, tmp_path / "a.docx.gz", gzip.compress(docx(paragraph("Word"))))
    assert zipped == Document("a.docx.gz", "Word")
    scanned = read_one(extraction, tmp_path / "a.pdf", pdf(""))
    assert (scanned.reason, scanned.detail) == (
        "no_text",
        "none of the 1 pages has text: scanned pages need OCR",
    )


@pytest.mark.parametrize(
    ("name", "whole"), [("a.pdf", pdf("A page.", "B")), ("a.docx", docx(paragraph("Word")))]
)
def test_damaged_bytes_are_counted_or_read(
    tmp_path: Path, name: str, whole: bytes, extraction: Extraction
) -> None:
    chance = random.Random(name)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(1, len(content)) :]
        item = read_one(extraction, tmp_path / name, bytes(content))
        if isinstance(item, Removed):
            assert item.reason in ("damaged", "no_text", "encrypted", "too_large")
        item.text.encode()


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, extraction: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extracted, "MOST_BYTES", 1000)
    item = read_one(extraction, tmp_path / "a.html.gz", gzip.compress(bytes(2000)))
    assert item == Removed("a.html.gz", "too_large", detail="more than 1,000 bytes")


def replace_library(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """Put a library in pypdfium2's place that does something at every file that holds "bad"."""
    library = (
        "class PdfiumError(Exception): pass\nclass PdfDocument(list):\n    def __init__(self, content):\n"
    )
    act = f"        if b'bad' not in content: raise PdfiumError('good')\n        {does}\n"
    (folder / "pypdfium2.py").write_text(library + act)
    monkeypatch.setenv("PYTHONPATH", f"{folder}")


@pytest.mark.parametrize("number", [9, 15])
def test_a_process_that_is_killed_from_outside_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    replace_library(tmp_path, monkeypatch, f"import os; os.kill(os.getpid(), {number})")
    how = Extracting(1, tmp_path / "kept")
    with Extraction(how.kept) as extraction, pytest.raises(CptError, match=r"killed from outside \(SIG"):
        read_one(extraction, tmp_path / "a.pdf", b"bad")
    assert not list((tmp_path / "kept").glob("*.json"))


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("while True: pass", "too_large"),
        ("return str(bytearray(1 << 32))", "too_large"),
        ("import os; os.kill(os.getpid(), 11)", "damaged"),
        ("raise KeyError('x')", "damaged"),
    ],
)
def test_a_file_that_breaks_the_library_is_counted_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    replace_library(tmp_path, monkeypatch, does)
    monkeypatch.setattr(extracted, "SECONDS", 0)
    with Extraction() as extraction:
        item = read_one(extraction, tmp_path / "a.pdf", b"bad" * 100_000)
        assert isinstance(item, Removed)
        assert item.reason == reason, item.detail
        if "KeyError" not in does:
            again = read_one(extraction, tmp_path / "a.pdf", b"fine")
            assert isinstance(again, Removed)
            assert again.detail == "good"


def test_a_process_that_cannot_start_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Extraction() as extraction, pytest.raises(CptError, match="ended by itself, with exit code 1"):
        read_one(extraction, tmp_path / "a.pdf", pdf("text"))


def extracted_folder(folder: Path, count: int) -> list[Item]:
    """A folder of PDF, HTML and text files in turn, and the documents that it has."""
    folder.mkdir()
    documents: list[Item] = []
    for number in range(count):
        name = f"{number:02d}." + ("pdf", "html", "txt")[number % 3]
        text = f"Report {number} of the ward, with a sentence that is long enough."
        page = f"<html><body><p>{text}</p></body></html>".encode()
        (folder / name).write_bytes((pdf(text), page, text.encode())[number % 3])
        documents.append(Document(name, text))
    return documents


@pytest.mark.parametrize("processes", [1, 3])
def test_several_files_at_once_keep_their_order(tmp_path: Path, processes: int) -> None:
    expected = extracted_folder(tmp_path / "files", 9)
    (tmp_path / "files" / "readme.html").write_text("<p>nothing</p>")
    how, files = Extracting(processes, tmp_path / "kept"), ReadFiles()
    found = list(read(tmp_path / "files", files=files, options=Options(extracting=how)))
    assert found == [*expected, Removed("readme.html", "other_format")]
    assert len(files.of(tmp_path / "files")) == 10


def test_extracted_text_is_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = extracted_folder(tmp_path / "files", 3)
    (tmp_path / "files" / "03.pdf").write_bytes(pdf(""))
    for number in range(4, 10):  # equal files at once
        (tmp_path / "files" / f"0{number}.pdf").write_bytes(pdf("the same"))
    options = Options(extracting=Extracting(2, tmp_path / "kept"))
    found = list(read(tmp_path / "files", options=options))
    assert found[:3] == expected
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert list(read(tmp_path / "files", options=options)) == found
    (tmp_path / "files" / "00.pdf").write_bytes(pdf("other"))
    with pytest.raises(CptError, match="ended by itself"):
        list(read(tmp_path / "files", options=options))


def test_reading_may_end_early_and_leaves_no_process(tmp_path: Path) -> None:
    extracted_folder(tmp_path / "files", 12)
    before = extraction_processes()
    options = Options(extracting=Extracting(2, tmp_path / "kept"))
    reading = read(tmp_path / "files", options=options)
    assert isinstance(next(reading), Document)
    reading.close()
    assert extraction_processes() == before


def extraction_processes() -> list[str]:
    """Command lines of this process's children that extract text."""
    lines = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            mine = f"PPid:\t{os.getpid()}\n" in status.read_text()
            command = status.with_name("cmdline").read_bytes().decode()
        except OSError:
            continue
        if mine and "extraction_worker" in command:
            lines.append(command)
    return lines


def test_a_missing_library_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extracted.LIBRARIES, "pdf", "no_such_module")
    said = "format pdf needs no_such_module: pip install 'cpt-workbench[documents]'"
    assert missing_library("pdf") == said
    (tmp_path / "a.pdf").write_bytes(pdf("text"))
    with pytest.raises(SourceError, match="needs no_such_module"):
        list(read(tmp_path / "a.pdf"))
