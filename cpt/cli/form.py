"""Numbers as people read them: durations, sizes, counts, measured values."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `2:05`, `1:02:05`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(bytes_: int) -> str:
    """`512 B`, `1.4 kB`, `538 MB`: decimal units."""
    value, unit = float(bytes_), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def number(value: float) -> str:
    """Four figures that matter; thousands separated; tiny values in powers of ten."""
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3f}"


_RATES = {"tokens_per_second": "tokens/s"}


def fact(name: str, value: float) -> str:
    """A progress fact: `loss 2.310`, `610 tokens/s`, `domain 0.912`."""
    if name in _RATES:
        return f"{number(value)} {_RATES[name]}"
    return f"{name.replace('_', ' ')} {number(value)}"


def plural(count: int, noun: str) -> str:
    """`1 stage`, `3 stages`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
