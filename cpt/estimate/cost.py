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

    With everything trained it is 6N + 12·L·d·T (PaLM, arXiv 2204.02311, appendix B), where T is the number of
    tokens in the document of an average token: attention stays within documents.
    """
    config: Any = job.architecture.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    attention = 12 * config.num_hidden_layers * width * mean_context(job.sequences)
    return 4 * weights.multiplied + 2 * min(weights.trained, weights.multiplied) + attention


def by_peak(job: Job, weights: Weights, device: Device) -> Duration:
    """Time on GPUs at a typical share of their peak."""
    rate = device.flops * TYPICAL_UTILISATION * job.processes / flops_per_token(job, weights)
    basis = f"{TYPICAL_UTILISATION:.0%} of {device.flops / 1e12:,.0f} TFLOP/s ({device.source})"
    return Duration(job.tokens / rate, rate, basis)
