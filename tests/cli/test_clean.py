"""`cpt clean`: what runs no longer use is listed, and removed when asked for."""

from pathlib import Path
from typing import Any

import fake_stages

from cpt.recipe.journal import find_run
from cpt.recipe.leftovers import remove
from cpt.recipe.store import Store


def listed(cpt: Any, *words: str) -> Any:
    found = cpt("clean", *words, "--json")
    assert found.code == 0, found.err
    return found.json


def test_results_of_other_settings_are_removed_and_the_last_ones_stay(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    assert "Nothing to remove." in cpt("clean").out
    cpt("run", "recipe.yaml", "pretrain.schedule.peak=1e-4")
    before = sorted(Path("runs/medical").iterdir())
    found = listed(cpt)
    assert (found["removed"], found["skipped"]) == (False, {})
    assert {each["kind"] for each in found["leftovers"]} == {"older result"}
    stages = {Path(each["folder"]).name.rpartition("-")[0] for each in found["leftovers"]}
    assert "pretrain" in stages
    assert "corpus" not in stages
    assert found["bytes"] == sum(each["bytes"] for each in found["leftovers"]) > 0
    assert sorted(Path("runs/medical").iterdir()) == before
    assert "Nothing was removed: add --yes." in cpt("clean").out
    assert "are free again" in cpt("clean", "medical", "--yes").out
    assert not any(Path(each["folder"]).exists() for each in found["leftovers"])
    fake_stages.RAN.clear()
    assert cpt("run", "recipe.yaml", "pretrain.schedule.peak=1e-4").code == 0
    assert not fake_stages.RAN


def test_attempts_that_can_be_continued_stay(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    store = Store(Path("runs/medical"))
    current = store.artifacts("pretrain")[0]
    kept = store.work_folder("pretrain", current.fingerprint)
    abandoned = store.work_folder("pretrain", "0" * 64)
    unfinished = Path("runs/medical/.tmp-merge-000000000000")
    shared = Path("runs/medical/shared")
    for folder in (kept, abandoned, unfinished, shared):
        folder.mkdir(exist_ok=True)
        (folder / "file").write_bytes(b"x" * 10_000)
    found = {Path(each["folder"]): each["kind"] for each in listed(cpt, "--yes")["leftovers"]}
    assert {path.name: kind for path, kind in found.items()} == {
        abandoned.name: "abandoned attempt",
        unfinished.name: "unfinished write",
    }
    assert kept.exists()
    assert shared.exists()
    assert Path("runs/medical/model").exists()


def test_an_interrupted_run_keeps_what_was_finished_before(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    model = Path("runs/medical/model").resolve()
    before = {path.name for path in Path("runs/medical").iterdir()}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    fake_stages.HOOKS["pretrain"] = stop
    assert cpt("run", "recipe.yaml", "pretrain.schedule.peak=1e-4").code == 130
    fake_stages.HOOKS.clear()
    assert listed(cpt, "--yes")["leftovers"] == []
    assert before <= {path.name for path in Path("runs/medical").iterdir()}
    assert model.exists()


def test_a_result_that_a_kill_left_beside_its_place_is_kept(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    (folder,) = Path("runs/medical").glob("pretrain-*")
    aside = folder.rename(folder.with_name(f".old-{folder.name}"))
    assert listed(cpt, "--yes")["leftovers"] == []
    assert aside.exists()
    fake_stages.RAN.clear()
    assert cpt("run", "recipe.yaml").code == 0
    assert "pretrain" not in fake_stages.RAN
    again = folder.with_name(f".old-{folder.name}")
    again.mkdir()
    assert [each["kind"] for each in listed(cpt, "--yes")["leftovers"]] == ["unfinished write"]
    assert not again.exists()


def test_what_is_removed_is_decided_when_nothing_runs_any_more(cpt: Any) -> None:
    """A run that went on after it was listed loses nothing of its new results."""
    cpt("run", "recipe.yaml")
    listed_before = find_run(Path("runs"), "medical")
    cpt("run", "recipe.yaml", "pretrain.schedule.peak=1e-4")
    removed = {each.folder.name for each in remove(listed_before)}
    used = find_run(Path("runs"), "medical").finished().values()
    assert removed
    assert not removed & {record.folder.name for record in used}
    assert all(record.folder.exists() for record in used)


def test_a_run_named_twice_is_counted_once(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    cpt("run", "recipe.yaml", "pretrain.schedule.peak=1e-4")
    assert listed(cpt, "medical", "runs/medical") == listed(cpt, "medical")


def test_files_that_another_run_uses_take_no_space(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    cpt("run", "recipe.yaml", "name=second")
    cpt("run", "recipe.yaml", "name=second", "corpus.heldout=0.3")
    found = listed(cpt, "second")
    assert len(found["leftovers"]) > 3
    records = sum(
        file.stat().st_blocks * 512
        for each in found["leftovers"]
        for file in Path(each["folder"]).rglob("*")
        if file.is_file() and file.stat().st_nlink == 1
    )
    assert found["bytes"] == records
    listed(cpt, "second", "--yes")
    fake_stages.RAN.clear()
    assert cpt("run", "recipe.yaml").code == 0
    assert not fake_stages.RAN


def test_running_and_damaged_runs_are_left_alone(cpt: Any) -> None:
    for name in ("going", "broken"):
        cpt("run", "recipe.yaml", f"name={name}")
        Path(f"runs/{name}/.tmp-x").mkdir()
    Path("runs/broken/run.json").write_text("{")
    with Store(Path("runs/going")).lock():
        found = listed(cpt, "--yes")
        assert "left alone, it is being run" in cpt("clean").out
    assert found["leftovers"] == []
    assert set(found["skipped"]) == {"going", "broken"}
    assert Path("runs/going/.tmp-x").exists()
    assert cpt("clean", "nothing").code == 2
