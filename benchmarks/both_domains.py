"""A search's `domain` where there are two: the smaller of both parents' gains, as shares of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DOMAINS = ("medical", "legal")


@dataclass(frozen=True)
class Shares:
    """Readings of both domains as one figure: the smaller gain, each as a share of its parent's."""

    readings: Mapping[str, Any]
    parents: Mapping[str, float]

    @property
    def count(self) -> int:
        """Number of documents of the smaller text."""
        return min(items.count for items in self.readings.values())

    def rise_over(self, before: Shares) -> tuple[float, float]:
        """Less is better: -1 is the whole gain of both parents."""
        changes = [
            tuple(figure / self.parents[name] for figure in items.rise_over(before.readings[name]))
            for name, items in self.readings.items()
        ]
        value, error = max(changes)
        return value, error

    def as_json(self) -> dict[str, Any]:
        readings = {name: items.as_json() for name, items in self.readings.items()}
        return {"readings": readings, "parents": dict(self.parents)}


class BothDomains:
    """An evaluation whose `domain` is the smaller share of both parents' gains."""

    def __init__(self, measured: Any, gains: Mapping[str, float]) -> None:
        self._measured, self._gains = measured, gains
        self.key = {**measured.key, "gains": dict(gains)}

    def base(self) -> dict[str, Any]:
        return self._with_shares(self._measured.base())

    def merged(self, plan: Any) -> dict[str, Any]:
        return self._with_shares(self._measured.merged(plan))

    def restore(self, data: Mapping[str, Any]) -> Any:
        if "parents" not in data:
            return self._measured.restore(data)
        readings = {name: self._measured.restore(each) for name, each in data["readings"].items()}
        return Shares(readings, data["parents"])

    def _with_shares(self, readings: dict[str, Any]) -> dict[str, Any]:
        return {**readings, "domain": Shares({name: readings[name] for name in DOMAINS}, self._gains)}
