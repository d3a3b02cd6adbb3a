"""`run.json` and finding runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt.errors import UsageError
from cpt.recipe.journal import find_run, runs
from cpt.recipe.load import load
from cpt.recipe.runner import run
from cpt.recipe.store import Store


def go(recipe_file: Path, *overrides: str) -> Path:
    root = recipe_file.parent / "runs"
    run(load(recipe_file, overrides), root)
    return root


def test_it_tells_what_was_run(recipe_file: Path) -> None:
    root = go(recipe_file, "seed=4")
    data = find_run(root).data
    assert data["state"] == "finished"
    assert data["recipe"]["seed"] == 4
    assert data["recipe_file"] == str(recipe_file)
    assert data["overrides"] == ["seed=4"]
    assert data["started"] < data["finished"]
    assert [stage["state"] for stage in data["stages"].values()] == ["finished"] * 6
    go(recipe_file, "seed=4")
    assert {stage["state"] for stage in find_run(root).stages.values()} == {"cached"}


def test_it_is_up_to_date_while_a_stage_runs(recipe_file: Path) -> None:
    seen: list[dict[str, Any]] = []
    path = recipe_file.parent / "runs" / "medical" / "run.json"
    fake_stages.HOOKS["merge"] = lambda _context, _step: seen.append(json.loads(path.read_text()))
    go(recipe_file)
    assert seen[0]["state"] == "running"
    assert seen[0]["stages"]["pretrain"]["state"] == "finished"
    assert seen[0]["stages"]["merge"]["state"] == "running"
    assert seen[0]["stages"]["report"]["state"] == "waiting"


def test_it_tells_how_far_a_stage_is(recipe_file: Path) -> None:
    seen: list[Any] = []
    path = recipe_file.parent / "runs" / "medical" / "run.json"
    fake_stages.HOOKS["pretrain"] = lambda *_: seen.append(json.loads(path.read_text())["progress"])
    go(recipe_file)
    assert seen[0] is None
    assert seen[1] == {
        "stage": "pretrain",
        "done": 1,
        "total": 5,
        "unit": "steps",
        "facts": {"loss": 3.0},
        "seconds_left": None,
    }


def test_running_without_a_process_means_killed(recipe_file: Path) -> None:
    root = go(recipe_file)
    path = root / "medical" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running"}))
    assert find_run(root).state == "killed"
    with Store(root / "medical").lock():
        assert find_run(root).state == "running"


def test_runs_are_found_by_name_by_folder_and_by_age(recipe_file: Path) -> None:
    root = go(recipe_file)
    go(recipe_file, "name=second")
    assert [found.name for found in runs(root)] == ["second", "medical"]
    assert find_run(root).name == "second"
    assert find_run(root, "medical").folder == root / "medical"
    assert find_run(Path("/nowhere"), str(root / "medical")).name == "medical"


def test_runs_that_are_not_there(recipe_file: Path) -> None:
    with pytest.raises(UsageError, match="there is no run in"):
        find_run(recipe_file.parent / "none")
    root = go(recipe_file)
    (root / "other").mkdir()
    with pytest.raises(UsageError, match="no run `medicla`") as caught:
        find_run(root, "medicla")
    assert "`medical`" in (caught.value.hint or "")
