"""cpt's steps and nothing around them: no log, no ledger, no proofs, no probes, no checkpoints."""

from __future__ import annotations

import time
from pathlib import Path

import job as jobs
from cpt_loop import settings

from cpt.corpus import PackedSequence
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import distributed_context
from cpt.training.distributed.sharding import prepare_weights
from cpt.training.step import Stepper
from cpt.training.trainable import Setup
from cpt.training.trainable.parameters import TrainableParameters


def main() -> None:
    job = jobs.read()
    chosen, processes = settings(job), ProcessGroup(distributed_context())
    model = load_model(Path(job.model))
    spec = chosen.config.trainable.apply(model, Setup(chosen.steps, chosen.new_tokens, chosen.seed))
    module = PackedLanguageModel(model)
    trained = TrainableParameters(spec, prepare_weights(module, chosen, processes))
    optimizer = chosen.config.optimizer.build(trained.groups(model))
    trained.register_hooks(optimizer)
    trained.sync_to_model()
    stepper = Stepper(module, trained, optimizer, processes, chosen, chosen.config.objective.loss(None))
    rows = [PackedSequence("domain", tokens, lengths) for tokens, lengths in job.rows()]
    seconds = []
    for step in range(job.steps):
        began = time.perf_counter()
        stepper.gradient([rows[(step * job.rows_per_step + i) % len(rows)] for i in range(job.rows_per_step)])
        stepper.apply(chosen.rate(step, 0, 0))
        seconds.append(time.perf_counter() - began)
    jobs.report(seconds, sum(len(tokens) for tokens, _ in job.rows()) / job.steps, [], total=sum(seconds[1:]))


if __name__ == "__main__":
    main()
