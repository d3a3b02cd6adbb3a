"""Time and cost of a run: by the peak rate of a GPU, or by a short measurement on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from cpt.errors import RecipeError, StageFailed
from cpt.estimate.devices import TYPICAL_UTILISATION, Device, available_bytes
from cpt.estimate.job import Job, mean_context
from cpt.estimate.memory import fits
from cpt.estimate.simulate import simulate
from cpt.estimate.simulated_model import Weights, build, mark_trainable, take_over
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.compilation import compilation, compiles_here
from cpt.training.distributed.environment import Hardware
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.l2_sp import L2SP
from cpt.training.float8 import to_float8
from cpt.training.loop import prepare
from cpt.training.objectives import CrossEntropy
from cpt.training.trainable import All
from cpt.training.trainable.parameters import TrainableParameters


@dataclass(frozen=True)
class Duration:
    """Duration of a run, and the basis of the estimate.

    Attributes:
        seconds: Duration of all steps and probes.
        tokens_per_second: Rate in the steps.
        basis: Basis of the estimate, in words.
        probe_seconds: Duration of the probes.
    """

    seconds: float
    tokens_per_second: float
    basis: str
    probe_seconds: float = 0.0

    def cost(self, devices: int, price: float) -> float:
        """Return the cost of the run at `price` per device and hour."""
        return self.seconds / 3600 * devices * price


def flops_per_token(job: Job, weights: Weights) -> float:
    """Return 4N + 2M + 12·L·d·T for N weights in products, of which M train, and L layers of width d.

    Gradient checkpointing repeats the forward pass, 2N + 4·L·d·T; so does a reference model, on the tokens
    that it reads.

    With everything trained it is 6N + 12·L·d·T (PaLM, arXiv 2204.02311, appendix B), where T is the number of
    tokens in the document of an average token: attention stays within documents.
    """
    forward = forward_flops_per_token(job, weights)
    backward = 2 * forward - 2 * weights.multiplied + 2 * min(weights.trained, weights.multiplied)
    reference = job.settings.config.objective.reference_share(job.replay_rows / len(job.sequences))
    return (1 + job.settings.config.gradient_checkpointing + reference) * forward + backward


def forward_flops_per_token(job: Job, weights: Weights) -> float:
    """Return 2N + 4·L·d·T, the operations of a forward pass alone."""
    config: Any = job.architecture.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 2 * weights.multiplied + 4 * weights.layers * width * mean_context(job.sequences)


def by_peak(job: Job, weights: Weights, device: Device) -> Duration:
    """Return the duration on GPUs at a typical share of their peak."""
    peak = device.peak(job.settings.dtype)
    flops = peak * TYPICAL_UTILISATION
    rate = flops * job.processes / flops_per_token(job, weights)
    probing = (
        job.probe_tokens * forward_flops_per_token(job, weights) / flops
    )  # every process reads all of it
    basis = f"{TYPICAL_UTILISATION:.0%} of {peak / 1e12:,.0f} TFLOP/s ({device.source})"
    return Duration(job.settings.tokens / rate + probing, rate, basis, probing)


SECONDS = 12.0
"""Time limit of the micro batches of a measurement."""

_TIMES = 3
"""Number of repetitions of a measurement; the first one is a warm-up."""

_EFFICIENCY = 0.25
"""Smallest share of the rate of matrix products that a step reaches: decides how many layers are measured."""


@dataclass(frozen=True)
class Calibration:
    """Results of a measurement on this machine.

    Attributes:
        precision: Precision of the products and of the run.
        product_flops: Operations per second of a plain matrix product in that precision.
        layers: Number of layers in the measured model; time is extrapolated by operations.
        of_layers: Number of layers of the model.
        micro_batch_seconds: Duration of a micro batch of the whole model.
        optimizer_seconds: Duration of an optimizer step of the whole model.
        weights: Numbers of weights of the whole model.
    """

    precision: str
    product_flops: float
    layers: int
    of_layers: int
    micro_batch_seconds: float
    optimizer_seconds: float
    weights: Weights

    def as_json(self) -> dict[str, Any]:
        """Return JSON data."""
        return {key: value for key, value in asdict(self).items() if key != "weights"}

    def adapted(self, measured: Job, job: Job) -> Calibration:
        """Return the measurement as that of a micro batch of another run, by the numbers of operations.

        Args:
            measured: Run that was measured.
            job: Run with the same model, trained weights, optimizer and size of micro batches.
        """
        before, after = (flops_per_token(each, self.weights) * sum(each.heaviest) for each in (measured, job))
        return replace(self, micro_batch_seconds=self.micro_batch_seconds * after / before)

    def duration(self, job: Job) -> Duration:
        """Return the duration of a run at the measured time per token.

        Probes take the forward pass's share of that time.
        """
        per_token = self.micro_batch_seconds / sum(job.heaviest)
        training = job.settings.tokens * per_token + job.settings.steps * self.optimizer_seconds
        reading = forward_flops_per_token(job, self.weights) / flops_per_token(job, self.weights)
        probing = job.probe_tokens * per_token * reading
        tried = "" if self.layers == self.of_layers else f", on {self.layers} of {self.of_layers} layers"
        basis = (
            f"a micro batch takes {self.micro_batch_seconds:.2f} s here in {self.precision}, measured with "
            f"random weights{tried}"
        )
        return Duration(training + probing, job.settings.tokens / training, basis, probing)


def calibrate(job: Job, weights: Weights, hardware: Hardware) -> Calibration:
    """Measure the run's precision, attention and optimizer on this machine, within about 20 seconds.

    A model that would need more time, or more memory than is free, is measured with fewer layers. If the
    layers that train by the settings are not among them, all of it trains.

    Args:
        job: Run to measure.
        weights: Numbers of weights of the whole model.
        hardware: This machine's hardware.

    Raises:
        StageFailed: Not even one layer fits in the free memory.
    """
    device = torch.device("cuda" if hardware.is_gpu else "cpu")
    rate = product_flops(job.settings.dtype, device)
    affordable = SECONDS / _TIMES * rate * _EFFICIENCY / (flops_per_token(job, weights) * sum(job.heaviest))
    config = _fitting(job, _with_layers(job.architecture, affordable), hardware)
    model, trained = _measured_model(job, config, device)
    optimizer = job.settings.config.optimizer.build(trained.groups(model))
    trained.register_hooks(optimizer)
    if l2_sp := L2SP.of(job.settings.config):
        l2_sp.attach(optimizer)
    average = (
        averaging.build(trained.weights, trained.sync_to_model)
        if (averaging := job.settings.config.average)
        else None
    )
    compiles = compiles_here(model, job.settings, lambda _: None)
    if job.settings.float8:
        to_float8(model)
    prepare(model, job.settings, compiles=compiles)
    module, batch = PackedLanguageModel(model), _batch(job, model).to(device)

    def micro_batch() -> None:
        (module(batch) / batch.targets).backward()
        trained.accumulate_grads()

    def move() -> None:
        optimizer.step()
        trained.sync_to_model()
        if average:
            average.add(1)

    with compilation(of_passes=compiles and job.settings.on_gpu):
        took = _seconds(micro_batch, device)
    trained.mask_grads()
    stepping = _seconds(move, device)
    tried = Weights.of(model, trained)
    plain = replace(job, settings=job.settings.with_changes(objective=CrossEntropy()))
    share = flops_per_token(job, weights) / flops_per_token(plain, tried)
    stepping *= weights.trained / tried.trained
    precision = "float8" if job.settings.float8 else str(job.settings.dtype).removeprefix("torch.")
    return Calibration(precision, rate, tried.layers, weights.layers, took * share, stepping, weights)


def _fitting(job: Job, config: Any, hardware: Hardware) -> Any:
    """Return an architecture with half of its layers, repeatedly, until it fits in the free memory."""
    free = torch.cuda.mem_get_info()[0] if hardware.is_gpu else available_bytes()
    while free is not None:
        needed = _needed(job, config, hardware)
        if fits(needed, free):
            break
        if config.get_text_config().num_hidden_layers == 1:
            raise StageFailed(
                f"this machine cannot measure the model: one layer of it takes {needed / 1e9:,.1f} GB with "
                f"micro batches of {job.settings.micro_batch}, and {free / 1e9:,.1f} GB are free",
                hint="Free some memory, lower micro_batch_sequences, or leave --calibrate out.",
            )
        config = _with_layers(config, 0.5)
    return config


def _needed(job: Job, config: Any, hardware: Hardware) -> int:
    """Return the peak bytes of the measured steps."""
    settings = job.settings.with_changes(checkpoint=Checkpoints(mode="blocking"), anomalies=Anomalies())
    alone = replace(job, architecture=config, settings=settings, probe=())
    try:
        timeline = simulate(alone, hardware).timeline
    except RecipeError:  # the layers that train are not among them
        timeline = simulate(
            replace(alone, settings=settings.with_changes(trainable=All())), hardware
        ).timeline
    return max(sum(block.bytes for block in timeline.peak(moment)) for moment in ("load", "step"))


def _measured_model(job: Job, config: Any, device: torch.device) -> tuple[Any, TrainableParameters]:
    """Return a model with at most the job's layers, and the weights of it that train."""
    model = build(config)
    try:
        spec = mark_trainable(model, job.settings)
    except RecipeError:
        if config.get_text_config().num_hidden_layers == job.architecture.get_text_config().num_hidden_layers:
            raise
        model = build(config)
        spec = mark_trainable(model, job.settings.with_changes(trainable=All()))
    model.to(device)
    return model, take_over(model, spec, job.settings)[1]


def product_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations per second of a matrix product of the size of a feed-forward block."""
    rows, inner, columns = 2048, 1024, 1024
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    best = min(_seconds(lambda: torch.mm(left, right), device) for _ in range(10))
    return 2 * rows * inner * columns / best


def _seconds(action: Callable[[], Any], device: torch.device) -> float:
    """Return the mean seconds of an action over all repetitions but the first."""
    action()
    _wait(device)
    began = time.perf_counter()
    for _ in range(_TIMES - 1):
        action()
    _wait(device)
    return (time.perf_counter() - began) / (_TIMES - 1)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _with_layers(architecture: Any, affordable: float) -> Any:
    """Return the architecture with an affordable share of its layers, at least one."""
    config = copy.deepcopy(architecture)
    text = config.get_text_config()
    text.num_hidden_layers = max(1, int(text.num_hidden_layers * min(1.0, affordable)))
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    return config


def _batch(job: Job, model: Any) -> Any:
    """Return the heaviest micro batch, with random tokens."""
    random, tokens = np.random.default_rng(0), model.get_input_embeddings().num_embeddings
    return pack([random.integers(tokens, size=length) for length in job.heaviest])
