"""From a recipe to jobs: finished inputs are read, others estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpt.corpus.mixture import replay_rows
from cpt.estimate.job import Job, Lengths, heaviness
from cpt.estimate.model import planned_model
from cpt.monitor.probe_work import FORWARD
from cpt.monitor.schedule import Moment
from cpt.recipe.schema import Recipe, Step
from cpt.stages.base import Artifact, UpstreamConfigs
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.data import expected_tokens, planned, planned_work
from cpt.stages.pretrain.probe_plan import DEFAULT_TOKENS
from cpt.stages.pretrain.stage import settings_of
from cpt.training.distributed.environment import Environment

_BATCHES = 256
"""Number of global batches among which the heaviest is found."""


@dataclass(frozen=True)
class Planned:
    """The run of a pretrain stage, and the assumptions of its estimate in words."""

    step: Step
    job: Job
    assumptions: tuple[str, ...]


def training_steps(recipe: Recipe) -> list[Step]:
    """Return the stages of a recipe that train a model or a hypernetwork."""
    kinds = (PretrainConfig, HypernetworkStageConfig)
    return [step for step in recipe.steps if isinstance(step.located, kinds)]


def plan_job(
    recipe: Recipe,
    step: Step,
    artifacts: Mapping[str, Artifact],
    *,
    fetch: bool,
    place: Environment | None = None,
) -> Planned | None:
    """Return the job of a pretrain stage.

    Args:
        recipe: Recipe of the run.
        step: Pretrain stage.
        artifacts: Finished results, by name of the stage.
        fetch: True to download the architecture, if it is not local.
        place: Environment of the run; by default one process on this machine.

    Returns:
        None when the architecture is not at hand and may not be fetched.

    Raises:
        ReferenceUnavailable: the architecture cannot be had.
    """
    assumptions: list[str] = []
    config: Any = step.located
    model = planned_model(recipe, step.inputs["model"], artifacts, fetch, assumptions)
    if model is None:
        return None
    upstream = {role: recipe.upstream(step, role) for role in step.inputs}
    inputs = {role: artifacts[name] for role, name in step.inputs.items() if name in artifacts}
    if "corpus" in inputs:
        sequences, steps, tokens = _sequences(config, inputs, recipe.seed, model.architecture)
    else:
        sequences, steps, tokens = _full_sequences(
            config, upstream["corpus"], _corpus_of(recipe, step).sequence_length, assumptions
        )
    place = place or Environment()
    settings = settings_of(config, steps, tokens, model.new_tokens, recipe.seed, place.hardware)
    job = Job(
        architecture=model.architecture,
        settings=settings,
        sequences=sequences,
        probe=_probe(config),
        probe_tokens=round(planned_work(config, inputs, upstream, Moment(steps, tokens)) / FORWARD),
        processes=place.processes,
        sharded=place.sharded,
        replicas=place.replicas,
        replay_rows=replay_rows(max(config.replay_shares.values()), config.batch_sequences),
        fewest_replay_rows=replay_rows(min(config.replay_shares.values()), config.batch_sequences),
    )
    job = job.with_micro_batch(min(settings.micro_batch, job.own_sequences))
    return Planned(step, job, (*assumptions, *_simplifications(job)))


def _simplifications(job: Job) -> list[str]:
    """Return the simplifications of the estimate, in words."""
    import torch

    settings = job.settings
    said = {
        "every process holds a whole copy of the model (--fsdp shards it)": job.processes > 1
        and not job.sharded,
        "weights are sharded as accelerate's --use_fsdp does by default": job.sharded,
        "each process holds the whole gradient in float32 until the last micro batch (gradient_sync: last)": (
            settings.config.gradient_sync == "last"
            and (job.accumulation > 1 or settings.config.objective.kind == "self-constraint")
        ),
        "communication between processes takes no time": job.processes > 1,
        "compiled layers keep less memory than is counted here": settings.compiles,
        "the teacher is taken to be as large as its student": settings.config.objective.needs_teacher,
        "the teacher is taken to make as many tokens of a text": settings.config.objective.kind == "alm",
        "8-bit matrix products are counted as bfloat16 ones": settings.float8,
        "frozen weights are kept in float32, too, as if bfloat16 could not hold them": settings.dtype
        != torch.float32
        and settings.config.trainable.kind != "all",
        "temporary memory of the optimizer's step is not counted": settings.config.optimizer.kind != "adamw",
    }
    return [line for line, holds in said.items() if holds]


def _sequences(
    config: PretrainConfig, inputs: Mapping[str, Artifact], seed: int, model: Any
) -> tuple[tuple[Lengths, ...], int, int]:
    """Return the documents of the heaviest of some batches, steps and tokens of a finished corpus."""
    stream, steps = planned(config, inputs, seed)
    looked_at = range(0, steps, math.ceil(steps / _BATCHES))
    batches = (
        [tuple(int(length) for length in row.piece_lengths) for row in stream.batch(at)] for at in looked_at
    )

    def weight(lengths: Lengths) -> int:
        return heaviness(lengths, model)

    heaviest = max(batches, key=lambda batch: sum(map(weight, batch)))
    return tuple(sorted(heaviest, key=weight, reverse=True)), steps, stream.tokens(steps)


def _full_sequences(
    config: PretrainConfig, upstream: UpstreamConfigs, length: int, assumptions: list[str]
) -> tuple[tuple[Lengths, ...], int, int]:
    """Return the same as `_sequences` for a corpus that is not made yet."""
    assumptions.append(f"every sequence is one document of {length:,} tokens: the corpus is not made yet")
    batch = config.batch_sequences * length
    tokens = expected_tokens(config, upstream)
    if tokens is None:
        assumptions.append("one step is estimated: their number follows from the corpus")
    steps = math.ceil((tokens or batch) / batch)
    return ((length,),) * config.batch_sequences, steps, steps * batch


def _corpus_of(recipe: Recipe, step: Step) -> CorpusConfig:
    """Return the settings of the corpus stage that a stage's corpus comes from."""
    maker = recipe.step(step.inputs["corpus"])
    while not isinstance(maker.located, CorpusConfig):
        maker = recipe.step(maker.inputs["corpus"])
    return maker.located


def _probe(config: PretrainConfig) -> Lengths:
    """Return the windows that a probe reads at once."""
    from cpt.models.bits_per_byte import BATCH_TOKENS

    tokens = config.monitor.tokens or DEFAULT_TOKENS
    window, most = min(config.monitor.window, tokens), min(BATCH_TOKENS, tokens)
    return (window,) * max(1, most // window)
