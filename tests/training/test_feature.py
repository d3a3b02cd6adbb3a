"""A feature of one's own takes part in a run, in its checkpoints, and in an estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from tiny_runs import equal, run, tiny_probes

from cpt.training import features
from cpt.training.feature import ExtraMemory, TrainingFeature, WeightBytes, total_memory
from cpt.training.features import FEATURES, features_of
from cpt.training.features.gate_controller import GateController
from cpt.training.features.probe_runner import ProbeRunner
from cpt.training.settings import TrainingConfig


class Toy(TrainingFeature):
    """A feature that counts steps and moves the weights by the count."""

    state_name: ClassVar[str] = "toy"
    calls: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.count = 0

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:
        return cls()

    def extra_bytes(self, weights: WeightBytes) -> ExtraMemory:
        return ExtraMemory(held=weights.saved, saved=7)

    def on_start(self, run: Any) -> None:
        self.calls.append(f"start {run.state.step}")

    def on_resume(self, run: Any) -> None:
        self.calls.append(f"resume {run.state.step}")

    def before_step(self, run: Any) -> None:
        self.calls.append(f"before {run.state.step}")

    def after_step(self, run: Any, step: Any) -> None:
        self.count += len(step.batch)
        name = next(iter(run.trained.weights))
        run.trained.weights[name].data.add_(1e-4 * self.count)
        run.trained.sync_to_model()
        self.calls.append(f"after {run.state.step}")

    def after_probes(self, run: Any, readings: Any) -> None:
        self.calls.append(f"probes {len(readings)} {run.state.step}")

    def on_end(self, run: Any) -> None:
        self.calls.append(f"end {run.state.step}")

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, saved: Any) -> None:
        self.count = saved["count"]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    monkeypatch.setattr(features, "FEATURES", (Toy, *FEATURES))
    monkeypatch.setattr(Toy, "calls", [])
    return Toy


def test_the_loop_calls_a_feature_around_every_step_and_a_kill_changes_nothing(
    tiny_model: Path, tmp_path: Path, toy: type[Toy]
) -> None:
    probes = tiny_probes(tiny_model, 0, 2)
    whole, _, _ = run(tiny_model, tmp_path / "whole", probes=probes)
    steps = [call for done in range(1, 7) for call in (f"before {done - 1}", f"after {done}")]
    steps.insert(steps.index("after 2") + 1, "probes 1 2")
    assert toy.calls == ["start 0", "resume 0", "probes 1 0", *steps, "probes 1 6", "end 6"]
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", die_at=5, probes=probes)
    toy.calls.clear()
    again, _, _ = run(tiny_model, tmp_path / "killed", probes=probes)
    assert equal(whole, again)
    assert toy.calls[:3] == ["start 0", "resume 4", "before 4"]


def test_features_have_one_order_and_only_those_that_are_asked_for(toy: type[Toy]) -> None:
    plain = [type(each) for each in features_of(TrainingConfig())]
    assert plain == [kind for kind in (toy, *FEATURES) if kind in plain]
    assert plain.index(ProbeRunner) < plain.index(GateController)
    everything = TrainingConfig.model_validate(
        {
            "input_noise": 0.1,
            "l2_sp": {"strength": 1},
            "skill_it": {},
            "average": {"kind": "ema"},
            "trackers": ["tensorboard"],
        }
    )
    assert [type(each) for each in features_of(everything)] == [toy, *FEATURES]


def test_memory_is_summed_and_a_feature_sees_what_earlier_ones_save() -> None:
    held, total = total_memory([Toy(), Toy()], WeightBytes(trained=10, saved=100, optimizer=20))
    assert held == {"weights": 100 + 107}
    assert (total.held, total.saved) == (207, 14)
