"""`cpt sweep` over real stages and a tiny model, from the command line to the page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.workspace import copy_of

from cpt.cli import sweep as sweep_command
from cpt.json_file import read_json
from cpt.recipe.journal import find_run
from cpt.sweep.estimates import FILE, Estimates


def test_a_sweep_of_real_runs(
    finished_workspace: Path, tmp_path: Path, called: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rates: the corpus is made once, the page names the better one, `--json` has the same facts."""
    folder = copy_of(finished_workspace, tmp_path / "workspace")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    drawn: list[str] = []
    write = sweep_command._write_page
    monkeypatch.setattr(
        sweep_command, "_write_page", lambda found, path: drawn.append(write(found, path) or path.read_text())
    )
    words = ["sweep", "short.yaml", "--vary", "pretrain.schedule.peak=1e-5,1e-2", "--budget", "1h"]
    done = called(*words, "--json")
    assert done.code == 0, done.err
    assert "plan: 2 of 2 configurations fit in 1 h" in done.err
    estimated = read_json(folder / "runs" / "short-sweep" / FILE, Estimates)
    first, second = (estimated.seconds[number]["pretrain"] for number in ("1", "2"))
    assert 0 < first == second  # one kind of step, measured once
    found = done.json
    assert [row["values"] for row in found["configurations"]] == [
        {"pretrain.schedule.peak": 1e-5},
        {"pretrain.schedule.peak": 1e-2},
    ]
    best = min(found["configurations"], key=lambda row: row["changes"]["domain"]["value"])
    assert found["recommendation"]["number"] == best["number"]
    corpora = [
        find_run(folder / "runs", row["runs"][0]).finished()["corpus"].folder
        for row in found["configurations"]
    ]
    one, other, earlier = (
        each / "checksums.json"
        for each in (*corpora, find_run(folder / "runs", "short").finished()["corpus"].folder)
    )
    assert one.samefile(other)
    assert one.samefile(earlier)
    assert ["Unfinished" in each for each in drawn] == [True, False]
    page = Path(found["page"]).read_text()
    assert "One seed: it is" in page
    assert "short-sweep" in page
    again = called(*words)
    assert again.code == 0
    assert "Best: peak" in again.out
    assert "starts" not in again.err


def test_a_page_that_cannot_be_drawn_does_not_stop_the_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("too few points [1]")

    monkeypatch.setattr(sweep_command, "_result", fail)
    sweep_command._write_early_page(None, Path("sweep.html"))  # type: ignore[arg-type]
    assert "the page is not up to date: too few points [1]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing is varied"),
        (["--vary", "pretrain.replay=0,0.1", "--method", "guess"], "none of grid, random, tpe"),
        (["--vary", "pretrain.replay=0,0.1", "--seeds", "x"], "neither a number of seeds"),
        (["--vary", "pretrain.replay=0,0.1", "--limit", "general"], "states no limit"),
        (["--vary", "pretrain.replay=0,0.1", "--limit", "general recovers within 20%"], "bounds a recovery"),
        (["--vary", "pretrain.replay=0,0.1", "--budget", "soon"], "is no time"),
        (["--vary", "pretrain.replay=0,0.1", "--name", "a/b"], "cannot name runs"),
        (["--vary", "corpus.heldout=0.1,0.2", "corpus.heldout=0.3"], "is varied, and set by an override"),
        (["--vary", "corpus.heldout=0.1,0.2", "--minimize", "domian"], "will not measure `domian`"),
    ],
)
def test_mistakes(cpt: Any, recipe_file: Path, words: list[str], message: str) -> None:
    done = cpt("sweep", recipe_file, *words)
    assert done.code == 2
    assert message in done.err
    assert not Path("runs").exists()
