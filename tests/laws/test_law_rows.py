"""Rows of a law from files: JSON lines and CSV, and everything that is wrong in them at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from planted import runs_of

from cpt.errors import RecipeError
from cpt.laws import Row, read_rows

ROWS = runs_of((0.2, 0.9))


def test_both_forms_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = [json.dumps(row.model_dump(mode="json")) for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(lines))
    assert read_rows(tmp_path / "rows.jsonl") == ROWS
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, Row.model_fields)
        writer.writeheader()
        writer.writerows(row.model_dump() for row in ROWS)
    assert read_rows(tmp_path / "rows.csv") == ROWS


def test_a_loss_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("run,parameters,tokens,share,domain_loss,general_loss\na,10,5,0.5,1.2,\n")
    (row,) = read_rows(tmp_path / "a.csv")
    assert (row.domain_loss, row.general_loss, row.domain) == (1.2, None, "domain")
    assert row.share_of("general") == 0.5


def test_all_problems_are_named_with_their_lines(tmp_path: Path) -> None:
    good = ROWS[1].model_dump(mode="json")
    lines = [
        json.dumps(good),
        json.dumps(good | {"share": 1.5, "tokens": -1}),
        "{",
        json.dumps({key: value for key, value in good.items() if key != "run"}),
        json.dumps(good | {"chat_loss": 1.0}),
        json.dumps(good | {"domain_loss": None, "general_loss": None}),
        "3",
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    with pytest.raises(RecipeError) as caught:
        read_rows(tmp_path / "rows.jsonl")
    found = [(problem.line, problem.key) for problem in caught.value.problems]
    assert found == [
        (2, "tokens"),
        (2, "share"),
        (3, None),
        (4, "run"),
        (5, "chat_loss"),
        (6, None),
        (7, None),
    ]
    assert all(problem.file for problem in caught.value.problems)
    messages = [problem.message for problem in caught.value.problems]
    assert messages[1] == "must be less than or equal to 1, not `1.5`"
    assert "neither domain_loss nor general_loss" in messages[5]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "has no rows"),
        ("a.jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("a.csv", b"run,tokens\na,1,2\n", "more cells than the heading"),
        ("a.jsonl", b"[]\n" * 50, "30 more problems"),
    ],
)
def test_files_without_rows_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        read_rows(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.csv: cannot be read"):
        read_rows(tmp_path / "none.csv")
