"""Results in a folder: what is written is read, whole or not at all."""

import json
from pathlib import Path

import pytest

from cpt.errors import UsageError
from evals.result_folders import ITEMS, RESULTS, load_results, save_results
from evals.results import Average, Items, LeftOut, Results, TaskScore


def made() -> Results:
    score = TaskScore(
        task="t",
        suite="s",
        group="g",
        metric="f1",
        higher_is_better=True,
        n=2,
        score=0.1 + 0.2,
        stderr=None,
        others={"acc": 0.5},
        note="ß",
    )
    pairs = ((1.0, 0.0), (0.0, "x"))
    return Results(
        model="m",
        fingerprint="f",
        suites={"s": "smoke"},
        settings={"precision": "float32", "start_token": None, "seed": 1, "chat": False},
        versions={"torch": "2"},
        when="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        tasks=(score,),
        left_out=(LeftOut(task="u", suite="s", why="no file"),),
        averages={"s": Average(score=0.3, stderr=None, groups=1)},
        items={
            "t": Items(ids=("a", "b"), values=pairs, aggregation="f1", clusters=("c\u2028d\x85", "c")),
            "n": Items(ids=("a",), values=(0.1 + 0.7,)),
        },
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = made()
    file = save_results(results, tmp_path / "deep" / "folder")
    assert file == tmp_path / "deep" / "folder" / RESULTS
    assert load_results(file.parent) == results
    assert "items" not in json.loads(file.read_text())
    assert (file.parent / ITEMS).read_text().count("\n") == 2
    assert sorted(path.name for path in file.parent.iterdir()) == [ITEMS, RESULTS]
    save_results(results.model_copy(update={"items": {}}), file.parent)
    assert load_results(file.parent).items == {}


def test_no_results_and_damaged_ones_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no results"):
        load_results(tmp_path)
    save_results(made(), tmp_path)
    for name, content in (
        *((ITEMS, each) for each in ("{", '{"ids": []}', "[1]", "1")),
        *((RESULTS, each) for each in ('{"model": "m"}', "no json", "[1]")),
    ):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match="is damaged"):
            load_results(tmp_path)
        (tmp_path / name).write_text(kept)
    (tmp_path / ITEMS).unlink()
    with pytest.raises(UsageError, match="is damaged"):
        load_results(tmp_path)
