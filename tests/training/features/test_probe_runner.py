"""Probes within their share of the work: the same readings whatever the clock says, and after a kill."""

import json
import time
from pathlib import Path

import pytest
from gated import Phased, gate
from tiny_runs import SETTINGS, PlainRun, equal, run, tiny_probes

from cpt.errors import StageFailed
from cpt.monitor.probe_work import ProbeWork
from cpt.training.state import Result

ALL = tuple(range(7))
FULL = 40.0
"""Training tokens that a reading of the whole sample is said to cost."""

BOUND = SETTINGS.with_changes(probe_work=ProbeWork(0.5), tokens=round((2 + 5 * 0.6) * FULL / 0.5))
"""Pays for six tenths of every reading between first and last."""

STARVED = BOUND.with_changes(probe_work=ProbeWork(1e-6))


class Priced:
    """A probe with a cost of its own."""

    work = FULL

    def __init__(self, probe) -> None:
        self._probe = probe

    def __getattr__(self, name: str):
        return getattr(self._probe, name)


def probes(folder: Path, *steps: int) -> list:
    return [Priced(probe) for probe in tiny_probes(folder, *steps)]


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def without_seconds(result: Result) -> list[dict]:
    return [reading.as_json() | {"seconds": 0} for reading in result.readings]


def test_first_and_last_are_read_in_full_and_the_rest_as_the_share_pays(
    tiny_model: Path, tmp_path: Path
) -> None:
    _, result, _ = run(tiny_model, tmp_path, BOUND, probes=probes(tiny_model, *ALL))
    assert [reading.step for reading in result.readings] == list(ALL)
    first, *between, last = [reading.share for reading in result.readings]
    assert first == last == 1.0
    assert between == pytest.approx([0.5] * 5)  # of four documents
    assert result.wanted == {"domain": 7}


def test_a_slow_machine_reads_what_a_fast_one_reads(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fast, _ = run(tiny_model, tmp_path / "fast", BOUND, probes=probes(tiny_model, *ALL))
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() ** 3)  # ever slower
    _, slow, _ = run(tiny_model, tmp_path / "slow", BOUND, probes=probes(tiny_model, *ALL))
    monkeypatch.undo()
    assert without_seconds(slow) == without_seconds(fast)
    assert [each | {"seconds": 0} for each in lines(tmp_path / "slow/probes.jsonl")] == without_seconds(fast)


@pytest.mark.parametrize("kills", [[3], [4, 4], [5, 6]])
def test_a_run_that_was_killed_reads_the_same(tiny_model: Path, tmp_path: Path, kills: list[int]) -> None:
    bound = BOUND.with_changes(tokens=round((2 + 3 * 0.25) * FULL / 0.5))  # three of five, in quarters

    def go(name: str, die_at: int | None = None) -> Result:
        return run(tiny_model, tmp_path / name, bound, die_at, probes=probes(tiny_model, *ALL))[1]

    whole = go("whole")
    assert len(whole.readings) == 5
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            go("killed", step)
    result = go("killed")
    assert without_seconds(result) == without_seconds(whole)
    assert result.wanted == whole.wanted
    assert lines(tmp_path / "killed/probes.jsonl") == [reading.as_json() for reading in result.readings]


def test_a_checkpoint_has_only_the_length_of_the_readings_and_the_file_is_cut_back(
    tiny_model: Path, tmp_path: Path
) -> None:
    asked = probes(tiny_model, *ALL)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, die_at=6, probes=asked)
    file = tmp_path / "probes.jsonl"
    text, written = (tmp_path / "step-000000004/state.json").read_text(), file.read_bytes()
    state = json.loads(text)["parts"]
    assert "standard_error" not in text
    known = written[: state["probes"]["bytes"]]
    assert known.count(b"\n") < written.count(b"\n")
    file.write_bytes(written + b'{"step": 6, "pro')
    _, result, _ = run(tiny_model, tmp_path, probes=asked)
    assert file.read_bytes().startswith(known)
    assert lines(file) == [reading.as_json() for reading in result.readings]
    assert [reading.step for reading in result.readings] == list(ALL)


@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_readings_that_are_lost_are_an_error_and_nothing_is_removed(
    tiny_model: Path, tmp_path: Path, harm: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, die_at=3, probes=probes(tiny_model, *ALL))
    file = tmp_path / "probes.jsonl"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.unlink() if harm == "remove" else file.write_bytes(content if harm == "flip" else content[:40])
    with pytest.raises(StageFailed) as caught:
        run(tiny_model, tmp_path, probes=probes(tiny_model, *ALL))
    assert "probes.jsonl, which has the readings of the run so far" in caught.value.message
    assert ("is damaged" if harm == "flip" else "has fewer than") in caught.value.message
    assert (tmp_path / "step-000000002").is_dir()


def test_without_an_allowance_all_is_read(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path, probes=tiny_probes(tiny_model, *ALL))
    assert [reading.step for reading in result.readings] == list(ALL)
    assert {reading.share for reading in result.readings} == {1.0}


def test_a_reading_more_than_was_planned_is_as_the_last_that_was(tiny_model: Path, tmp_path: Path) -> None:
    class Unforeseen:
        steps = ALL

        def due(self, before, now) -> bool:
            return now.step in self.steps

        def between(self, end) -> tuple[int, int]:
            return 0, 3

    read = {}
    for name, settings in {"paid": BOUND, "starved": STARVED}.items():
        (probe,) = probes(tiny_model, *ALL)
        probe.when = Unforeseen()
        _, result, _ = run(tiny_model, tmp_path / name, settings, probes=[probe])
        read[name] = [reading.step for reading in result.readings]
    assert read == {"paid": list(ALL), "starved": [0, 6]}


def test_a_probe_share_leaves_the_weights_alone(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    bound, _, _ = run(tiny_model, tmp_path, STARVED)
    assert equal(plain_run.weights, bound)


def test_what_a_gate_acts_on_is_read_though_it_is_not_paid_for(tiny_model: Path, tmp_path: Path) -> None:
    gated, warned = (
        STARVED.with_changes(gates=(gate("domain <= +9", action),)) for action in ("lower-rate", "warn")
    )
    for name, settings, steps in [("gated", gated, [0, 3, 6]), ("warned", warned, [0, 6])]:
        asked = probes(tiny_model, *ALL)
        _, result, _ = run(tiny_model, tmp_path / name, settings, stream=Phased(), probes=asked)
        assert [reading.step for reading in result.readings] == steps


def test_what_is_read_live_is_what_the_result_has_and_its_seconds_add_up(
    tiny_model: Path, tmp_path: Path
) -> None:
    _, result, _ = run(tiny_model, tmp_path, BOUND, probes=probes(tiny_model))
    assert lines(tmp_path / "probes.jsonl") == [reading.as_json() for reading in result.readings]
    assert sum(reading.seconds for reading in result.readings) <= result.probe_seconds


def test_a_rise_is_over_the_first_reading(plain_run: PlainRun) -> None:
    first, *later = plain_run.result.readings
    assert (first.rise, first.rise_error) == (0.0, 0.0)
    for reading in later:
        assert reading.rise == pytest.approx(reading.value - first.value)
        assert reading.rise_error < reading.standard_error
