"""Put configurations, settings and changes into words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cpt.formatting import signed
from cpt.report.schema import Interval
from cpt.sweep.factors import Values


def in_words(values: Values, factors: Sequence[str]) -> str:
    """Return a configuration in words: "peak 1e-4, replay 0.05"."""
    return ", ".join(f"{key.rpartition('.')[2]} {value_in_words(values[key])}" for key in factors)


def value_in_words(value: Any) -> str:
    """Return a setting as a recipe writes it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def with_range(found: Interval) -> str:
    """Return a change with its interval, if it has one: "+0.0500 (+0.0400 to +0.0600)"."""
    if found.low is None or found.high is None:
        return signed(found.value, 4)
    return f"{signed(found.value, 4)} ({signed(found.low, 4)} to {signed(found.high, 4)})"


def summary_line(values: Mapping[str, float], measures: Sequence[str]) -> str:
    """Return the first changes of a run in words: "domain +0.1200, general +0.0030"."""
    return ", ".join(f"{name} {signed(values[name], 4)}" for name in measures if name in values)
