"""Bits per byte of a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from cpt.models.bits_per_byte import TokenisedText, score
from cpt.monitor.probe_work import FORWARD
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When


@dataclass(frozen=True)
class TextProbe:
    """Bits per byte; an item is a document.

    Attributes:
        text: Documents, in an order of which every prefix is a fair sample.
        sample: Fingerprint of the documents, if needed.
    """

    name: str
    text: TokenisedText
    when: When
    sample: str | None = None

    kind: ClassVar[Kind] = "text"
    unit: ClassVar[Unit] = "bits per byte"
    divisible: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    @property
    def work(self) -> float:
        """Return the work of a forward pass over all documents."""
        return FORWARD * self.text.tokens

    @property
    def items(self) -> int:
        """Return the number of documents."""
        return len(self.text.bytes)

    def read(self, view: ModelView, share: float) -> Items:
        """Return bits and bytes of every document."""
        text = self.text.first(part(len(self.text.bytes), share))
        scores = score(view.module, text, readers=view.module.readers)
        return Items(scores.nats / math.log(2), scores.bytes.astype(float))
