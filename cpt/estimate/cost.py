"""Time and money: floating-point operations over the rate at which they are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpt.estimate.device import TYPICAL_UTILISATION, Device
from cpt.estimate.job import Job, mean_context
from cpt.estimate.rehearsal import Weights


@dataclass(frozen=True)
class Duration:
    """How long a run takes, and by what it was reckoned.

    Attributes:
        seconds: of all steps and probes.
        tokens_per_second: in the steps.
        probe_seconds: of the probes.
    """

    seconds: float
    tokens_per_second: float
    basis: str
    probe_seconds: float = 0.0

    def cost(self, devices: int, price: float) -> float:
        """Price of the run at `price` per device and hour."""
        return self.seconds / 3600 * devices * price


def flops_per_token(job: Job, weights: Weights) -> float:
    """4N + 2M + 12·L·d·T: of N weights that multiply and M of them that train, over L layers of width d.

    Gradient checkpointing does the forward pass, 2N + 4·L·d·T, once more; so does a model that an objective
    compares with, on the tokens that it reads, too.

    With everything trained it is 6N + 12·L·d·T (PaLM, arXiv 2204.02311, appendix B), where T is the number of
    tokens in the document of an average token: attention stays within documents.
    """
    forward = forward_flops_per_token(job, weights)
    backward = 2 * forward - 2 * weights.multiplied + 2 * min(weights.trained, weights.multiplied)
    reference = job.settings.objective.reference_share(job.replay_rows / len(job.sequences))
    return (1 + job.settings.gradient_checkpointing + reference) * forward + backward


def forward_flops_per_token(job: Job, weights: Weights) -> float:
    """2N + 4·L·d·T: the share of `flops_per_token` that reading, without learning, takes."""
    config: Any = job.architecture.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 2 * weights.multiplied + 4 * weights.layers * width * mean_context(job.sequences)


def by_peak(job: Job, weights: Weights, device: Device) -> Duration:
    """Time on GPUs at a typical share of their peak."""
    peak = device.peak(job.settings.dtype)
    flops = peak * TYPICAL_UTILISATION
    rate = flops * job.processes / flops_per_token(job, weights)
    probing = (
        job.probe_tokens * forward_flops_per_token(job, weights) / flops
    )  # every process reads all of it
    basis = f"{TYPICAL_UTILISATION:.0%} of {peak / 1e12:,.0f} TFLOP/s ({device.source})"
    return Duration(job.settings.tokens / rate + probing, rate, basis, probing)
