"""Gates act in a run: on the stream, the rate, the weights and the end; and a killed run does the same."""

from __future__ import annotations

import dataclasses
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from acting_gates import (
    BACK,
    END,
    FAIL,
    MORE,
    NARROW,
    SLOWER,
    WARN,
    rare,
    run,
    summary,
)
from gated import STEPS, Phased, distances, gate, lines
from tiny_runs import equal

from cpt.models.packed_model import load_model
from cpt.monitor.gates import Gate
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.probe_runner import ProbeRunner
from cpt.training.step import Gradient, Stepper


def test_a_file_of_lines_is_old_or_new_and_never_half_written(tmp_path: Path, monkeypatch) -> None:
    from cpt.training.json_lines import write_lines

    file = tmp_path / "actions.jsonl"
    write_lines(file, [{"step": 1}])
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_lines(file, [{"step": 1}, {"step": 2}])
    assert file.read_text() == '{"step": 1}\n'


def test_without_gates_nothing_is_noted_but_the_tokens_by_source(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path)
    assert (result.actions, result.ended, result.phases) == ([], None, [])
    assert not (tmp_path / "actions.jsonl").exists()
    last = lines(tmp_path / "steps.jsonl")[-1]
    assert last["sources"] == {name: entry["tokens"] for name, entry in result.ledger.items()}
    assert "replay_share" not in last


def test_a_warning_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    plain, _, _ = run(tiny_model, tmp_path / "plain")
    warned, result, said = run(tiny_model, tmp_path / "warned", WARN)
    assert equal(plain, warned)
    assert {action["action"] for action in result.actions} == {"warn"}
    assert result.actions == lines(tmp_path / "warned" / "actions.jsonl")
    assert any("general <= +0.02 is broken: general rose by" in text for text in said)


def test_replay_is_raised_from_the_next_step_on(tiny_model: Path, tmp_path: Path) -> None:
    plain, _, _ = run(tiny_model, tmp_path / "plain")
    weights, result, said = run(tiny_model, tmp_path / "run", MORE)
    assert not equal(plain, weights)
    raised = result.actions[0]
    assert raised.keys() == {
        *(
            "step",
            "tokens",
            "key",
            "limit",
            "probe",
            "action",
            "value",
            "error",
            "from",
            "to",
            "result",
            "why",
        )
    }
    assert (raised["action"], raised["from"], raised["to"]) == ("raise-replay", 0.25, 0.5)
    assert summary(result.actions)[-1][3] == 0.75
    log = {record["step"]: record for record in lines(tmp_path / "run" / "steps.jsonl")}
    first = raised["step"]
    # the record of a step holds the share that it had; a change is for the step after
    assert [log[step]["replay_share"] for step in (1, first, first + 1)] == [0.25, 0.25, 0.5]
    assert result.phases[:2] == [(0, 1), (first, 2)]
    counts = [sum(row.source == "replay" for row in Phased(result.phases).batch(s)) for s in range(STEPS)]
    assert result.ledger["replay"]["sequences"] == sum(counts)
    assert any(f"step {first}: learn.gates.0: replay is raised from 0.25 to 0.5" in text for text in said)
    assert raised["key"] == "learn.gates.0"


def test_the_rate_is_lowered(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path, SLOWER)
    log = lines(tmp_path / "steps.jsonl")
    assert all(record["lr"] == pytest.approx(1e-3 * record["rate_factor"]) for record in log)
    assert log[-1]["rate_factor"] == 0.2
    assert [action["to"] for action in result.actions] == [0.5, 0.25, 0.2]


def test_roll_back_goes_to_where_the_limit_held_and_on_from_there(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path, BACK)
    back = [action for action in result.actions if action["action"] == "roll-back"]
    assert 1 <= len(back) <= 2
    rises = {r.step: r.rise for r in result.readings if r.probe == "general"}
    assert rises[back[0]["to"]] <= 0.05 < rises[back[0]["from"]]
    assert result.steps == STEPS
    assert lines(tmp_path / "steps.jsonl")[-1]["rate_factor"] == pytest.approx(0.1 ** len(back))
    after = min(step for step in rises if step > back[0]["from"])
    assert rises[after] < rises[back[0]["from"]]
    skipped = sum(entry.get("skipped_sequences", 0) for entry in result.ledger.values())
    assert skipped == 4 * sum(action["from"] - action["to"] for action in back)


def test_a_point_is_good_only_if_every_limit_held_when_it_was_read_last(
    tiny_model: Path, tmp_path: Path
) -> None:
    """`general` is broken at step 8 and not read again until 16: what is read between tells nothing of it."""
    probes = [
        *distances(tiny_model, 0, 8, 16, general=lambda d: 1 + d),
        *distances(tiny_model, *range(0, STEPS, 2), domain=lambda d: 2 - d),
    ]
    rare, often = gate("general <= +0.02", "roll-back", after=0.5), gate("domain <= +0.02", "roll-back")
    _, result, _ = run(tiny_model, tmp_path, rare, often, probes=probes)
    back = next(action for action in result.actions if action["action"] == "roll-back")
    assert (back["from"], back["to"]) == (16, 6)


@pytest.mark.parametrize("gate", [END, FAIL], ids=["stop", "fail"])
def test_what_was_not_read_of_the_result_is_read_of_it(tiny_model: Path, tmp_path: Path, gate: Gate) -> None:
    weights, result, _ = run(tiny_model, tmp_path, gate)
    assert result.ended is not None
    at = result.ended["result_step"]
    assert (at < result.steps) == (gate is END)
    begun, ended = rare(result)
    start = {name: p.detach() for name, p in load_model(tiny_model).named_parameters()}
    moved = sum(float((weights[name] - p).double().square().sum()) for name, p in start.items()) ** 0.5
    trained = sum(len(row.tokens) for step in range(at) for row in Phased().batch(step))
    assert begun == (0, 0, 0.0)
    assert ended == (at, trained, pytest.approx(moved))
    others = [(r.step, r.probe) for r in result.readings]
    assert len(others) == len(set(others))  # what was read of the result is not read again
    assert result.wanted["rare"] == 2
    assert [row["probe"] for row in lines(tmp_path / "probes.jsonl")][-1] == "rare"


@pytest.mark.parametrize("every", [1, 5], ids=["with a checkpoint", "without"])
def test_a_run_killed_at_its_end_reads_the_result_once(
    tiny_model: Path, tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, killed = Checkpoints(every=every), tmp_path / "killed"
    expected, whole, _ = run(tiny_model, tmp_path / "whole", END, checkpoint=checkpoint)
    read = ProbeRunner.read_result
    monkeypatch.setattr(ProbeRunner, "read_result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, killed, END, checkpoint=checkpoint)
    # a signal waits until all is read; then a checkpoint is saved
    monkeypatch.setattr(
        ProbeRunner, "read_result", lambda *each: (signal.raise_signal(signal.SIGINT), read(*each))
    )
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, killed, END, checkpoint=checkpoint)
    monkeypatch.setattr(ProbeRunner, "read_result", read)
    weights, result, _ = run(tiny_model, killed, END, checkpoint=checkpoint)
    assert equal(weights, expected)
    assert (result.actions, result.ended, result.wanted) == (whole.actions, whole.ended, whole.wanted)
    read_of = [[(r.step, r.probe, r.value) for r in each.readings] for each in (whole, result)]
    assert read_of[0] == read_of[1]


def test_fail_ends_the_run_after_its_time_of_grace(tiny_model: Path, tmp_path: Path) -> None:
    _, result, _ = run(tiny_model, tmp_path, FAIL)
    assert result.ended is not None
    assert result.ended["step"] == result.ended["result_step"] == result.steps == STEPS // 2
    assert result.ended["action"] == "fail"


@pytest.mark.parametrize(
    ("gates", "die_at", "mode"),
    [
        ((MORE,), 5, "blocking"),
        ((SLOWER, MORE), 13, "async"),
        ((BACK,), 16, "blocking"),
        ((END,), 8, "async"),
        ((NARROW,), 5, "blocking"),
    ],
    ids=["replay", "both", "back", "stop", "stop at the start"],
)
def test_a_killed_run_acts_as_one_that_was_not(
    tiny_model: Path, tmp_path: Path, gates: tuple[Gate, ...], die_at: int, mode: str
) -> None:
    checkpoint = Checkpoints.model_validate({"every": 3, "mode": mode})
    expected, whole, _ = run(tiny_model, tmp_path / "whole", *gates, checkpoint=checkpoint)
    assert whole.actions
    for moment in (die_at, die_at + 2):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", *gates, die_at=moment, checkpoint=checkpoint)
    weights, result, _ = run(tiny_model, tmp_path / "killed", *gates, checkpoint=checkpoint)
    assert equal(weights, expected)
    assert (result.actions, result.phases, result.ended) == (whole.actions, whole.phases, whole.ended)
    assert result.ledger == whole.ledger
    assert rare(result) == rare(whole)
    assert lines(tmp_path / "killed" / "actions.jsonl") == whole.actions
    timeless = [
        [
            {k: v for k, v in record.items() if "second" not in k}
            for record in lines(tmp_path / name / "steps.jsonl")
        ]
        for name in ("killed", "whole")
    ]
    assert timeless[0] == timeless[1]


def test_a_fault_after_going_back_does_not_bring_back_what_was_dropped(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anomalies = Anomalies.model_validate({"not_finite": "roll-back", "snapshot_every": 7})
    _, plain, _ = run(tiny_model, tmp_path / "plain", BACK, anomalies=anomalies)
    back = plain.actions[0]
    gradient, calls = Stepper.gradient, []

    def spoilt(self: Stepper, batch: Any) -> Gradient:
        calls.append(1)
        found = gradient(self, batch)
        return dataclasses.replace(found, loss_nats=float("nan")) if len(calls) == back["from"] + 1 else found

    monkeypatch.setattr(Stepper, "gradient", spoilt)
    _, result, _ = run(tiny_model, tmp_path / "run", BACK, anomalies=anomalies)
    assert result.anomalies[0]["back_to"] == back["from"]  # the state right after going back
    rises = {r.step: r.rise for r in result.readings if r.probe == "general"}
    assert rises[back["from"] + 2] < rises[back["from"]]


def test_gates_are_fixed_for_a_run(tiny_model: Path, tmp_path: Path) -> None:
    from cpt.errors import StageFailed

    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, MORE, die_at=8)
    with pytest.raises(StageFailed, match=r"other settings.*gates"):
        run(tiny_model, tmp_path, SLOWER)


def test_probes_that_are_read_at_different_times_are_acted_upon_when_they_are(
    tiny_model: Path, tmp_path: Path
) -> None:
    probes = [
        *distances(tiny_model, 0, 12, general=lambda d: 1 + 0.1 * d),
        *distances(tiny_model, *range(0, STEPS, 2), domain=lambda d: 2 - d),
    ]
    _, result, _ = run(tiny_model, tmp_path, MORE, probes=probes)
    assert [action["step"] for action in result.actions] == [12]


def test_the_tokens_by_source_add_up(tiny_model: Path, tmp_path: Path) -> None:
    run(tiny_model, tmp_path, MORE)
    log = lines(tmp_path / "steps.jsonl")
    assert all(sum(record["sources"].values()) == record["tokens"] for record in log)
    assert all(a["sources"]["domain"] < b["sources"]["domain"] for a, b in pairwise(log))
