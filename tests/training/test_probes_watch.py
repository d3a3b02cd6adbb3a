"""Probes within a time budget: what is decided is kept, and done again by a run that was killed."""

import dataclasses
import json
from pathlib import Path

import pytest
from gated import Phased, gate
from tiny_runs import SETTINGS, equal, run, tiny_probes

from cpt.monitor.budget import Allotment, Allowance
from cpt.training import watch
from cpt.training.watch_journal import Journal

BOUND = dataclasses.replace(SETTINGS, allowance=Allowance(0.05))
ALL = tuple(range(7))


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Shares that the budget gives, one after the other, as a clock that nobody can repeat might have it."""
    shares = iter([0.5, 0.0, 1.0, 0.25, 0.75, 0.6, 0.3, 0.9, 0.4])
    given: list[float] = []

    def allot(*_: object) -> dict[str, Allotment]:
        given.append(next(shares))
        return {"domain": Allotment(given[-1], 0.125)}

    monkeypatch.setattr(watch, "allot", allot)
    return given


def test_first_and_last_are_read_in_full_and_the_rest_as_the_budget_gives(
    tiny_model: Path, tmp_path: Path, decisions: list[float]
) -> None:
    _, result, _ = run(tiny_model, tmp_path, BOUND, probes=tiny_probes(tiny_model, *ALL))
    assert decisions == [0.5, 0.0, 1.0, 0.25, 0.75]
    assert [reading.step for reading in result.readings] == [0, 1, 3, 4, 5, 6]
    shares = [reading.share for reading in result.readings]
    assert shares[0] == shares[2] == shares[-1] == 1.0
    assert shares[1] == pytest.approx(0.5, abs=0.1)
    assert result.wanted == {"domain": 7}


@pytest.mark.parametrize("kills", [[3], [4, 4], [5, 6]])
def test_a_run_that_was_killed_reads_what_it_had_decided(
    tiny_model: Path, tmp_path: Path, decisions: list[float], kills: list[int]
) -> None:
    def go(name: str, die_at: int | None = None):
        return run(tiny_model, tmp_path / name, BOUND, die_at, probes=tiny_probes(tiny_model, *ALL))

    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            go("killed", step)
    _, result, _ = go("killed")
    assert decisions == [0.5, 0.0, 1.0, 0.25, 0.75]
    assert [entry["step"] for entry in lines(tmp_path / "killed/monitor.jsonl")] == [1, 2, 3, 4, 5]
    kept = [reading.as_json() for reading in result.readings]
    assert lines(tmp_path / "killed/probes.jsonl") == kept


def test_without_an_allowance_all_is_read_and_nothing_decided(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path, probes=tiny_probes(tiny_model, *ALL))
    assert [reading.step for reading in result.readings] == list(ALL)
    assert {reading.share for reading in result.readings} == {1.0}
    assert lines(tmp_path / "monitor.jsonl") == []


def test_a_budget_does_not_touch_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    plain, _, _ = run(tiny_model, tmp_path / "plain")
    bound, _, _ = run(
        tiny_model, tmp_path / "bound", dataclasses.replace(SETTINGS, allowance=Allowance(1e-6))
    )
    assert equal(plain, bound)


def test_what_a_gate_acts_on_is_read_though_there_is_no_time(tiny_model: Path, tmp_path: Path) -> None:
    starved = dataclasses.replace(SETTINGS, allowance=Allowance(1e-6))
    gated, warned = (
        dataclasses.replace(starved, gates=(gate("domain <= +9", action),))
        for action in ("lower-rate", "warn")
    )
    for name, settings, steps in [("gated", gated, list(ALL)), ("warned", warned, [0, 6])]:
        probes = tiny_probes(tiny_model, *ALL)
        _, result, _ = run(tiny_model, tmp_path / name, settings, stream=Phased(), probes=probes)
        assert [reading.step for reading in result.readings] == steps


def test_what_is_read_live_is_what_the_result_has_and_its_seconds_add_up(
    tiny_model: Path, tmp_path: Path
) -> None:
    allowance = Allowance(0.5, spent=2.0)
    settings = dataclasses.replace(SETTINGS, allowance=allowance)
    _, result, _ = run(tiny_model, tmp_path, settings, probes=tiny_probes(tiny_model))
    assert lines(tmp_path / "probes.jsonl") == [reading.as_json() for reading in result.readings]
    assert sum(reading.seconds for reading in result.readings) + 2 <= result.probe_seconds


def test_a_rise_is_over_the_first_reading(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path)
    first, *later = result.readings
    assert (first.rise, first.rise_error) == (0.0, 0.0)
    for reading in later:
        assert reading.rise == pytest.approx(reading.value - first.value)
        assert reading.rise_error < reading.standard_error


def test_a_journal_that_was_cut_off_is_whole_to_its_last_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write(3, {"a": Allotment(0.5, 0.25)})
    journal.close()
    with (tmp_path / "j").open("a") as file:
        file.write('{"step": 4, "gi')
    journal = Journal(tmp_path / "j")
    assert journal.decided(3) == {"a": Allotment(0.5, 0.25)}
    assert journal.decided(4) is None
    journal.write(4, {"a": Allotment(1.0, 0.0)})
    journal.close()
    assert [entry["step"] for entry in lines(tmp_path / "j")] == [3, 4]
