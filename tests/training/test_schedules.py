import pytest
from pydantic import ValidationError

from cpt.training.schedules import Schedule


def test_rewarm_cosine_follows_the_closed_form() -> None:
    schedule = Schedule(kind="rewarm-cosine", peak=3e-4, floor=3e-5, warmup=0.1)
    rates = [schedule.rate(step, 112) for step in range(112)]
    warmup = 11
    assert rates[:warmup] == pytest.approx([3e-4 * (step + 1) / warmup for step in range(warmup)])
    assert rates[warmup] == pytest.approx(3e-4)
    assert rates[61] == pytest.approx((3e-4 + 3e-5) / 2)  # half way along the cosine
    assert rates[-1] == pytest.approx(3e-5)


def test_constant_stays_at_the_peak() -> None:
    schedule = Schedule(kind="constant", peak=1e-4, floor=0, warmup=0.25)
    assert [schedule.rate(step, 8) for step in range(8)] == pytest.approx([5e-5] + [1e-4] * 7)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs_never_train_with_a_zero_first_rate(steps: int) -> None:
    assert Schedule().rate(0, steps) > 0


def test_floor_above_peak_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"floor 0\.01 is above peak 0\.001"):
        Schedule(peak=1e-3, floor=1e-2)
