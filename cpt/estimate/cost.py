"""Time and money: floating-point operations over the rate at which they are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpt.estimate.device import TYPICAL_UTILISATION, Device
from cpt.estimate.job import Job, mean_context
from cpt.estimate.rehearsal import Weights


@dataclass(frozen=True)
class Duration:
    """How long a run takes, and by what it was reckoned."""

    seconds: float
    tokens_per_second: float
    basis: str

    def cost(self, devices: int, price: float) -> float:
        """Price of the run at `price` per device and hour."""
        return self.seconds / 3600 * devices * price


def flops_per_token(job: Job, weights: Weights) -> float:
    """4N + 2M + 12·L·d·T: of N weights that multiply and M of them that train, over L layers of width d.

    Gradient checkpointing does the forward pass, 2N + 4·L·d·T, once more.

    With everything trained it is 6N + 12·L·d·T (PaLM, arXiv 2204.02311, appendix B), where T is the number of
    tokens in the document of an average token: attention stays within documents.
    """
    config: Any = job.architecture.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    forward = 2 * weights.multiplied + 4 * weights.layers * width * mean_context(job.sequences)
    backward = 2 * forward - 2 * weights.multiplied + 2 * min(weights.trained, weights.multiplied)
    return (1 + job.settings.gradient_checkpointing) * forward + backward


def by_peak(job: Job, weights: Weights, device: Device) -> Duration:
    """Time on GPUs at a typical share of their peak."""
    rate = device.flops * TYPICAL_UTILISATION * job.processes / flops_per_token(job, weights)
    basis = f"{TYPICAL_UTILISATION:.0%} of {device.flops / 1e12:,.0f} TFLOP/s ({device.source})"
    return Duration(job.settings.tokens / rate, rate, basis)
