"""MedQuAD: questions on health answered by US health institutes (Ben Abacha and Demner-Fushman 2019)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from evals.sources.base import Files, Rows, Source


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of lavita/MedQuAD: question, answer (None where it was taken out for copyright)."""
    del part
    with zipfile.ZipFile(files["archive"]) as archive:
        documents = sorted(name for name in archive.namelist() if name.endswith(".xml"))
        return {"train": [pair for name in documents for pair in _pairs(archive.read(name))]}


def _pairs(document: bytes) -> Iterator[dict[str, object]]:
    for pair in ElementTree.fromstring(document).iter("QAPair"):
        question, answer = (pair.findtext(tag, "").strip() for tag in ("Question", "Answer"))
        yield {"question": question, "answer": answer or None}


SOURCE = Source(
    name="medquad",
    title="MedQuAD",
    licence="CC BY 4.0",
    origin="https://github.com/abachaa/MedQuAD, its archive as GitHub packs it; arXiv:1901.08079",
    files={"archive": "MedQuAD-master.zip"},
    read=read,
)
