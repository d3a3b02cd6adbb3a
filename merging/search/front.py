"""Which of the points that were tried are worth choosing from, and which one is chosen.

A point beats another when it is better on one figure and not worse on the other, both beyond the noise of
the paired difference. Points that nothing beats are the front (Pareto).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from merging.search.trials import Trial


@dataclass(frozen=True)
class Limit:
    """How much worse than the base something may become: 95% sure, by the paired difference's bound."""

    name: str
    most: float


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Attributes:
        gain: name of the measurement that is to become better.
        rise: name of the one that must not become worse.
        limits: budgets that must hold; without any, the knee of the front is chosen.
    """

    gain: str = "domain"
    rise: str = "general"
    limits: tuple[Limit, ...] = ()

    def gain_of(self, tried: Trial) -> float:
        """How much better than the base."""
        return -tried.changes[self.gain].value

    def rise_of(self, tried: Trial) -> float:
        """How much worse than the base."""
        return tried.changes[self.rise].value

    def excess(self, tried: Trial) -> float:
        """By how much the budget that is exceeded most is exceeded, at the upper bound."""
        return max((tried.changes[limit.name].upper - limit.most for limit in self.limits), default=0.0)

    def holds(self, tried: Trial) -> bool:
        """Whether every budget is shown to hold: the upper bound is known, and within the limit."""
        known = all(tried.changes[limit.name].known for limit in self.limits)
        return known and self.excess(tried) <= 0


@dataclass(frozen=True)
class Choice:
    """The point that is chosen, and why.

    Attributes:
        holds: whether all budgets are shown to hold there; if not, it is the one that comes nearest to it.
    """

    tried: Trial
    holds: bool
    why: str


def choose(tried: Sequence[Trial], goal: Goal) -> Choice:
    """With budgets the largest gain that keeps them, else the knee of the front."""
    if not goal.limits:
        return Choice(knee(tried, goal), True, "the knee of the front")
    holding = [each for each in tried if goal.holds(each)]
    if holding:
        best = max(holding, key=lambda each: (goal.gain_of(each), -goal.rise_of(each)))
        return Choice(best, True, "the largest gain that keeps the budget")
    least = min(tried, key=lambda each: (goal.excess(each), -goal.gain_of(each)))
    return Choice(least, False, "no point is shown to keep the budget: the one that comes nearest to it")


def pareto_front(tried: Sequence[Trial], goal: Goal) -> list[Trial]:
    """The points that no other beats, in the order of their gain.

    Noise can close a circle of points that beat each other; if nothing were left, all are on the front.
    """
    left = [each for each in tried if not any(_beats(other, each, goal) for other in tried)]
    return sorted(left or tried, key=goal.gain_of)


def _beats(one: Trial, other: Trial, goal: Goal) -> bool:
    if one is other:
        return False
    better = [other.change_from(one, name).is_worse for name in (goal.gain, goal.rise)]
    worse = [one.change_from(other, name).is_worse for name in (goal.gain, goal.rise)]
    return any(better) and not any(worse)


def knee(tried: Sequence[Trial], goal: Goal) -> Trial:
    """Where the front bends: the point farthest from the chord between base and largest gain.

    Gain and rise are taken as shares of those at the largest gain (Das 1999, On characterizing the "knee" of
    the Pareto curve); rises within their noise count as none. Where nothing rises, that is the largest gain.
    """
    points = pareto_front(tried, goal)
    farthest = max(points, key=goal.gain_of)
    most_gain, most_rise = goal.gain_of(farthest), _rise(farthest, goal)
    if most_gain <= 0 or most_rise <= 0:
        return farthest
    return max(points, key=lambda each: goal.gain_of(each) / most_gain - _rise(each, goal) / most_rise)


def _rise(tried: Trial, goal: Goal) -> float:
    change = tried.changes[goal.rise]
    return change.value if change.is_worse else 0.0
