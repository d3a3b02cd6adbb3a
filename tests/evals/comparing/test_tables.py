"""Tables and pictures of comparisons: complete, escaped, and readable by others."""

import csv
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from results_made import made_results, with_task

from cpt.errors import UsageError
from evals.comparing.comparison import Comparison, compare
from evals.comparing.plots import plot
from evals.comparing.retention import retentions
from evals.comparing.tables import (
    AVERAGE,
    HEADINGS,
    RETENTION_HEADINGS,
    by_suite,
    cells,
    explanation,
    retention_cells,
    to_csv,
    to_markdown,
)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    a = {
        "medical/m/med_qa": [0, 0, 0, 0, 0, 0, 0, 1],
        "general/g/arc": [1, 0, 1],
        "general/p/lambada": [30, 40, 50],
    }
    b = {
        "medical/m/med_qa": [1, 1, 1, 1, 1, 1, 1, 1],
        "general/g/arc": [1, 0, 0],
        "general/p/lambada": [35, 40, 50],
    }
    sides = [
        with_task(made_results(model, tasks), "lambada", higher_is_better=False, metric="ppl")
        for model, tasks in (("org/a|x", a), ("<b>$y$", {**b, "medical/m/new": [1]}))
    ]
    return compare(*(with_task(side, "med_qa", chance=0.25) for side in sides), resamples=200)


def test_the_explanation_names_the_correction_or_says_that_there_is_none(comparison: Comparison) -> None:
    assert "after Holm's correction among groups" in explanation(comparison)
    plainly = explanation(comparison.model_copy(update={"correction": "none"}))
    assert "at 5%, not corrected for their number;" in plainly
    assert "could show nothing" not in plainly


def test_the_csv_has_every_line_in_full_precision(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert [(row["suite"], row["task"]) for row in rows] == [
        ("medical", AVERAGE),
        ("medical", "med_qa"),
        ("general", AVERAGE),
        ("general", "arc"),
        ("general", "lambada"),
    ]
    task = comparison.tasks[0]
    assert (rows[1]["n"], float(rows[1]["p"]), float(rows[1]["difference"])) == ("8", task.p, task.difference)
    assert (float(rows[1]["low"]), float(rows[1]["high"])) == task.interval
    assert rows[1]["verdict"] == task.verdict
    assert rows[1]["minimum_detectable_effect"] == str(task.minimum_detectable_effect)
    assert rows[0]["metric"] == ""


def test_cells_by_hand(comparison: Comparison) -> None:
    assert dict(zip(HEADINGS, cells(comparison.tasks[0]), strict=True)) == {
        "task": "med_qa",
        "metric": "acc",
        "items": "8",
        "A": "0.125 ± 0.125",
        "B": "1.000 ± 0.072",
        "difference": "+0.875",
        "interval": "+0.267 to +0.978",
        "p": "0.016",
        "detectable": "0.838",
        "verdict": "better",
    }
    lambada = dict(zip(HEADINGS, cells(comparison.tasks[2]), strict=True))
    assert (lambada["metric"], lambada["A"][:4], lambada["difference"]) == ("ppl ↓", "40.0", "+1.667")
    (found,) = retentions(comparison)
    shown = dict(zip(RETENTION_HEADINGS, retention_cells(found), strict=True))
    assert (shown["gain"], shown["elsewhere"], shown["retention"]) == ("+116.7", "-33.3", "+83.3")


def test_markdown_is_whole_and_shows_names_as_they_are(comparison: Comparison) -> None:
    text = to_markdown(comparison, retentions(comparison))
    assert r"A: org/a\|x, B: \<b\>\$y\$." in text
    assert r"| med\_qa | acc | 8 |" in text
    assert r"- medical new: not evaluated for org/a\|x" in text
    assert text.count("### ") == 3
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in tables} == {
        len(HEADINGS) + 1,
        len(RETENTION_HEADINGS) + 1,
    }
    assert "### Retention" not in to_markdown(comparison)
    assert "Holm" in text
    assert "95% intervals" in text


def test_the_picture_has_every_row_and_says_what_it_leaves_out(
    comparison: Comparison, tmp_path: Path
) -> None:
    plot(comparison, tmp_path / "p.svg")
    texts = {
        "".join(node.itertext()).strip()
        for node in ET.parse(tmp_path / "p.svg").getroot().iter()
        if node.tag.endswith("text")
    }
    assert {"medical", "med_qa", "general", "arc", "guessing", "better", "worse", "no change"} <= texts
    assert any(text.endswith("not drawn, as lower is better: lambada") for text in texts)
    assert "A: org/a|x   B: <b>$y$" in texts
    assert [file.name for file in tmp_path.iterdir()] == ["p.svg"]


@pytest.mark.parametrize("name", ["p.png", "p.pdf"])
def test_other_formats(comparison: Comparison, tmp_path: Path, name: str) -> None:
    plot(comparison, tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000


def test_what_cannot_be_drawn_is_refused(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg, \.png, \.pdf"):
        plot(comparison, tmp_path / "p.txt")
    lower = comparison.model_copy(update={"tasks": comparison.tasks[2:], "averages": ()})
    with pytest.raises(UsageError, match="lower is better"):
        plot(lower, tmp_path / "p.svg")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def grouped() -> Comparison:
    """A group of two tasks, a single task, and one that both models guess."""
    sides = []
    for model, last in (("a", 0), ("b", 1)):
        tasks = {
            "s/g/one": [1, 1, 0, last],
            "s/single/single": [1, 0, 1, 1],
            "s/g/two": [1, 0, 1, last],
            "s/guess/guess": [0, 0, 0, 1] * 5,
        }
        sides.append(with_task(made_results(model, tasks), "guess", chance=0.25))
    return compare(*sides, resamples=200)


def test_a_group_stands_before_its_tasks_and_what_is_guessed_apart(
    grouped: Comparison, tmp_path: Path
) -> None:
    ((_, lines),) = by_suite(grouped)
    rows = [dict(zip(HEADINGS, cells(line), strict=True)) for line in lines]
    assert [(row["task"], row["items"]) for row in rows] == [
        ("macro average", "3 of 4 tasks"),
        ("g, mean of the group", "2 tasks"),
        ("one", "4"),
        ("two", "4"),
        ("single", "4"),
    ]
    assert rows[1]["difference"] == "+0.250"
    csv_rows = list(csv.DictReader(io.StringIO(to_csv(grouped))))
    assert [(row["task"], row["group"], row["verdict"]) for row in csv_rows[1:]] == [
        ("mean of the group", "g", "no change"),
        ("one", "g", "no change"),
        ("two", "g", "no change"),
        ("single", "single", "no change"),
        ("guess", "guess", "no signal"),
    ]
    assert (csv_rows[-1]["a"], csv_rows[-1]["p"]) == ("0.25", "")
    assert "| guess | acc | 20 | 0.250 ± 0.099 | 0.250 ± 0.099 | 0.250 |" in to_markdown(grouped)
    plot(grouped, tmp_path / "p.svg")
    drawn = (tmp_path / "p.svg").read_text()
    assert "g, 2 tasks" in drawn
    assert "neither model is above guessing: 1 task" in drawn
    assert ">guess<" not in drawn
