"""Format figures for people: for report pages, charts and the command line."""

from __future__ import annotations

import math

Z_95 = 1.96
"""Standard errors on each side of a 95% interval."""

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def fixed(value: float | None, digits: int = 3) -> str:
    """Format a figure with a fixed number of decimals: 0.79 → "0.790"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        return text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Format a difference with its sign: 0.0123 → "+0.012", 0.0001 → "0.000"."""
    text = fixed(value, digits)
    if value is None or text == NOTHING or text.startswith(MINUS) or not text.strip("0.,"):
        return text
    return f"+{text}"


def margin(error: float | None, digits: int = 3, scale: float = 1.0) -> str:
    """Format half of a 95% interval, from a standard error: 0.01 → "± 0.020"; "" for an unknown error."""
    return "" if error is None or not math.isfinite(error) else f"± {fixed(Z_95 * scale * error, digits)}"


def typeset(limit: str) -> str:
    """Write a limit with typographic signs: "general <= +0.02" → "general ≤ +0.02"."""
    return limit.replace("<=", "\N{LESS-THAN OR EQUAL TO}").replace(">=", "\N{GREATER-THAN OR EQUAL TO}")


def count(value: float | None) -> str:
    """Format a whole number with thousands separated: 122880 → "122,880"."""
    return fixed(value, 0)


def compact(value: float) -> str:
    """Format a count in at most three digits: 122880 → "123k", 1200000 → "1.2M"."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.{0 if abs(scaled) >= 99.5 else 1}f}".removesuffix(".0") + unit
    return f"{value:.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share of 1 as a percentage: 0.4125 → "41.2%"."""
    return NOTHING if share is None else f"{fixed(100 * share, digits)}%"


def points(difference: float | None) -> str:
    """Format a difference of two shares in percentage points: 0.105 → "+10.5"."""
    return NOTHING if difference is None else signed(100 * difference, 1)


def duration_in_words(seconds: float | None) -> str:
    """Format seconds in their two largest units, for sentences: 372 → "6 min 12 s"."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def small(value: float | None) -> str:
    """Format a probability in two digits, however small: 0.0000051 → "5.1e-6"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if abs(value) >= 1e-3 or value == 0.0:
        return f"{value:.2g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def rate(value: float) -> str:
    """Format a learning rate as a recipe writes it: 0.0003 → "3e-4"."""
    if value == 0.0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)


def change(before: float, difference: float) -> str:
    """Format a difference relative to the base: (1.10, -0.30) → "27%"; one decimal below ten percent."""
    share = abs(difference / before) if before else 0.0
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"


def duration(seconds: float) -> str:
    """Format seconds as a clock, for tables and logs: `0.4 s`, `41 s`, `2:05`, `1:02:05`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(bytes_: int) -> str:
    """Format a number of bytes in decimal units: `512 B`, `1.4 kB`, `538 MB`."""
    value, unit = float(bytes_), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def number(value: float) -> str:
    """Format a measured value in about four significant digits; tiny values in powers of ten."""
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
    """Format a metric of a progress update: `loss 2.310`, `610 tokens/s`, `domain 0.912`."""
    if name in _RATES:
        return f"{number(value)} {_RATES[name]}"
    return f"{name.replace('_', ' ')} {number(value)}"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 stage`, `3 stages`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
