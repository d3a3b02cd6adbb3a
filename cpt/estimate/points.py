"""The points of a run that gates may go back to (`cpt.training.control.kept_points`), in one process.

They lie where the weights lie; those of a run that was restarted, in main memory until they are taken anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cpt.monitor.gates import Gate


@dataclass(frozen=True)
class Points:
    """What is kept.

    Attributes:
        models: copies of what a result needs: weights, and their average.
        states: copies of the optimizer's state, which going on needs besides.
    """

    models: int
    states: int

    @classmethod
    def of(cls, gates: Iterable[Gate]) -> Points:
        """By the actions of a run's gates: one point for each kind that goes back."""
        actions = {gate.action for gate in gates if gate.goes_back}
        return cls(len(actions), int("roll-back" in actions))

    def bytes(self, model: int, state: int) -> int:
        """Of all copies, once every point was taken."""
        return self.models * model + self.states * state
