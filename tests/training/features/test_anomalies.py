"""Losses that are not finite, and spikes: what counts as one, and what the loop does about it."""

import dataclasses
import json
import math
from collections.abc import Collection
from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny_runs import SETTINGS, Batches, equal, run
from tiny_training import Row

from cpt.errors import StageFailed
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.schedules import Constant
from cpt.training.step import Gradient, Stepper

LEVEL = Constant(peak=1e-2, warmup=0)
"""The rate does not depend on the step, so that leaving a batch out changes nothing else."""


class Without(Batches):
    """The stream without some of its batches."""

    def __init__(self, left_out: Collection[int]) -> None:
        self.left = [step for step in range(50) if step not in left_out]

    def batch(self, step: int) -> list[Row]:
        return super().batch(self.left[step])


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Losses that certain batches seem to have, by number of the batch; the gradient is as it is."""
    seeming: dict[int, float] = {}
    gradient = Stepper.gradient
    numbers = {Batches().batch(step)[0].tokens.tobytes(): step for step in range(50)}

    def spoilt(self: Stepper, batch: list[Row]) -> Gradient:
        found = gradient(self, batch)
        step = numbers[batch[0].tokens.tobytes()]
        return dataclasses.replace(found, loss_nats=seeming.get(step, found.loss_nats))

    monkeypatch.setattr(Stepper, "gradient", spoilt)
    return seeming


def settings(steps: int = 12, every: int = 3, **anomalies: object):
    return SETTINGS.with_changes(
        steps=steps,
        schedule=LEVEL,
        checkpoint=Checkpoints(every=every),
        anomalies=Anomalies.model_validate(anomalies),
    )


def test_the_limit_is_median_and_scaled_deviation() -> None:
    anomalies = Anomalies(spike="skip", spike_threshold=2, window=5)
    limit = 3.0 + 2 * 1.4826 * 1.0  # of 1, 2, 3, 4, 100 the deviations are 2, 1, 0, 1, 97
    assert anomalies.limit([1, 2, 3, 4, 100]) == pytest.approx(limit)
    assert anomalies.find(limit - 1e-6, 1.0, [1, 2, 3, 4, 100]) is None
    found = anomalies.find(limit + 1e-6, 1.0, [100, 4, 3, 2, 1])
    assert found is not None
    assert (found.kind, found.action, found.limit) == ("spike", "skip", pytest.approx(limit))


def test_the_scale_makes_deviations_standard_deviations() -> None:
    import statistics

    quantiles = [statistics.NormalDist(2.0, 0.5).inv_cdf((i + 0.5) / 999) for i in range(999)]
    assert Anomalies(spike_threshold=3).limit(quantiles) == pytest.approx(2.0 + 3 * 0.5, rel=1e-3)


def test_no_spike_before_the_window_is_full_nor_when_ignored() -> None:
    anomalies = Anomalies(spike="stop", window=4)
    assert anomalies.find(1e9, 1.0, [1, 2, 3]) is None
    assert anomalies.find(1e9, 1.0, [1, 2, 3, 4]) is not None
    assert Anomalies(window=4).find(1e9, 1.0, [1, 2, 3, 4]) is None


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)]
)
def test_what_is_not_finite_is_a_fault_whatever_the_window(loss: float, norm: float) -> None:
    found = Anomalies(not_finite="skip").find(loss, norm, [])
    assert found is not None
    assert (found.kind, found.action) == ("not finite", "skip")
    assert None in json.loads(json.dumps(found.as_json(), allow_nan=False)).values()


@pytest.mark.parametrize(
    "wrong", [{"not_finite": "ignore"}, {"spike": "no"}, {"window": 2}, {"most": -1}, {"spike_threshold": 0},
              {"snapshot_every": 0}]
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Anomalies(**wrong)


def test_skipping_is_training_without_the_batch(tiny_model: Path, tmp_path: Path, losses) -> None:
    expected, _, _ = run(tiny_model, tmp_path / "a", settings(steps=10), stream=Without({4, 9}))
    losses |= {4: math.nan, 9: math.inf}
    weights, result, messages = run(tiny_model, tmp_path / "b", settings(not_finite="skip"))
    assert equal(weights, expected)
    assert [
        (anomaly["step"], anomaly["kind"], anomaly["action"], anomaly["loss_nats"])
        for anomaly in result.anomalies
    ] == [
        (5, "not finite", "skip", None),
        (10, "not finite", "skip", None),
    ]
    assert any("step 5: the loss is nan" in message and "dropped" in message for message in messages)
    noted = [json.loads(line) for line in (tmp_path / "b/anomalies.jsonl").read_text().splitlines()]
    assert noted == result.anomalies
    log = [json.loads(line) for line in (tmp_path / "b/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(1, 13))
    assert [(row["step"], row["anomaly"], row["loss_nats"]) for row in log if "anomaly" in row] == [
        (5, "not finite", None),
        (10, "not finite", None),
    ]


def tokens(steps: Collection[int], source: str) -> int:
    return sum(len(row.tokens) for step in steps for row in Batches().batch(step) if row.source == source)


def test_the_ledger_tells_what_was_trained_on_and_what_was_skipped(
    tiny_model: Path, tmp_path: Path, losses
) -> None:
    losses[4] = math.nan
    _, result, _ = run(tiny_model, tmp_path, settings(not_finite="skip"))
    trained = [step for step in range(12) if step != 4]
    for source, rows in (("domain", 3), ("replay", 1)):
        entry = result.ledger[source]
        assert (entry["tokens"], entry["sequences"]) == (tokens(trained, source), 11 * rows)
        assert (entry["skipped_tokens"], entry["skipped_sequences"]) == (tokens([4], source), rows)
    assert result.tokens == sum(entry["tokens"] for entry in result.ledger.values())
    assert result.steps == 12


@pytest.mark.parametrize("every", [1, 4, 100])
def test_rolling_back_is_training_without_what_came_since_the_snapshot(
    tiny_model: Path, tmp_path: Path, losses, every: int
) -> None:
    """Snapshots lie after steps 3, 6 and 9; batches 7 and 8, the second bad, are steps 8 and 9."""
    expected, _, _ = run(tiny_model, tmp_path / "a", settings(steps=9), stream=Without({6, 7, 8}))
    losses[8] = math.nan
    chosen = settings(every=every, not_finite="roll-back", snapshot_every=3)
    weights, result, messages = run(tiny_model, tmp_path / "b", chosen)
    assert equal(weights, expected)
    assert [(anomaly["step"], anomaly["back_to"]) for anomaly in result.anomalies] == [(9, 6)]
    assert result.ledger["domain"]["tokens"] == tokens([*range(6), *range(9, 12)], "domain")
    assert result.ledger["domain"]["skipped_tokens"] == tokens([6, 7, 8], "domain")
    assert any("back to step 6" in message for message in messages)


def test_rolling_back_again_goes_back_to_the_same_snapshot(tiny_model: Path, tmp_path: Path, losses) -> None:
    expected, _, _ = run(tiny_model, tmp_path / "a", settings(steps=6), stream=Without({6, 7, 8, 9, 10, 11}))
    losses |= {7: math.nan, 8: math.nan, 11: math.nan}
    chosen = settings(not_finite="roll-back", snapshot_every=6)
    weights, result, _ = run(tiny_model, tmp_path / "b", chosen)
    assert [anomaly["back_to"] for anomaly in result.anomalies] == [6, 6, 6]
    assert equal(weights, expected)


@pytest.mark.parametrize("mode", ["blocking", "async"])
@pytest.mark.parametrize("kills", [[7], [9], [10], [5, 9], [4, 8, 12]])
def test_faults_end_alike_after_any_kill(
    tiny_model: Path, tmp_path: Path, losses, kills: list[int], mode: str
) -> None:
    """Checkpoints (every 4) and snapshots (every 3) fall on different steps."""
    losses |= {5: 50.0, 7: math.nan, 10: 60.0}
    chosen = settings(
        not_finite="skip", spike="roll-back", window=3, spike_threshold=50, snapshot_every=3
    ).with_changes(
        checkpoint=Checkpoints(every=4, mode=mode),
    )
    whole, expected, _ = run(tiny_model, tmp_path / "whole", chosen)
    assert [anomaly["action"] for anomaly in expected.anomalies] == ["roll-back", "skip", "roll-back"]
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", chosen, die_at=step)
    again, result, _ = run(tiny_model, tmp_path / "killed", chosen)
    assert equal(whole, again)
    assert (result.anomalies, result.ledger) == (expected.anomalies, expected.ledger)


def test_spikes_are_found_among_the_last_losses(tiny_model: Path, tmp_path: Path, losses) -> None:
    losses |= {3: 50.0, 6: 50.0}
    _, result, _ = run(tiny_model, tmp_path / "a", settings(spike="skip", window=5, spike_threshold=50))
    assert [anomaly["step"] for anomaly in result.anomalies] == [7]  # the window was not full at the first
    _, result, _ = run(tiny_model, tmp_path / "b", settings(spike="skip", window=3, spike_threshold=50))
    assert [anomaly["step"] for anomaly in result.anomalies] == [4, 7]
    _, result, _ = run(tiny_model, tmp_path / "c", settings(spike="skip", window=3, spike_threshold=1e6))
    assert result.anomalies == []


@pytest.mark.parametrize("anomalies", [{}, {"spike": "stop", "window": 3, "spike_threshold": 50}])
def test_stop_stops_and_notes_why(tiny_model: Path, tmp_path: Path, losses, anomalies: dict) -> None:
    losses[4] = 50.0 if anomalies else math.nan
    with pytest.raises(StageFailed, match="at step 5"):
        run(tiny_model, tmp_path, settings(**anomalies))
    (event,) = [json.loads(line) for line in (tmp_path / "anomalies.jsonl").read_text().splitlines()]
    assert (event["step"], event["action"]) == (5, "stop")
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000000003"]


@pytest.mark.parametrize("action", ["skip", "roll-back"])
def test_more_than_most_interventions_stop_the_run(
    tiny_model: Path, tmp_path: Path, losses, action: str
) -> None:
    losses |= dict.fromkeys((2, 4, 6), math.nan)
    chosen = settings(not_finite=action, snapshot_every=2, most=2)
    with pytest.raises(StageFailed, match="at step 7, after 2 skips and roll-backs"):
        run(tiny_model, tmp_path / "few", chosen)
    run(tiny_model, tmp_path / "enough", settings(not_finite=action, snapshot_every=2, most=3))


def test_the_first_step_may_be_skipped(tiny_model: Path, tmp_path: Path, losses) -> None:
    losses[0] = math.nan
    expected, _, _ = run(tiny_model, tmp_path / "a", settings(steps=3), stream=Without({0}))
    weights, _, _ = run(tiny_model, tmp_path / "b", settings(steps=4, not_finite="skip"))
    assert equal(weights, expected)
