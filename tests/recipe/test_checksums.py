"""Finished results are checked before they are used: damage is named, and nothing is read twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt import checksums
from cpt.errors import RecipeError
from cpt.recipe.load import load
from cpt.recipe.plan import Plan, Selection, make_plan
from cpt.recipe.runner import Summary
from cpt.recipe.runner import run as run_recipe
from cpt.recipe.store import Record, Store

WEIGHTS = "model/content.txt"


@pytest.fixture
def finished(recipe_file: Path) -> Path:
    """The recipe after a complete run."""
    run(recipe_file)
    return recipe_file


def run(recipe_file: Path, **selection: Any) -> Summary:
    return run_recipe(load(recipe_file), recipe_file.parent / "runs", Selection(**selection))


def plan(recipe_file: Path, **selection: Any) -> Plan:
    return make_plan(load(recipe_file), store(recipe_file), Selection(**selection))


def store(recipe_file: Path) -> Store:
    return Store(recipe_file.parent / "runs" / "medical")


def artifact(recipe_file: Path, stage: str = "pretrain") -> Record:
    (record,) = store(recipe_file).artifacts(stage)
    return record


def flip(file: Path) -> None:
    """Change one bit, as a disk does."""
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


def forget(record: Record) -> None:
    """Make an artifact one of the versions that wrote no checksums."""
    file = record.folder / "artifact.json"
    written = json.loads(file.read_text())
    del written["checksums"]
    file.write_text(json.dumps(written))
    (record.folder / checksums.FILE).unlink()


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a bit": (WEIGHTS, flip, f"{WEIGHTS}: the content does not match its checksum"),
    "cut off": (WEIGHTS, lambda file: os.truncate(file, 10), f"{WEIGHTS}: 10 bytes instead of 64"),
    "missing": (WEIGHTS, Path.unlink, f"{WEIGHTS}: the file is missing"),
    "no file": (WEIGHTS, lambda file: (file.unlink(), file.mkdir()), f"{WEIGHTS}: "),
    "a folder": ("model", lambda folder: folder.rename(folder.parent / "x"), "model: the folder is missing"),
    "the record": ("artifact.json", flip, "artifact.json: "),
    "no sums": (checksums.FILE, Path.unlink, "checksums.json: the file is missing"),
    "sums cut off": (checksums.FILE, lambda file: os.truncate(file, 10), "checksums.json: this is not JSON"),
    "other sums": (checksums.FILE, lambda file: file.write_text("[]"), "checksums.json: not of the form"),
}


@pytest.mark.parametrize(("name", "change", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_result_is_named_by_plan_and_run_and_made_again_only_when_asked(
    finished: Path, name: str, change: Callable[[Path], Any], message: str
) -> None:
    change(artifact(finished).folder / name)
    fake_stages.RAN.clear()
    for ask in (plan, run):
        with pytest.raises(RecipeError, match=r"the finished result is damaged: ") as caught:
            ask(finished)
        (problem,) = caught.value.problems
        assert message in problem.message
        assert problem.file is not None
        assert Path(problem.file).name.startswith("pretrain-")
        assert problem.hint == "`cpt run RECIPE --force pretrain` makes it again."
        assert caught.value.exit_code == 2
    assert fake_stages.RAN == []
    run(finished, force=("pretrain",))
    assert fake_stages.RAN[0] == "pretrain"
    assert {entry.action for entry in plan(finished).entries} == {"cached"}


def test_all_damaged_results_are_named_at_once(finished: Path) -> None:
    for stage, kind in (("corpus", "corpus"), ("merge", "model")):
        flip(artifact(finished, stage).path(kind) / "content.txt")
    with pytest.raises(RecipeError) as caught:
        plan(finished)
    assert [problem.key for problem in caught.value.problems] == ["corpus", "merge"]


def test_what_is_made_from_a_result_that_is_made_again_need_not_be_whole(finished: Path) -> None:
    flip(artifact(finished, "merge").path("model") / "content.txt")
    made = plan(finished, force=("pretrain",))
    assert [entry.action for entry in made.entries][2:] == ["run"] * 4


def test_outside_the_selection_the_hint_says_where_to_begin(finished: Path) -> None:
    flip(artifact(finished, "corpus").path("corpus") / "content.txt")
    with pytest.raises(RecipeError, match=r"cpt run RECIPE --from corpus --force corpus") as caught:
        plan(finished, from_="merge")
    assert len(caught.value.problems) == 1


def test_damage_that_nothing_selected_reads_may_wait(finished: Path) -> None:
    flip(artifact(finished, "merge").path("model") / "content.txt")
    made = plan(finished, only="corpus", force=("corpus",))
    assert {entry.step.name: entry.why for entry in made.entries}["merge"] == "its artifact is damaged"
    with pytest.raises(RecipeError, match="damaged"):
        plan(finished, only="evaluate", force=("evaluate",))


def test_a_result_damaged_while_the_run_goes_on_is_not_used(recipe_file: Path) -> None:
    def damage(*_: object) -> None:
        flip(artifact(recipe_file, "corpus").path("corpus") / "content.txt")

    fake_stages.HOOKS["merge"] = damage
    with pytest.raises(RecipeError, match=r"corpus-.*does not match its checksum"):
        run(recipe_file)
    assert fake_stages.RAN[-1] == "evaluate"  # the report reads the corpus, and did not begin


def test_files_are_read_once_while_they_do_not_change(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    checksum = checksums.checksum
    monkeypatch.setattr(checksums, "checksum", lambda path: read.append(path.name) or checksum(path))
    run(recipe_file)
    written = len(read)
    folder = store(recipe_file).folder
    files = [path for path in folder.glob("*-*/**/*") if path.is_file()]  # without the link `model`
    assert written == len([path for path in files if path.name != checksums.FILE])
    run(recipe_file)
    plan(recipe_file)
    assert len(read) == written

    file = artifact(recipe_file).folder / WEIGHTS
    file.write_bytes(file.read_bytes())  # another time stamp
    plan(recipe_file)
    plan(recipe_file)
    assert read[written:] == ["content.txt"]


def test_a_file_of_another_size_is_found_without_reading(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(artifact(finished).folder / WEIGHTS, 10)
    monkeypatch.setattr(checksums, "checksum", lambda path: pytest.fail(f"read {path}"))
    with pytest.raises(RecipeError, match="10 bytes instead of 64"):
        plan(finished)


@pytest.mark.parametrize("content", [None, "[]", "{", '{"pretrain-0": {"a": "b"}}'])
def test_without_a_note_of_what_was_right_files_are_read_again(finished: Path, content: str | None) -> None:
    note = store(finished).folder / ".verified.json"
    note.unlink() if content is None else note.write_text(content)
    flip(artifact(finished).folder / WEIGHTS)
    with pytest.raises(RecipeError, match="does not match"):
        plan(finished)


def test_a_result_of_an_older_version_is_taken_once_and_checked_from_then_on(finished: Path) -> None:
    record = artifact(finished)
    forget(record)
    flip(record.folder / WEIGHTS)  # nobody can know
    (entry,) = (entry for entry in plan(finished).entries if entry.step.name == "pretrain")
    assert (entry.action, "not checked" in entry.why) == ("cached", True)
    assert run(finished).unchecked == ["pretrain"]
    assert run(finished).unchecked == []
    assert "not checked" not in str([entry.why for entry in plan(finished).entries])
    flip(record.folder / WEIGHTS)
    with pytest.raises(RecipeError, match="does not match"):
        plan(finished)


def test_results_are_found_right_after_a_move(finished: Path) -> None:
    runs = finished.parent / "runs"
    runs.rename(finished.parent / "elsewhere")
    moved = make_plan(load(finished), Store(finished.parent / "elsewhere" / "medical"))
    assert {entry.action for entry in moved.entries} == {"cached"}
