"""Seconds of training steps, on devices that still work when their host goes on."""

from __future__ import annotations

import time

import torch

from cpt.training.state import State


class StepClock:
    """Measures each step from the end of the one before, less what was spent on probes and checkpoints.

    A GPU still works on the optimizer's part of a step when its host writes the log and packs the next batch;
    the next step's only wait is for both. So only from end to end is every second in some step.
    """

    def __init__(self, state: State) -> None:
        """Start now.

        Args:
            state: the run's, which counts the seconds of steps, probes and checkpoints.
        """
        self._state = state
        self._ended, self._beside = time.perf_counter(), self._beside_training()

    def stepped(self) -> float:
        """End a step, enter its seconds into the state and return them."""
        ended, beside = time.perf_counter(), self._beside_training()
        taken = (ended - self._ended) - (beside - self._beside)
        self._ended, self._beside = ended, beside
        self._state.seconds += taken
        return taken

    def stop(self) -> None:
        """Enter what the GPU still had to do for the last step."""
        wait_for_gpu()
        self.stepped()

    def _beside_training(self) -> float:
        return self._state.probe_seconds + self._state.checkpoint_seconds


def wait_for_gpu() -> None:
    """Wait until the GPU has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
