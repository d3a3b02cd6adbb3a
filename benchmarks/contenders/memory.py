"""The most memory that a few steps take, and what `cpt estimate` predicts for them."""

from __future__ import annotations

import job as jobs
import shapes
import torch
from cpt_loop import run, settings

from cpt.estimate.devices import peak_resident_bytes, this_machine
from cpt.estimate.job import Job
from cpt.estimate.memory import memory_of


def main() -> None:
    job = jobs.read()
    model = shapes.random_model(job.model)
    device = this_machine()
    lengths = tuple(tuple(map(int, each)) for _, each in job.rows()[: job.rows_per_step])
    estimated = memory_of(Job(model.config, settings(job), lengths), device).peak
    seconds, _ = run(job, model)
    if torch.cuda.is_available():  # which does not count CUDA's own memory
        measured, estimated = torch.cuda.max_memory_allocated(), estimated - device.context_bytes
    else:
        measured = peak_resident_bytes()
    tokens = sum(len(tokens) for tokens, _ in job.rows()) / job.steps
    jobs.report(seconds, tokens, [], measured=measured, estimated=estimated)


if __name__ == "__main__":
    main()
