"""What a stopped comparison leaves, and goes on with."""

import json
from pathlib import Path

import pytest

from cpt.errors import UsageError
from cpt.initialiser_trial.folder import FIGURES, PICTURE, TrialFolder
from cpt.initialiser_trial.results import UNCHANGED, TrialResult, TrialRow

ASKED = {"base": "model", "steps": (0, 5), "text": Path("a.jsonl")}
ROWS = [
    TrialRow(UNCHANGED, 17, {0: 1.5, 5: 1.25}, {0: 2.0, 5: 2.5}, tokens=7),
    TrialRow("mean", 17, {0: 3.0, 5: 1.0}, {}),
]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    kept = TrialFolder(tmp_path / "out", ASKED)
    (kept.scratch / "model").mkdir()
    for row in ROWS:
        kept.add(row)
    again = TrialFolder(tmp_path / "out", ASKED)
    assert again.rows == {(row.method, 17): row for row in ROWS}
    assert list(again.scratch.iterdir()) == []
    again.add(ROWS[0])
    assert len((tmp_path / "out/rows.jsonl").read_text().splitlines()) == 2


def test_a_row_that_was_cut_off_or_failed_is_made_again(tmp_path: Path) -> None:
    kept = TrialFolder(tmp_path, ASKED)
    kept.add(ROWS[0])
    kept.add(TrialRow("clp", 17, {}, {}, failure="no donor"))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"method": "me')
    again = TrialFolder(tmp_path, ASKED)
    assert list(again.rows) == [(UNCHANGED, 17)]
    again.add(ROWS[1])
    assert list(TrialFolder(tmp_path, ASKED).rows) == [(UNCHANGED, 17), ("mean", 17)]


def test_another_comparison_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    TrialFolder(tmp_path / "out", ASKED)
    with pytest.raises(UsageError, match="exists already"):
        TrialFolder(tmp_path / "out", {**ASKED, "steps": (0, 6)})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for name in ("mine", "mine/letter.txt"):
        with pytest.raises(UsageError, match="exists already"):
            TrialFolder(tmp_path / name, ASKED)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_finished_comparison_is_figures_and_a_picture(tmp_path: Path) -> None:
    kept = TrialFolder(tmp_path, ASKED)
    kept.add(ROWS[0])
    kept.finish(TrialResult((0, 5), {}, (4.0, 4.5), ROWS))
    assert sorted(path.name for path in tmp_path.iterdir()) == [FIGURES, PICTURE]
    figures = json.loads((tmp_path / FIGURES).read_text())
    assert figures["asked"]["text"] == "a.jsonl"
    assert figures["ranking"] == ["mean"]
    with pytest.raises(UsageError, match="exists already"):
        TrialFolder(tmp_path, ASKED)
