"""Running: results, events, stops of every kind, and going on after them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt.errors import (
    CptError,
    DataError,
    GateFailed,
    Interrupted,
    RecipeError,
    ReferenceUnavailable,
    StageFailed,
    Terminated,
    UsageError,
)
from cpt.recipe.events import (
    Event,
    RunEnded,
    RunStarted,
    StageAdvanced,
    StageEnded,
    StageMessage,
    StageStarted,
)
from cpt.recipe.load import load
from cpt.recipe.plan import Selection, make_plan
from cpt.recipe.runner import Summary, run
from cpt.recipe.store import Store


def go(recipe_file: Path, *overrides: str, root: str = "runs", **options: Any) -> Summary:
    return run(load(recipe_file, overrides), recipe_file.parent / root, **options)


def fail_at(kind: str, step: int, error: BaseException) -> None:
    """Let a stage raise before one of its steps."""

    def hook(_context: object, current: int) -> None:
        if current == step:
            raise error

    fake_stages.HOOKS[kind] = hook


def content(summary: Summary) -> dict[str, str]:
    return {name: record.metrics["content"] for name, record in summary.artifacts.items()}


def journal(recipe_file: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((recipe_file.parent / "runs" / "medical" / "run.json").read_text())
    return data


def test_a_run_makes_every_artifact(recipe_file: Path) -> None:
    summary = go(recipe_file)
    store = Store(recipe_file.parent / "runs" / "medical")
    assert [record.name for record in store.artifacts()] == [step.name for step in load(recipe_file).steps]
    record = summary.artifacts["pretrain"]
    assert record.kinds == ("model", "training")
    assert record.parents == dict.fromkeys(("model", "corpus"), summary.artifacts["vocabulary"].fingerprint)
    assert record.config["schedule"] == {"kind": "rewarm-cosine", "peak": 3e-4, "warmup": 0.05}
    assert "name" not in record.config
    assert {"cpt", "python", "platform", "torch", "transformers", "tokenizers"} <= record.versions.keys()
    assert (
        summary.report
        == record.folder.parent / summary.artifacts["report"].folder.name / "report/report.html"
    )


def test_the_second_run_does_nothing(recipe_file: Path) -> None:
    first = go(recipe_file)
    fake_stages.RAN.clear()
    second = go(recipe_file)
    assert fake_stages.RAN == []
    assert content(second) == content(first)


def test_a_change_runs_only_what_follows(recipe_file: Path) -> None:
    go(recipe_file)
    fake_stages.RAN.clear()
    go(recipe_file, "merge.models.0.weight=0.5")
    assert fake_stages.RAN == ["merge", "evaluate", "report"]


def test_until_and_from(recipe_file: Path) -> None:
    go(recipe_file, selection=Selection(until="pretrain"))
    assert fake_stages.RAN == ["corpus", "vocabulary", "pretrain"]
    go(recipe_file, selection=Selection(from_="merge"))
    assert fake_stages.RAN[3:] == ["merge", "evaluate", "report"]


def test_force_replaces_the_result(recipe_file: Path) -> None:
    go(recipe_file)
    fake_stages.RAN.clear()
    go(recipe_file, selection=Selection(only="merge", force=("merge",)))
    assert fake_stages.RAN == ["merge"]


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), RuntimeError("boom"), OSError(errno.ENOSPC, "No space left on device")]
)
@pytest.mark.parametrize("kind", ["corpus", "pretrain", "merge", "report"])
def test_after_any_stop_the_same_command_ends_with_the_same_result(
    recipe_file: Path, stop: BaseException, kind: str
) -> None:
    undisturbed = content(go(recipe_file, root="elsewhere"))
    fail_at(kind, 3 if kind == "pretrain" else 0, stop)
    with pytest.raises(CptError):
        go(recipe_file)
    store = Store(recipe_file.parent / "runs" / "medical")
    assert store.artifacts(kind) == []
    assert not list(store.folder.glob(".tmp-*"))
    fake_stages.HOOKS.clear()
    events: list[Event] = []
    assert content(go(recipe_file, listener=events.append)) == undisturbed
    if kind == "pretrain":
        assert StageStarted("pretrain", continues=True) in events
        assert StageMessage("pretrain", "continues at step 3") in events
    assert not list(store.folder.glob("*.partial"))


def test_stopping_twice_also_ends_with_the_same_result(recipe_file: Path) -> None:
    undisturbed = content(go(recipe_file, root="elsewhere"))
    for step in (2, 4):
        fail_at("pretrain", step, KeyboardInterrupt())
        with pytest.raises(Interrupted):
            go(recipe_file)
    fake_stages.HOOKS.clear()
    assert content(go(recipe_file)) == undisturbed


def why(recipe_file: Path, *overrides: str) -> str:
    recipe = load(recipe_file, overrides)
    made = make_plan(recipe, Store(recipe_file.parent / "runs" / recipe.name))
    return next(entry.why for entry in made.entries if entry.step.name == "pretrain")


def test_an_unfinished_attempt_goes_on_with_other_changeable_settings(recipe_file: Path) -> None:
    undisturbed = content(go(recipe_file, "pretrain.compile=true", root="elsewhere"))
    fail_at("pretrain", 3, KeyboardInterrupt())
    with pytest.raises(Interrupted):
        go(recipe_file)
    fake_stages.HOOKS.clear()
    assert why(recipe_file) == "not made yet"
    expected = "not made yet; changed on the way: compile false → true"
    assert why(recipe_file, "pretrain.compile=true") == expected
    events: list[Event] = []
    assert content(go(recipe_file, "pretrain.compile=true", listener=events.append)) == undisturbed
    assert StageStarted("pretrain", continues=True) in events
    assert StageMessage("pretrain", "continues at step 3") in events
    assert not list((recipe_file.parent / "runs" / "medical").glob("*.partial"))


@pytest.mark.parametrize(
    ("override", "what"),
    [("pretrain.schedule.peak=1e-4", "schedule.peak 0.0003 → 0.0001"), ("seed=9", "seed 17 → 9")],
)
def test_an_unfinished_attempt_that_is_left_behind_is_named(
    recipe_file: Path, override: str, what: str
) -> None:
    fail_at("pretrain", 3, KeyboardInterrupt())
    with pytest.raises(Interrupted):
        go(recipe_file)
    fake_stages.HOOKS.clear()
    (partial,) = (recipe_file.parent / "runs" / "medical").glob("pretrain-*.partial")
    told = why(recipe_file, override, "pretrain.compile=true")
    assert told.startswith(f"not made yet; the unfinished {partial.name} is left behind: ")
    assert what in told
    go(recipe_file, override)
    assert partial.is_dir()


def test_a_stop_is_noted(recipe_file: Path) -> None:
    fail_at("pretrain", 3, KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        go(recipe_file)
    assert caught.value.exit_code == 130
    noted = journal(recipe_file)
    assert noted["state"] == "interrupted"
    states = {name: stage["state"] for name, stage in noted["stages"].items()}
    assert states["vocabulary"] == "finished"
    assert states["pretrain"] == "interrupted"
    assert states["merge"] == "waiting"


def test_sigterm_is_an_interruption_of_its_own_code(recipe_file: Path) -> None:
    fake_stages.HOOKS["pretrain"] = lambda _context, _step: os.kill(os.getpid(), signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught:
        go(recipe_file)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk of", "--runs"),
        (
            OSError(errno.EROFS, "Read-only file system", "/data/x"),
            "/data/x: is on a read-only disk",
            "--runs",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            "/data/x: permission denied",
            "--runs",
        ),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left", "--runs"),
        (MemoryError(), "not enough memory", "batch"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory", "batch"),
    ],
)
def test_refusals_of_the_system_are_explained(
    recipe_file: Path, error: Exception, message: str, hint: str
) -> None:
    fail_at("merge", 0, error)
    with pytest.raises(StageFailed) as caught:
        go(recipe_file)
    assert caught.value.message.startswith("merge: ")
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert not (recipe_file.parent / "runs" / "medical" / "error.log").exists()


def test_the_unexpected_goes_to_a_log(recipe_file: Path) -> None:
    fail_at("merge", 0, ZeroDivisionError("division by zero\nand more"))
    with pytest.raises(StageFailed) as caught:
        go(recipe_file)
    log = recipe_file.parent / "runs" / "medical" / "error.log"
    assert caught.value.message == "merge: unexpected ZeroDivisionError: division by zero"
    assert str(log) in (caught.value.hint or "")
    assert "Traceback" in log.read_text()
    assert journal(recipe_file)["error"] == caught.value.message


def test_a_bug_in_a_check_is_unexpected_too(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_self: object, _config: object, inputs: dict[str, Any]) -> list[Any]:
        return [1 / 0] if inputs else []

    monkeypatch.setattr(fake_stages.Merge, "check", check)
    with pytest.raises(StageFailed, match="unexpected ZeroDivisionError"):
        go(recipe_file)
    assert journal(recipe_file)["state"] == "failed"


def test_explained_errors_pass_unchanged(recipe_file: Path) -> None:
    error = DataError("notes.jsonl:3: not JSON")
    fail_at("corpus", 0, error)
    with pytest.raises(DataError) as caught:
        go(recipe_file)
    assert caught.value is error


def test_a_stage_that_makes_too_little_is_unexpected(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_stages.Merge, "run", lambda *_: {})
    with pytest.raises(StageFailed, match="made no model"):
        go(recipe_file)
    assert Store(recipe_file.parent / "runs" / "medical").artifacts("merge") == []


def test_figures_that_are_not_json_are_unexpected(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_stages.Fake.run
    monkeypatch.setattr(fake_stages.Merge, "run", lambda *args: made(*args) | {"figure": object()})
    with pytest.raises(StageFailed, match="merge: unexpected"):
        go(recipe_file)
    assert Store(recipe_file.parent / "runs" / "medical").artifacts("merge") == []


def test_a_broken_gate_keeps_the_result_and_is_remembered(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_stages.Fake.run

    def gated(*args: Any) -> None:
        raise GateFailed("general rose by 0.06, the limit is 0.05", metrics=made(*args))

    monkeypatch.setattr(fake_stages.Evaluate, "run", gated)
    summary = go(recipe_file)
    assert summary.gates == {"evaluate": "general rose by 0.06, the limit is 0.05"}
    assert summary.artifacts["evaluate"].metrics["steps"] == 1
    assert summary.report is not None
    assert go(recipe_file).gates == summary.gates


def test_a_base_model_that_cannot_be_had(recipe_file: Path) -> None:
    with pytest.raises(ReferenceUnavailable, match="cannot fetch"):
        go(recipe_file, "base=fake:unreachable")
    assert fake_stages.RAN == []


def test_checks_see_the_base_model_before_anything_runs(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match="the model disagrees") as caught:
        go(recipe_file, "corpus.sequence_length=4000")
    assert caught.value.problems[0].key == "corpus.sequence_length"
    assert fake_stages.RAN == []


def test_two_cannot_run_the_same(recipe_file: Path) -> None:
    store = Store(recipe_file.parent / "runs" / "medical")
    store.prepare()
    with store.lock(), pytest.raises(UsageError, match="another process"):
        go(recipe_file)
    go(recipe_file)


def test_leftovers_of_a_kill_are_cleaned(recipe_file: Path) -> None:
    leftover = recipe_file.parent / "runs" / "medical" / ".tmp-merge-0123456789ab"
    leftover.mkdir(parents=True)
    go(recipe_file)
    assert not leftover.exists()


def test_events_tell_the_whole_story(recipe_file: Path) -> None:
    events: list[Event] = []
    go(recipe_file, listener=events.append)
    first, last = events[0], events[-1]
    assert isinstance(first, RunStarted)
    assert [stage.stage for stage in first.stages][:2] == ["base", "corpus"]
    assert isinstance(last, RunEnded)
    assert last.outcome == "finished"
    started = [event.stage for event in events if isinstance(event, StageStarted)]
    ended = [event.stage for event in events if isinstance(event, StageEnded)]
    assert started == ended == [stage.stage for stage in first.stages]
    steps = [event for event in events if isinstance(event, StageAdvanced) and event.stage == "pretrain"]
    assert [event.done for event in steps] == [1, 2, 3, 4, 5]
    assert steps[0].facts == {"loss": 3.0}


def test_the_seed_and_the_recipe_reach_the_stage(recipe_file: Path) -> None:
    seen: list[Any] = []
    fake_stages.HOOKS["merge"] = lambda context, _step: seen.append((context.seed, context.recipe["name"]))
    go(recipe_file, "seed=4")
    assert seen == [(4, "medical")]


@pytest.mark.parametrize("pattern", ["merge-*.partial", ".tmp-merge-*"])
def test_a_folder_removed_while_its_stage_runs_is_named(recipe_file: Path, pattern: str) -> None:
    root = recipe_file.parent / "runs"

    def remove(*_: object) -> None:
        for folder in (root / "medical").glob(pattern):
            shutil.rmtree(folder)

    fake_stages.HOOKS["merge"] = remove
    with pytest.raises(StageFailed, match=r"merge-\w+.* was removed while the stage ran") as caught:
        run(load(recipe_file), root)
    assert "The same command" in str(caught.value.hint)
    assert "unexpected" not in str(caught.value)
    fake_stages.HOOKS.clear()
    assert run(load(recipe_file), root).exit_code == 0


def test_the_run_links_to_its_newest_model(recipe_file: Path) -> None:
    """`runs/NAME/model` follows the last stage that makes a model, and is told."""
    link = recipe_file.parent / "runs" / "medical" / "model"
    first = go(recipe_file, selection=Selection(until="pretrain"))
    assert first.model == link
    assert link.resolve() == first.artifacts["pretrain"].path("model").resolve()
    whole = go(recipe_file)
    last = [record for record in whole.artifacts.values() if "model" in record.kinds][-1]
    assert link.resolve() == last.path("model").resolve()
    assert whole.as_json()["model"] == str(link)
    changed = go(recipe_file, "pretrain.schedule.peak=1e-4", selection=Selection(until="pretrain"))
    assert link.resolve() == changed.artifacts["pretrain"].path("model").resolve()
    assert go(recipe_file, "name=corpus-only", selection=Selection(only="corpus")).model is None
