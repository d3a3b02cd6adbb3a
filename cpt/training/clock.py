"""Measure the seconds of training steps, on devices that still work when their host continues."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpt.training.state import State


class StepClock:
    """A clock of steps: from the end of one to the end of the next, less the time of probes and checkpoints.

    A GPU still works on the optimizer's part of a step when its host writes the log and packs the next batch;
    the next step waits once, for both. So every second is in some step only if steps are measured from end to
    end.
    """

    def __init__(self, state: State) -> None:
        """Start the clock.

        Args:
            state: state of the run, which counts the seconds of steps, probes and checkpoints.
        """
        self._state = state
        self._ended, self._beside = time.perf_counter(), self._beside_training()

    def stepped(self) -> float:
        """End a step, add its seconds to the state and return them."""
        ended, beside = time.perf_counter(), self._beside_training()
        taken = (ended - self._ended) - (beside - self._beside)
        self._ended, self._beside = ended, beside
        self._state.seconds += taken
        return taken

    def stop(self) -> None:
        """Add the seconds that the GPU still needs for the last step."""
        wait_for_gpu()
        self.stepped()

    def _beside_training(self) -> float:
        return self._state.probe_seconds + self._state.checkpoint_seconds


def wait_for_gpu() -> None:
    """Wait until the GPU has finished its work, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
