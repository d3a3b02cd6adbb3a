"""A short run on this machine: how fast matrix products are, and a model of this very shape trains."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cpt.errors import RecipeError
from cpt.estimate.cost import Duration, flops_per_token
from cpt.estimate.job import Job
from cpt.estimate.rehearsal import Weights, build, choose, hold
from cpt.packed.batch import pack
from cpt.packed.model import PackedLanguageModel
from cpt.training.recompute import recompute_layers
from cpt.training.trains import All
from cpt.training.trains.trained import Trained

SECONDS = 12.0
"""Time that three micro batches may take."""

_EFFICIENCY = 0.25
"""Share of the rate of matrix products that a step reaches at least: decides how many layers are tried."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        product_flops: operations per second of a plain matrix product in the run's precision.
        layers: of the model that was tried; the time of all is taken to grow with their operations.
        micro_batch_seconds: of the whole model.
        optimizer_seconds: of one step of the whole model.
    """

    product_flops: float
    layers: int
    micro_batch_seconds: float
    optimizer_seconds: float

    def duration(self, job: Job) -> Duration:
        """Time of a run whose micro batches are like the one that was measured."""
        step = job.accumulation * self.micro_batch_seconds + self.optimizer_seconds
        seconds = job.settings.steps * step
        basis = f"a micro batch takes {self.micro_batch_seconds:.2f} s here, measured with random weights"
        return Duration(seconds, job.settings.tokens / seconds, basis)


def calibrate(job: Job, weights: Weights) -> Calibration:
    """Measure on this machine, within some 20 seconds.

    A model that would take longer is tried with fewer layers, and all of it if the layers that train by the
    settings are not among them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = product_flops(job.settings.dtype, device)
    affordable = SECONDS / 3 * rate * _EFFICIENCY / (flops_per_token(job, weights) * sum(job.heaviest))
    config = _with_layers(job.architecture, affordable)
    model, trained = _tried(job, config, device)
    optimizer = job.settings.optimizer.build(trained.groups(model))
    trained.attach(optimizer)
    if job.settings.gradient_checkpointing:
        recompute_layers(model)
    module, batch = PackedLanguageModel(model), _batch(job, model).to(device)

    def micro_batch() -> None:
        (module(batch) / batch.targets).backward()
        trained.collect()

    def move() -> None:
        optimizer.step()
        trained.publish()

    took = _seconds(micro_batch, device)
    trained.restrict()
    stepping = _seconds(move, device)
    tried = Weights.of(model, trained)
    share = flops_per_token(job, weights) / flops_per_token(job, tried)
    return Calibration(rate, tried.layers, took * share, stepping * weights.trained / tried.trained)


def _tried(job: Job, config: Any, device: torch.device) -> tuple[Any, Trained]:
    """A model of an architecture with as many layers as the job's or fewer, and what of it trains."""
    model = build(config)
    try:
        choice = choose(model, job.settings)
    except RecipeError:
        if config.get_text_config().num_hidden_layers == job.architecture.get_text_config().num_hidden_layers:
            raise
        model = build(config)
        choice = choose(model, replace(job.settings, trains=All()))
    model.to(device)
    return model, hold(model, choice, job.settings)[1]


def product_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a matrix product of the size of a feed-forward block."""
    rows, inner, columns = 2048, 1024, 1024
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    best = min(_seconds(lambda: torch.mm(left, right), device) for _ in range(10))
    return 2 * rows * inner * columns / best


def _seconds(action: Callable[[], Any], device: torch.device) -> float:
    """Seconds of an action, the second time it is done."""
    action()
    _wait(device)
    began = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _with_layers(architecture: Any, affordable: float) -> Any:
    """The architecture with the share of its layers that is affordable, at least one."""
    config = copy.deepcopy(architecture)
    text = config.get_text_config()
    text.num_hidden_layers = max(1, int(text.num_hidden_layers * min(1.0, affordable)))
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    return config


def _batch(job: Job, model: Any) -> Any:
    """The heaviest micro batch, of random tokens."""
    random, tokens = np.random.default_rng(0), model.get_input_embeddings().num_embeddings
    return pack([random.integers(tokens, size=length) for length in job.heaviest])
