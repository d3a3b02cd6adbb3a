"""All predictions for one hypernetwork stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cpt.estimate.devices import TYPICAL_UTILISATION
from cpt.estimate.duration import Duration, product_flops
from cpt.estimate.hypernetwork import (
    ReadTokens,
    assumed_counts,
    assumed_lengths,
    first_stage_flops,
    step_flops,
)
from cpt.estimate.memory import Memory, fits, moments_of
from cpt.estimate.model import planned_model, tokens_of
from cpt.estimate.stage import EstimateRequest
from cpt.models.packed_model import resolve_precision
from cpt.recipe.schema import Recipe, Step
from cpt.stages.base import Artifact
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.stages.hypernetwork.stage import KIND
from cpt.training.distributed.environment import Environment
from tokenizer_tools.hypernetwork.folder import read_facts
from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

if TYPE_CHECKING:
    import torch

    from cpt.estimate.devices import Device
    from cpt.estimate.simulate_hypernetwork import NetworkSimulation


@dataclass(frozen=True)
class PlannedNetwork:
    """The run of a hypernetwork stage, and the assumptions of its estimate in words.

    Attributes:
        step: Stage.
        config: Settings of the training, with the architecture of the network that it begins with.
        architecture: Configuration of the model (transformers).
        vocabulary: Number of tokens that are read: sampled, fixed, or the model's own.
        dtype: Data type in which the model computes.
        processes: Number of processes.
        assumptions: Assumptions.
    """

    step: Step
    config: HypernetworkTrainingConfig
    architecture: Any
    vocabulary: int
    dtype: torch.dtype
    processes: int
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class NetworkEstimate:
    """Predictions for a hypernetwork stage.

    Attributes:
        planned: The stage and its run.
        memory: Peak memory by part.
        limit: Bytes of memory to fit in.
        rows: Rows of a step.
        predicted: Rows of a step that are predicted.
        parameters: Parameters of the hypernetwork.
        flops_per_step: Operations of a step of language modelling.
        duration: Duration; None if the speed of the device is unknown.
        cost: Cost in the currency of the price; None without a price.
    """

    planned: PlannedNetwork
    memory: Memory
    limit: int
    rows: int
    predicted: int
    parameters: int
    flops_per_step: int
    duration: Duration | None
    cost: float | None

    @property
    def fits(self) -> bool:
        """Return True if the stage fits with the margin."""
        return fits(self.memory.peak, self.limit)

    @property
    def tokens(self) -> int:
        """Return the number of tokens that the model reads in all steps."""
        config = self.planned.config
        return config.steps * config.texts * config.sequence_length

    def as_json(self) -> dict[str, Any]:
        """Return JSON data, in bytes and seconds."""
        return {
            "stage": self.planned.step.name,
            "peak_bytes": self.memory.peak,
            "moment": self.memory.moment,
            "parts": dict(self.memory.parts),
            "moments": {name: dict(parts) for name, parts in self.memory.moments.items()},
            "processes": self.planned.processes,
            "limit_bytes": self.limit,
            "fits": self.fits,
            "steps": self.planned.config.total_steps,
            "tokens": self.tokens,
            "rows": self.rows,
            "predicted_rows": self.predicted,
            "parameters": self.parameters,
            "flops_per_step": self.flops_per_step,
            "time": asdict(self.duration) if self.duration else None,
            "cost": self.cost,
            "assumptions": list(self.planned.assumptions),
        }


def plan_network(
    recipe: Recipe, step: Step, artifacts: Mapping[str, Artifact], place: Environment, *, fetch: bool
) -> PlannedNetwork | None:
    """Return the run of a hypernetwork stage.

    Args:
        recipe: Recipe of the run.
        step: Hypernetwork stage.
        artifacts: Finished results, by name of the stage.
        place: Environment of the run.
        fetch: True to download the architecture, if it is not local. Other references are fetched.

    Returns:
        None when the architecture is not at hand and may not be fetched.

    Raises:
        ReferenceUnavailable: The architecture, a tokenizer or a hypernetwork cannot be had.
    """
    assumptions = ["every text has all of its sequence_length tokens", "probes are not counted"]
    located: Any = step.located
    config: HypernetworkStageConfig = located
    model = planned_model(recipe, step.inputs["model"], artifacts, fetch, assumptions)
    if model is None:
        return None
    training = config.training.model_copy(update={"network": _network(config, recipe, step, artifacts)})
    if config.tokenizer is not None:
        vocabulary = tokens_of(config.tokenizer)
    elif config.dynamic is not None:
        vocabulary = model.architecture.get_text_config().vocab_size
    else:
        vocabulary = config.sampling.vocabulary
    if training.predicted is not None:
        assumptions.append("a batch has as many different tokens as Zipf's law gives it, and all get rows")
    if training.first_stage is not None:
        assumptions.append("the memory of the first stage is not counted")
    if config.dynamic is None:
        assumptions.append("tokens have two pieces on average, of which a quarter differ")
    else:
        assumptions.append("each merged token occurs ten times in a batch and has two pieces")
    if place.processes > 1:
        assumptions.append("communication between processes takes no time")
    dtype = resolve_precision(training.precision, place.hardware.bfloat16)
    return PlannedNetwork(
        step, training, model.architecture, vocabulary, dtype, place.processes, tuple(assumptions)
    )


def _network(
    config: HypernetworkStageConfig, recipe: Recipe, step: Step, artifacts: Mapping[str, Artifact]
) -> HypernetworkConfig:
    """Return the architecture of the network that a stage trains."""
    if KIND in step.inputs:
        name = step.inputs[KIND]
        if name in artifacts:
            return read_facts(artifacts[name].path(KIND)).hypernetwork
        maker: Any = recipe.step(name)
        return _network(maker.located, recipe, maker, artifacts)
    given = config.initial or (config.start if config.tokenizer is not None else None)
    return config.network if given is None else read_facts(resolve_hypernetwork(given)).hypernetwork


def network_memory(planned: PlannedNetwork, device: Device) -> Memory:
    """Predict the peak memory of a process of a planned hypernetwork stage."""
    return _memory(_simulate(planned, device), device)


def _simulate(planned: PlannedNetwork, device: Device) -> NetworkSimulation:
    import torch

    from cpt.estimate.simulate_hypernetwork import simulate_network

    config, architecture = planned.config, planned.architecture
    lengths, rows = assumed_lengths(config, planned.vocabulary)
    stored = getattr(architecture.get_text_config(), "dtype", None) or torch.float32
    return simulate_network(
        architecture, config, lengths, rows, planned.dtype, stored, device.hardware, planned.processes
    )


def _memory(simulation: NetworkSimulation, device: Device) -> Memory:
    return Memory(moments_of(simulation.timeline, simulation.process_bytes, device))


def estimate_network(planned: PlannedNetwork, request: EstimateRequest) -> NetworkEstimate:
    """Predict memory, time and cost of a planned hypernetwork stage.

    The time is that of its matrix products (`step_flops`): on a GPU at a typical share of its peak, and on
    this machine at the rate that products reach here, which is a lower bound.
    """
    import torch

    config, architecture, device = planned.config, planned.architecture, request.device
    lengths, rows = assumed_lengths(config, planned.vocabulary)
    simulation = _simulate(planned, device)
    memory = _memory(simulation, device)
    tokens = config.texts * config.sequence_length
    read = ReadTokens(tokens, tokens - config.texts, config.sequence_length)
    counts = assumed_counts(config, planned.vocabulary, simulation.source)
    flops = step_flops(config, simulation.widths, architecture, simulation.body, counts, read)
    first = first_stage_flops(config, simulation.widths, simulation.source)
    rate, basis = 0.0, ""
    if request.calibrate:
        rate = product_flops(planned.dtype, torch.device("cuda" if device.is_gpu else "cpu"))
        basis = f"matrix products alone at {rate / 1e12:,.2f} TFLOP/s, as measured here, so at least that"
    elif peak := device.peak(planned.dtype):
        rate = peak * TYPICAL_UTILISATION * planned.processes
        basis = f"{TYPICAL_UTILISATION:.0%} of {peak / 1e12:,.0f} TFLOP/s ({device.source})"
    duration = None
    if rate:
        seconds = (config.steps * flops + config.warm_steps * first) / rate
        duration = Duration(seconds, tokens * rate / flops, basis)
    cost = None
    if duration is not None and request.price is not None:
        cost = duration.cost(request.count, request.price)
    return NetworkEstimate(
        planned, memory, request.limit, rows, len(lengths), simulation.network, flops, duration, cost
    )
