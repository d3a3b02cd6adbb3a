"""Sharing: runs of one folder take over each other's results, and make a result once."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import fake_stages
import pytest
from filelock import FileLock

from cpt.recipe import sharing
from cpt.recipe.events import Event, StageMessage
from cpt.recipe.load import load
from cpt.recipe.plan import Selection, make_plan
from cpt.recipe.runner import Summary, run
from cpt.recipe.store import Store


def go(recipe_file: Path, *overrides: str, selection: Selection | None = None, **options: object) -> Summary:
    return run(load(recipe_file, overrides), recipe_file.parent / "runs", selection, **options)  # type: ignore[arg-type]


def fresh(recipe_file: Path, *overrides: str) -> list[str]:
    """Run a recipe and return the kinds of the stages that ran."""
    fake_stages.RAN.clear()
    go(recipe_file, *overrides)
    return list(fake_stages.RAN)


def test_another_run_takes_over_what_does_not_differ(recipe_file: Path) -> None:
    first = go(recipe_file)
    assert fresh(recipe_file, "name=second") == ["report"]
    second = go(recipe_file, "name=second")
    for name, record in first.artifacts.items():
        other = second.artifacts[name]
        assert other.folder.parent.name == "second"
        files = [path for path in record.folder.rglob("*") if path.is_file()]
        shared = [path.samefile(other.folder / path.relative_to(record.folder)) for path in files]
        assert all(shared) == (name != "report")
    assert fresh(recipe_file, "name=third", "pretrain.schedule.peak=1e-4")[0] == "pretrain"


def test_the_plan_says_where_a_result_comes_from(recipe_file: Path) -> None:
    go(recipe_file)
    plan = make_plan(
        load(recipe_file, ["name=second"]), Store((recipe_file.parent / "runs/second").absolute())
    )
    found = {entry.step.name: (entry.action, entry.why) for entry in plan.entries}
    assert found["pretrain"] == ("cached", "made by the run medical")
    assert found["report"][0] == "run"
    assert not (recipe_file.parent / "runs" / "second").exists()


def test_a_run_outlives_the_one_that_it_took_results_from(recipe_file: Path) -> None:
    go(recipe_file)
    go(recipe_file, "name=second")
    shutil.rmtree(recipe_file.parent / "runs" / "medical")
    assert fresh(recipe_file, "name=second") == []
    assert fresh(recipe_file) == ["report"]


def test_only_what_selected_stages_need_is_taken_over(recipe_file: Path) -> None:
    go(recipe_file)
    taken = go(recipe_file, "name=second", selection=Selection(only="vocabulary"))
    assert set(taken.artifacts) == {"corpus", "vocabulary"}
    assert go(recipe_file, "name=third", selection=Selection(until="corpus")).artifacts.keys() == {"corpus"}


@pytest.mark.parametrize("links", [True, False])
def test_a_damaged_result_is_not_taken_over(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr("os.link", _no_links)
    made = go(recipe_file).artifacts["corpus"]
    assert "corpus" not in fresh(recipe_file, "name=second")
    content = made.path("corpus") / "content.txt"
    content.unlink()  # another file: a link's content would change in both runs
    content.write_text("something else")
    assert "corpus" not in fresh(recipe_file, "name=second")  # its own is whole
    shutil.rmtree(recipe_file.parent / "runs" / "second")
    assert "corpus" in fresh(recipe_file, "name=second")


def _no_links(*_: object) -> None:
    raise OSError("no links on this file system")


def test_a_forced_stage_is_made_again(recipe_file: Path) -> None:
    go(recipe_file)
    fake_stages.RAN.clear()
    go(recipe_file, "name=second", selection=Selection(force=("corpus",)))
    everything = list(fake_stages.RAN)
    assert everything[0] == "corpus"
    assert set(everything) >= {"corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"}
    fake_stages.RAN.clear()
    go(recipe_file, "name=third", selection=Selection(force=("pretrain",)))
    assert "corpus" not in fake_stages.RAN
    assert {"pretrain", "merge", "evaluate", "report"} <= set(fake_stages.RAN)


def test_a_result_with_other_settings_beside_it_is_not_taken_over(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that are not in the fingerprint decide what is kept beside the model: checkpoints, logs."""
    monkeypatch.setattr(fake_stages.PretrainConfig, "not_fingerprinted", frozenset({"compile"}))
    go(recipe_file)
    assert "pretrain" not in fresh(recipe_file, "name=second")
    assert "pretrain" in fresh(recipe_file, "name=third", "pretrain.compile=true")


def test_a_result_that_goes_while_it_is_linked_is_made(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(recipe_file)

    def lost(store: Store, record: object) -> None:
        shutil.rmtree(recipe_file.parent / "runs" / "medical", ignore_errors=True)

    monkeypatch.setattr("cpt.recipe.sharing.adopt", lost)
    assert "corpus" in fresh(recipe_file, "name=second")


def test_two_runs_at_a_time_make_a_result_once(recipe_file: Path) -> None:
    """The second run waits for the first one's corpus, says so, and takes it over."""
    runs = recipe_file.parent / "runs"
    first = go(recipe_file, selection=Selection(only="corpus"))
    name = first.artifacts["corpus"].folder.name
    shutil.move(runs / "medical", runs.parent / "aside")
    (runs / sharing.LOCKS).mkdir()
    held = FileLock(runs / sharing.LOCKS / name, thread_local=False)  # another thread releases it
    held.acquire()
    waits = threading.Event()
    seen: list[str] = []

    def listener(event: Event) -> None:
        if isinstance(event, StageMessage) and event.stage == "corpus":
            seen.append(event.text)
            waits.set()

    def finish_first() -> None:
        waits.wait(20)
        shutil.move(runs.parent / "aside", runs / "medical")
        held.release()

    helper = threading.Thread(target=finish_first)
    helper.start()
    fake_stages.RAN.clear()
    go(recipe_file, "name=second", listener=listener)
    helper.join()
    assert seen == ["waits for another run that makes the same result", "made by the run medical"]
    assert "corpus" not in fake_stages.RAN
    assert not (runs / sharing.LOCKS).exists()
