"""Wrongly decoded text is repaired, right text is left alone."""

from __future__ import annotations

import pytest

from cpt.corpus.blocks.unicode import Unicode
from cpt.corpus.documents import Document


def cleaned(text: str, **settings: object) -> str:
    found = Unicode(**settings).prepare()(Document("a:1", text))
    assert isinstance(found, Document)
    return found.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fiancÃ©e, naÃ¯ve", "fiancée, naïve"),
        ("cafe\u0301", "café"),
        ("the patientâ€™s â€“ chart", "the patient\u2019s \u2013 chart"),
        ("bell\x07 and \x1b[31mcolour", "bell and colour"),
        ("Größe 5 µm, H₂O, x² ≤ ½", "Größe 5 µm, H₂O, x² ≤ ½"),
        ("Привет, мир", "Привет, мир"),
    ],
)
def test_repairs(text: str, expected: str) -> None:
    assert cleaned(text) == expected


def test_settings() -> None:
    assert cleaned("x² “quoted”") == "x² “quoted”"
    assert cleaned("x²", normal_form="NFKC") == "x2"
    assert cleaned("“quoted”", uncurl_quotes=True) == '"quoted"'
