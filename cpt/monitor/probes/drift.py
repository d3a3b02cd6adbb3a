"""Drift: the divergence of a model's distribution of texts from that of the starting model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cpt.models.bits_per_byte import TokenisedText, score
from cpt.monitor.probe_work import FORWARD
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When


@dataclass(frozen=True)
class DriftProbe:
    """KL(start || now) in nats per token, by Monte Carlo: E of ln p_start - ln p_now over x ~ p_start.

    The probe reads the cross entropy of samples; its rise since the first reading is the estimate: exactly 0
    at the start, unbiased later, and possibly negative by chance.

    Attributes:
        samples: Texts that the starting model drew at temperature 1, each with the token before it.
    """

    samples: TokenisedText
    when: When
    name: str = "drift"

    kind: ClassVar[Kind] = "drift"
    unit: ClassVar[Unit] = "nats per token"
    divisible: ClassVar[bool] = True
    relative: ClassVar[bool] = True

    @property
    def work(self) -> float:
        """Return the work of a forward pass over all samples."""
        return FORWARD * self.samples.tokens

    @property
    def items(self) -> int:
        """Return the number of samples."""
        return len(self.samples.bytes)

    def read(self, view: ModelView, share: float) -> Items:
        """Return nats and tokens of every sample."""
        samples = self.samples.first(part(len(self.samples.bytes), share))
        scores = score(view.module, samples, readers=view.module.readers)
        return Items(scores.nats, scores.bytes.astype(float))


def as_text(samples: Sequence[Sequence[int]], start: int) -> TokenisedText:
    """Return samples as texts whose sizes are counted in tokens.

    Args:
        samples: Token ids of each sample.
        start: Token that precedes each of them.
    """
    windows = [np.asarray([start, *each], dtype=np.int64) for each in samples]
    count = len(windows)
    sizes = np.asarray([len(each) for each in samples])
    return TokenisedText(windows, np.ones(count, dtype=np.int64), np.arange(count), sizes)
