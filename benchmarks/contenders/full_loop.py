"""cpt's training with everything on: log, ledger, proofs, search for spikes, probes, async checkpoints.

Reports, beside every step's seconds, how many of them the bare step took (the gradient and its application),
and when checkpoints were being written in the background.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import job as jobs
import numpy as np
from cpt_loop import Steps, Timed, settings

from cpt.corpus import PackedSequence
from cpt.models.bits_per_byte import TokenisedText
from cpt.models.packed_model import load_model
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.schedule import AtSteps
from cpt.training import loop
from cpt.training.checkpoint import writer
from cpt.training.checkpoint.writer import Background
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.step import Gradient, Stepper

PROBE_TOKENS = 2000
Span = tuple[float, float]


class ClockedStepper(Stepper):
    """Notes when each bare step began and ended, but for what the loop does between its two halves."""

    gradients: list[Span] = []  # noqa: RUF012
    applications: list[Span] = []  # noqa: RUF012

    def gradient(self, batch: Sequence[PackedSequence]) -> Gradient | None:
        with _noted(self.gradients):
            return super().gradient(batch)

    def apply(self, rate: float) -> None:
        with _noted(self.applications):
            super().apply(rate)


class ClockedBackground(Background):
    """Notes when checkpoints were being written, and the processor's seconds that this took."""

    writes: list[Span] = []  # noqa: RUF012
    processor_seconds: list[float] = []  # noqa: RUF012

    def start(self, job: Callable[[], None]) -> None:
        def clocked() -> None:
            began = time.thread_time()
            with _noted(self.writes):
                job()
            self.processor_seconds.append(time.thread_time() - began)

        super().start(clocked)


@contextmanager
def _noted(spans: list[Span]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    spans.append((began, time.perf_counter()))


def probe(rows: list[PackedSequence]) -> TokenisedText:
    """Some documents as a text to read; how many bytes they have does not matter for the time."""
    pieces = [piece for row in rows for piece in np.split(row.tokens, np.cumsum(row.piece_lengths)[:-1])]
    lengths = np.cumsum([len(piece) for piece in pieces])
    windows = pieces[: int(np.searchsorted(lengths, PROBE_TOKENS)) + 1]
    count = len(windows)
    sizes = np.array([len(window) for window in windows])
    return TokenisedText(windows, np.ones(count, dtype=np.int64), np.arange(count), sizes)


def main() -> None:
    job = jobs.read()
    rows = [PackedSequence("domain", tokens, lengths) for tokens, lengths in job.rows()]
    stream, steps = Timed(rows, job.rows_per_step), Steps()
    chosen = settings(job).with_changes(
        checkpoint=Checkpoints(every=job.checkpoint_every, mode="async"),
        anomalies=Anomalies(spike="skip"),
    )
    at = range(job.checkpoint_every, job.steps, job.checkpoint_every)
    modules: Any = (loop, writer)
    modules[0].Stepper, modules[1].Background = ClockedStepper, ClockedBackground
    with tempfile.TemporaryDirectory() as folder:
        probes = [TextProbe("domain", probe(rows), AtSteps(at))]
        result = loop.train(load_model(Path(job.model)), stream, probes, chosen, Path(folder), steps)
    seconds = [steps.done[step + 1] - stream.asked[step] for step in range(job.steps)]
    more = {
        "total": stream.asked[job.steps - 1] + seconds[-1] - steps.done[1],
        "probes": sum(reading.seconds for reading in result.readings if 1 <= reading.step < job.steps),
        "checkpoints": result.checkpoint_seconds,
        "bare": list(zip(ClockedStepper.gradients, ClockedStepper.applications, strict=True)),
        "writes": ClockedBackground.writes,
        "writing_processor_seconds": ClockedBackground.processor_seconds,
    }
    jobs.report(seconds, sum(len(row.tokens) for row in rows) / job.steps, [], **more)


if __name__ == "__main__":
    main()
