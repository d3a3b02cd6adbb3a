"""What the page of a run that goes on is made of: later, killed, continued, finished, damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from growing import STEPS, TOKENS, GrowingRun

from cpt.report.page import render_live
from cpt.watch.run_watcher import RunWatcher


@pytest.fixture
def run(tmp_path: Path) -> Iterator[GrowingRun]:
    """A run that is held by a process, in the middle of its training."""
    growing = GrowingRun(tmp_path).begin()
    with growing.store.lock():
        yield growing


def test_a_run_may_begin_later(tmp_path: Path) -> None:
    watched = RunWatcher(tmp_path, "medical")
    facts, live = watched.snapshot()
    assert facts is None
    assert (live.state, live.name) == ("waiting", "medical")
    GrowingRun(tmp_path).begin().train(1, 10)
    assert watched.version() != live.version
    assert watched.snapshot()[0] is not None


def test_without_a_name_the_newest_run_is_watched(tmp_path: Path) -> None:
    watched = RunWatcher(tmp_path)
    for name in ("first", "second"):
        growing = GrowingRun(tmp_path, name)
        growing.data["started"] += name
        growing.begin()
        assert watched.snapshot()[1].name == name


def test_it_tells_how_far_the_run_is(tmp_path: Path, run: GrowingRun) -> None:
    run.train(1, 40)
    facts, live = RunWatcher(tmp_path).snapshot()
    assert live.state == "running"
    assert live.advance is not None
    assert (live.advance.stage, live.advance.done, live.advance.total) == ("pretrain", 40, STEPS)
    assert live.advance.seconds_left == 120
    assert [(stage.name, stage.state) for stage in live.stages] == [
        ("pretrain", "running"),
        ("report", "waiting"),
    ]
    assert facts is not None
    assert facts.training is not None
    assert (facts.training.steps, facts.training.tokens) == (40, 40 * TOKENS)
    assert [point.step for point in facts.probes["general"].curve] == [1, 10, 20, 30, 40]
    assert facts.tokens == {"domain": 36_000, "replay": 4_000}
    assert facts.tokens_per_second == 500
    assert facts.absent == ["corpus", "vocabulary", "merge", "evaluate"]


def test_a_stage_that_is_to_come_is_not_absent(tmp_path: Path, run: GrowingRun) -> None:
    run.data["stages"]["evaluate"] = {"kind": "evaluate", "fingerprint": "ef" * 32, "state": "waiting"}
    run.train(1, 10)
    facts, _ = RunWatcher(tmp_path).snapshot()
    assert facts is not None
    assert facts.absent == ["corpus", "vocabulary", "merge"]


@pytest.mark.parametrize(("rise", "word"), [(0.0, "held"), (0.05, "broken")])
def test_the_verdict_is_that_of_the_gates(tmp_path: Path, run: GrowingRun, rise: float, word: str) -> None:
    run.train(1, 40, rise)
    facts, live = RunWatcher(tmp_path).snapshot()
    assert facts is not None
    assert [gate.verdict for gate in facts.watched.gates] == [word]
    assert ("general <= +0.02 is broken" in live.verdict) == (word == "broken")


def test_trends_begin_where_the_weights_last_went_back(
    tmp_path: Path, run: GrowingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in training. What was done at the last reading followed from it: the verdict before it is shown."""
    asked: list[tuple[float, int, str]] = []
    monkeypatch.setattr(
        "cpt.watch.training_log.judge",
        lambda gates, readings, at, _, since, stage: asked.append((at, since, stage)) or [],
    )
    run.train(1, 40)
    for step, action in ((10, "roll-back"), (20, "raise-replay"), (30, "lower-rate"), (40, "roll-back")):
        run.act(step, action)
    RunWatcher(tmp_path).snapshot()
    assert asked == [(0.4, 10, "pretrain")]


def test_of_a_training_that_a_gate_has_ended_the_result_is_shown(tmp_path: Path, run: GrowingRun) -> None:
    """`stop` went back from step 40, where the limit is broken, to step 10; what is read of that is last."""
    run.train(1, 9).train(10, 10, 0.02).train(11, 40, 0.2)
    run.act(40, "stop", to=10)
    run.add_reading("late", 10, rise=0.5)
    facts, live = RunWatcher(tmp_path).snapshot()
    assert facts is not None
    assert facts.training is not None
    assert facts.training.ended is not None
    assert (facts.training.ended.step, facts.training.ended.result_step) == (40, 10)
    assert {name: probe.curve[-1].step for name, probe in facts.probes.items()} == {
        "domain": 10, "general": 10, "late": 10
    }  # fmt: skip
    assert facts.probes["general"].permanent == pytest.approx(0.01)
    assert [gate.verdict for gate in facts.watched.gates] == ["held"]
    assert "broken" not in live.verdict


def test_every_change_is_a_new_version(tmp_path: Path, run: GrowingRun) -> None:
    watched = RunWatcher(tmp_path)
    run.train(1, 10)
    versions = [watched.version(), watched.version()]
    assert len(set(versions)) == 1
    run.train(11, 12)
    versions.append(watched.version())
    (run.work / "actions.jsonl").write_text("")
    versions.append(watched.version())
    run.tell(state="failed", error="out of memory")
    versions.append(watched.version())
    assert len(set(versions)) == 4
    assert watched.snapshot()[1].problem == "out of memory"


def test_a_run_that_was_killed_and_goes_on(tmp_path: Path) -> None:
    watched, growing = RunWatcher(tmp_path), GrowingRun(tmp_path).begin()
    with growing.store.lock():
        growing.train(1, 55)
        assert watched.snapshot()[1].state == "running"
    facts, live = watched.snapshot()
    assert live.state == "killed"
    assert live.stages[0].state == "killed"
    assert live.advance is not None
    assert (live.advance.done, live.advance.seconds_left) == (55, None)
    assert facts is not None
    with growing.store.lock():
        growing.cut(40)
        growing.train(41, 48)
        facts, live = watched.snapshot()
        assert live.state == "running"
        assert facts is not None
        assert facts.training is not None
        assert [point.step for point in facts.training.points] == list(range(1, 49))


def test_a_finished_run_is_its_report(tmp_path: Path, run: GrowingRun) -> None:
    watched = RunWatcher(tmp_path)
    run.train(1, STEPS)
    watched.snapshot()
    run.finish()
    facts, live = watched.snapshot()
    assert (live.state, live.advance, live.verdict) == ("finished", None, "")
    assert facts is not None
    assert facts.training is not None
    assert facts.training.steps == STEPS
    assert facts.seconds == {"pretrain": 0.0}


def test_damage_is_told_and_does_not_end_the_watch(tmp_path: Path, run: GrowingRun) -> None:
    run.train(1, 20)
    watched, probes = RunWatcher(tmp_path), run.work / "probes.jsonl"
    whole = probes.read_bytes()
    for damage in (b"{}\n", b"not JSON\n", b"7\n"):
        probes.write_bytes(damage)
        facts, live = watched.snapshot()
        assert facts is None
        assert "no report can be made of it" in live.problem
    probes.write_bytes(whole)
    assert watched.snapshot()[0] is not None


def test_looking_changes_nothing(tmp_path: Path, run: GrowingRun) -> None:
    def state() -> dict[Path, float]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}

    run.train(1, 20)
    before = state()
    RunWatcher(tmp_path).snapshot()
    assert state() == before


def test_the_title_is_that_of_the_recipes_report(tmp_path: Path, run: GrowingRun) -> None:
    run.data["recipe"]["stages"][-1] = {"report": {"title": "Medicine"}}
    run.train(1, 20)
    facts, _ = RunWatcher(tmp_path).snapshot()
    assert facts is not None
    assert facts.title == "Medicine"


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"state": "finished", "stages": [1]}'])
def test_a_damaged_run_file_is_shown_as_such(tmp_path: Path, content: bytes) -> None:
    run = GrowingRun(tmp_path).begin()
    (run.store.folder / "run.json").write_bytes(content)
    facts, live = RunWatcher(tmp_path, run.store.folder.name).snapshot()
    assert (facts, live.state) == (None, "damaged")
    assert "run.json: " in live.problem
    assert "run.json" in render_live(None, live)


@pytest.mark.parametrize("row", ["7", "[" * 100_000, '{"step": "x"}', "\0"])
def test_a_damaged_log_is_named(tmp_path: Path, row: str) -> None:
    run = GrowingRun(tmp_path).begin().train(1, 3)
    (run.work / "probes.jsonl").write_text(f"{row}\n")
    _, live = RunWatcher(tmp_path, run.store.folder.name).snapshot()
    assert "probes.jsonl:1: " in live.problem
