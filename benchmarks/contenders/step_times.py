"""Times the steps and checkpoints of the Hugging Face Trainer and of what is built on it."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback


class StepTimes(TrainerCallback):
    """Seconds of each optimizer step, and seconds that each checkpoint held the next one up."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.blocked: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the optimizer's part may still be under way
        self._ended = time.perf_counter()
        self.seconds.append(self._ended - self._began)

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self.blocked.append(time.perf_counter() - self._ended)
