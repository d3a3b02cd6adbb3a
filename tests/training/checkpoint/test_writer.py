"""Jobs in the background: one at a time, and no error is lost."""

import threading

import pytest

from cpt.training.checkpoint.writer import Background


def test_one_job_at_a_time_in_order() -> None:
    background, done, gate = Background(), [], threading.Event()

    def first() -> None:
        gate.wait(5)
        done.append(1)

    background.start(first)
    assert background.busy
    assert done == []
    gate.set()
    background.start(lambda: done.append(2))
    background.wait()
    assert done == [1, 2]
    assert not background.busy
    background.wait()


@pytest.mark.parametrize("meet", ["start", "check", "wait"])
def test_an_error_is_raised_at_the_next_occasion_and_only_once(meet: str) -> None:
    def fail() -> None:
        raise ValueError("spoilt")

    background = Background()
    background.start(fail)
    while background.busy:
        pass
    with pytest.raises(ValueError, match="spoilt"):
        background.start(lambda: None) if meet == "start" else getattr(background, meet)()
    background.wait()


def test_check_does_not_wait() -> None:
    background, gate = Background(), threading.Event()
    background.start(lambda: (gate.wait(5), None)[1])
    background.check()
    assert background.busy
    gate.set()
    background.wait()
