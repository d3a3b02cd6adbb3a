"""When a checkpoint is due, and which stay."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from tiny_runs import SETTINGS
from tiny_training import checkpoint_manager
from torch import nn

from cpt.training.checkpoint.stateful import WeightState
from cpt.training.checkpoint.store import Store
from cpt.training.features.checkpoints import Checkpoints, Policy, anneal_begins
from cpt.training.schedules import Linear, Wsd
from cpt.training.state import State


class Growing:
    """A stream whose batches hold one token more each time: 1, 2, 3, …"""

    def batch(self, step: int) -> list:
        raise NotImplementedError

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        return {"domain": {"tokens": steps * (steps + 1) / 2}}


def due(config: Checkpoints, pre_anneal: int | None = None, steps: int = 20) -> list[int]:
    policy = Policy(config, steps, pre_anneal)
    return [step for step in range(steps + 1) if policy.due(step)]


def test_every_decides_when_and_the_last_step_needs_none() -> None:
    assert due(Checkpoints(every=5)) == [5, 10, 15]


def test_without_minutes_it_is_every_fifty_steps_and_with_them_only_time_decides() -> None:
    assert due(Checkpoints(), steps=120) == [50, 100]
    assert due(Checkpoints(minutes=3), steps=120) == []
    assert due(Checkpoints(minutes=3, every=40), steps=120) == [40, 80]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # after each of ten steps of a minute, the last of which needs none
        ({"minutes": 3}, [3, 6, 9]),
        ({"minutes": 2.5}, [3, 6, 9]),
        ({"minutes": 3, "every": 4}, [3, 4, 7, 8]),
        ({"minutes": 0.1}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"minutes": 100}, []),
    ],
)
def test_minutes_count_from_the_last_checkpoint(
    tmp_path: Path, config: dict[str, float], expected: list[int]
) -> None:
    module, state, now = nn.Linear(2, 2), State(), [1000.0]
    parts = {"weights": WeightState(dict(module.named_parameters()), lambda: None)}
    settings = SETTINGS.with_changes(steps=10, checkpoint=Checkpoints(keep=99, **config))
    manager = checkpoint_manager(tmp_path, parts, state, settings, clock=lambda: now[0])
    with manager.open():
        manager.resume()
        for step in range(1, 11):
            now[0] += 60
            state.step = step
            manager.after_step(manager._run, None)
    assert Store(tmp_path, 99).steps() == expected[::-1]


@pytest.mark.parametrize("is_main", [True, False])
def test_the_main_process_s_clock_decides_for_all(tmp_path: Path, is_main: bool) -> None:
    told: list[bool] = []

    def any_of(flag: bool) -> bool:
        told.append(flag)
        return True  # in the main process it is set

    processes = SimpleNamespace(
        is_main=is_main, rank=int(not is_main), any=any_of, gather=lambda data: [data], sharding=None
    )
    settings = SETTINGS.with_changes(steps=9, checkpoint=Checkpoints(minutes=5))
    manager = checkpoint_manager(tmp_path, {}, State(step=2), settings, lambda: 0.0, processes)
    manager.resume()
    manager._saved_at = -300.0
    saved: list[bool] = []
    manager.save = lambda in_background: saved.append(in_background)  # type: ignore[method-assign]
    manager.after_step(manager._run, None)
    assert (told, saved) == ([is_main], [True])


def test_milestones_are_due_and_stay() -> None:
    config = Checkpoints(every=6, keep_every=8)
    assert due(config) == [6, 8, 12, 16, 18]
    policy = Policy(config, 20)
    assert [step for step in range(1, 20) if policy.stays(step)] == [8, 16]


def test_the_checkpoint_before_annealing_is_due_and_stays() -> None:
    assert due(Checkpoints(every=50), pre_anneal=13) == [13]
    policy = Policy(Checkpoints(), 20, pre_anneal=13)
    assert (policy.stays(13), policy.stays(12)) == ("pre-anneal", None)


def test_schedules_say_where_annealing_begins() -> None:
    assert anneal_begins(Wsd(decay_share=0.2), 20, Growing()) == 16
    assert anneal_begins(Linear(), 20, Growing()) is None
    # of 210 tokens 168 come first: 18 steps hold 171, 17 hold 153
    assert anneal_begins(Wsd(decay_share=0.2, unit="tokens"), 20, Growing()) == 18


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"minutes": 0}, {"keep": 0}, {"keep_every": 0}, {"mode": "later"}]
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Checkpoints(**wrong)


def test_by_default_one_is_left_when_the_newest_is_damaged() -> None:
    assert Checkpoints().keep == 2
