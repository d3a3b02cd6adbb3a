"""Lists of terms from text, an ontology and Python code."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.corpus.ratings.concepts import Concept
from cpt.corpus.ratings.terms import read_terms, without_duplicates
from cpt.corpus.readers import ReadFiles
from cpt.errors import SourceError

OBO = """\
format-version: 1.2

[Term]
id: HP:0000001
name: Fever
synonym: "Pyrexia" EXACT []

[Term]
id: HP:0000002
name: Old
is_obsolete: true

[Term]
id: HP:0000003
name: Pain

[Typedef]
id: part_of
name: part of
"""


def named(path: Path, **given: object) -> list[tuple[str, ...]]:
    return [concept.forms for concept in read_terms(path, **given)]  # type: ignore[arg-type]


def test_a_term_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("Fever \n\n  chest pain\n")
    files = ReadFiles()
    found = list(read_terms(tmp_path / "terms.txt", files=files))
    assert found == [Concept("Fever", ("Fever",)), Concept("chest pain", ("chest pain",))]
    assert files.of(tmp_path / "terms.txt")


def test_names_and_synonyms_of_an_ontology(tmp_path: Path) -> None:
    (tmp_path / "hp.obo").write_text(OBO)
    assert named(tmp_path / "hp.obo") == [("Fever", "Pyrexia"), ("Pain",)]
    assert named(tmp_path / "hp.obo", synonyms=False) == [("Fever",), ("Pain",)]
    (tmp_path / "terms.list").write_text(OBO)
    assert named(tmp_path / "terms.list", format="obo") == [("Fever", "Pyrexia"), ("Pain",)]


def test_strings_in_python_that_is_not_run(tmp_path: Path) -> None:
    code = 'raise SystemExit\nX = ["fever", 3, " pain "]\nY = {"rash": "no term"}\nZ = ("a", f"{1}"), {"b"}\n'
    (tmp_path / "terms.py").write_text(code)
    assert sorted(form for forms in named(tmp_path / "terms.py") for form in forms) == [
        "a",
        "b",
        "fever",
        "pain",
        "rash",
    ]


def test_terms_of_one_name_are_one() -> None:
    twice = [Concept("a", ("a", "x")), Concept("b", ("b",)), Concept("a", ("a", "y"))]
    assert without_duplicates(iter(twice)) == [Concept("a", ("a", "x", "y")), Concept("b", ("b",))]


def test_what_is_no_list_of_terms_is_explained(tmp_path: Path) -> None:
    (tmp_path / "terms.jsonl").write_text("{}")
    with pytest.raises(SourceError, match="text, OBO and Python files"):
        named(tmp_path / "terms.jsonl")
    (tmp_path / "terms.py").write_text("x = [")
    with pytest.raises(SourceError, match=r"terms\.py: not Python source"):
        named(tmp_path / "terms.py")
    (tmp_path / "terms.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"terms\.txt"):
        named(tmp_path / "terms.txt")
    (tmp_path / "terms.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(SourceError, match="cannot be read"):
        named(tmp_path / "terms.txt.gz")
