"""What the pull towards the start and the average of the weights hold beside the optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from cpt.training.averages import Lawa
from cpt.training.settings import Settings


@dataclass(frozen=True)
class Regularised:
    """Bytes in one process.

    Attributes:
        trained: of what the optimizer moves.
        l2_sp: of the start that weights are pulled to.
        average: of the average's own copies.
        aside: how many of those lie in main memory, also where the model is on a GPU.
    """

    trained: int
    l2_sp: int
    average: int
    aside: int

    @classmethod
    def of(cls, settings: Settings, trained: int) -> Regularised:
        """By a run's settings, and the bytes of what its optimizer moves."""
        average = settings.average.copies * trained if settings.average else 0
        in_main_memory = isinstance(settings.average, Lawa)
        return cls(trained, trained if settings.l2_sp else 0, average, average if in_main_memory else 0)

    def held(self, on_gpu: bool) -> int:
        """Where the model is, as long as it trains."""
        return self.l2_sp + self.average - (self.aside if on_gpu else 0)

    def shown(self, on_gpu: bool) -> int:
        """Where the model is, while probes read the average: the weights, and the mean of several."""
        if not self.average:
            return 0
        return self.trained * (2 if self.aside and not on_gpu else 1)
