"""A run in one go, and one that is interrupted and goes on in another process: do their weights differ?

Both are `deterministic`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import job as jobs
import shapes
import torch
from cpt_loop import Steps, Timed, settings
from safetensors.torch import load_file, save_file

from cpt.corpus import PackedSequence
from cpt.training.deterministic import allow_deterministic, deterministic
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.loop import train

STEPS, KILLED_AT = 4, 3


class Dies(Steps):
    """Ends the run after some steps."""

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        super().update(done, total, unit, **facts)
        if unit == "step" and done == KILLED_AT:
            raise KeyboardInterrupt


def run(job: jobs.Job, work: Path, *, dies: bool) -> None:
    """Train, or continue; leaves the weights beside the folder `work` if the run ends."""
    allow_deterministic()
    vocabulary = shapes.SHAPES[job.model]["rows"]
    rows = [PackedSequence("domain", tokens % vocabulary, lengths) for tokens, lengths in job.rows()]
    stream = Timed(rows, job.rows_per_step)
    chosen = settings(job).with_changes(checkpoint=Checkpoints(every=2), steps=STEPS)
    model = shapes.random_model(job.model)
    with deterministic(True), suppress(KeyboardInterrupt):
        train(model, stream, [], chosen, work, Dies() if dies else Steps())
        weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
        save_file(weights, work.with_suffix(".safetensors"))


def main() -> None:
    job = jobs.read()
    if len(sys.argv) > 3:
        run(job, Path(sys.argv[3]), dies=sys.argv[4] == "dies")
        return
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name, "whole"), Path(name, "killed")
        for work, how in ((whole, "ends"), (killed, "dies"), (killed, "ends")):
            subprocess.run([sys.executable, __file__, *sys.argv[1:3], work, how], check=True)
        one, other = (load_file(work.with_suffix(".safetensors")) for work in (whole, killed))
    jobs.report([], 0.0, [], differing=sum(not torch.equal(one[key], other[key]) for key in one))


if __name__ == "__main__":
    main()
