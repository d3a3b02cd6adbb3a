"""When a checkpoint is due, and which stay."""

import pytest
from pydantic import ValidationError

from cpt.training.checkpoint.policy import Checkpoints, Policy


class Infinite:
    """A schedule that is annealed over its last fifth."""

    def anneal_begins(self, steps: int) -> int | None:
        return steps - steps // 5


def due(config: Checkpoints, schedule: object = None, steps: int = 20) -> list[int]:
    policy = Policy(config, schedule, steps)
    return [step for step in range(steps + 1) if policy.due(step)]


def test_every_decides_when_and_the_last_step_needs_none() -> None:
    assert due(Checkpoints(every=5)) == [5, 10, 15]


def test_milestones_are_due_and_stay() -> None:
    config = Checkpoints(every=6, keep_every=8)
    assert due(config) == [6, 8, 12, 16, 18]
    policy = Policy(config, None, 20)
    assert [step for step in range(1, 20) if policy.stays(step)] == [8, 16]


def test_the_checkpoint_before_annealing_is_due_and_stays() -> None:
    assert due(Checkpoints(every=50), Infinite()) == [16]
    policy = Policy(Checkpoints(), Infinite(), 20)
    assert (policy.pre_anneal, policy.stays(16), policy.stays(15)) == (16, True, False)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"keep": 0}, {"keep_every": 0}, {"mode": "later"}])
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Checkpoints(**wrong)
