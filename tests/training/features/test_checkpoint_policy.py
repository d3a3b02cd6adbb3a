"""When a checkpoint is due, and which stay."""

import pytest
from pydantic import ValidationError

from cpt.training.features.checkpoints import Checkpoints, Policy, anneal_begins
from cpt.training.schedules import Linear, Wsd


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


@pytest.mark.parametrize("wrong", [{"every": 0}, {"keep": 0}, {"keep_every": 0}, {"mode": "later"}])
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Checkpoints(**wrong)


def test_by_default_one_is_left_when_the_newest_is_damaged() -> None:
    assert Checkpoints().keep == 2
