"""cpt's training with everything on: log, ledger, proofs, search for spikes, probes, async checkpoints."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import job as jobs
import numpy as np
from cpt_loop import Steps, Timed, settings

from cpt.corpus import PackedSequence
from cpt.monitor.bits_per_byte import TokenisedText
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.schedule import AtSteps
from cpt.packed.model import load_model
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.faults import Faults
from cpt.training.loop import train

PROBE_TOKENS = 2000


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
    chosen = replace(
        settings(job),
        checkpoint=Checkpoints(every=job.checkpoint_every, mode="async"),
        faults=Faults(spike="skip"),
    )
    at = range(job.checkpoint_every, job.steps, job.checkpoint_every)
    with tempfile.TemporaryDirectory() as folder:
        probes = [TextProbe("domain", probe(rows), AtSteps(at))]
        result = train(load_model(Path(job.model)), stream, probes, chosen, Path(folder), steps)
    seconds = [steps.done[step + 1] - stream.asked[step] for step in range(job.steps)]
    total = stream.asked[job.steps - 1] + seconds[-1] - steps.done[1]
    more = {"probes": result.probe_seconds, "checkpoints": result.checkpoint_seconds}
    jobs.report(seconds, sum(len(row.tokens) for row in rows) / job.steps, [], total=total, **more)


if __name__ == "__main__":
    main()
