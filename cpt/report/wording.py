"""Numbers and findings in words: how figures are written, and what the run's verdict is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cpt.report.schema import Interval, Probe

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a fixed number of decimals: 0.79 → "0.790"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        return text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign: 0.0123 → "+0.012", 0.0001 → "0.000"."""
    text = number(value, digits)
    if value is None or text == NOTHING or text.startswith(MINUS) or not text.strip("0.,"):
        return text
    return f"+{text}"


def count(value: float | None) -> str:
    """A whole number with thousands separated: 122880 → "122,880"."""
    return number(value, 0)


def compact(value: float) -> str:
    """A count in three figures at most: 122880 → "123k", 1200000 → "1.2M"."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.{0 if abs(scaled) >= 99.5 else 1}f}".removesuffix(".0") + unit
    return f"{value:.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage: 0.4125 → "41.2%"."""
    return NOTHING if share is None else f"{number(100 * share, digits)}%"


def points(difference: float | None) -> str:
    """A difference of two shares in percentage points: 0.105 → "+10.5"."""
    return NOTHING if difference is None else signed(100 * difference, 1)


def duration(seconds: float | None) -> str:
    """A time in its two largest units: 372 → "6 min 12 s"."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def rate(value: float) -> str:
    """A learning rate as one writes it in a recipe: 0.0003 → "3e-4"."""
    if value == 0.0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", MINUS)


def change(before: float, difference: float) -> str:
    """How much of the base's figure a difference is: (1.10, -0.30) → "27%", below ten with one decimal."""
    share = abs(difference / before) if before else 0.0
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"


def judgement(difference: Interval, *, lower_is_better: bool) -> str:
    """ "better", "worse" or "no change"; "" where nothing is known of the noise."""
    if not difference.known:
        return ""
    if difference.is_noise:
        return "no change"
    return "better" if (difference.value < 0) == lower_is_better else "worse"


def verdict(probes: Mapping[str, Probe]) -> str:
    """The run in one sentence; a change whose interval includes zero is no change."""
    clauses = [clause(name, probe) for name, probe in probes.items() if name in ("domain", "general")]
    spoken = [text for text in clauses if text]
    if not spoken:
        return "Nothing was measured on held-out text."
    sentence = "; ".join(spoken)
    return f"{sentence[0].upper()}{sentence[1:]}."


def clause(name: str, probe: Probe) -> str:
    """What happened on one kind of text, without a full stop; "" if it was not measured."""
    if probe.difference is None or not probe.before:
        return ""
    difference = probe.difference.value
    if probe.difference.is_noise or float(f"{difference:.3f}") == 0.0:
        return f"{name} text unchanged ({signed(difference)})"
    size = change(probe.before, difference)
    if name == "domain":
        return f"{size} {'fewer' if difference < 0 else 'more'} bits per byte on domain text"
    return f"{name} text {size} {'better' if difference < 0 else 'worse'} ({signed(difference)})"


def basis(probes: Mapping[str, Probe], confidence: float, *, merged: bool) -> str:
    """What the verdict rests on; `merged` tells that the final model is not the trained one."""
    measured = {probe.measured_by for probe in probes.values() if probe.difference is not None}
    if not measured:
        return "This recipe has neither an evaluate stage nor training probes."
    if "evaluate" in measured:
        return (
            "Base model against final model on held-out text; a change counts only if its "
            f"{confidence:.0%} confidence interval excludes zero."
        )
    unmeasured = " The merged model itself was not measured." if merged else ""
    return (
        "First against last reading of the training probes. Without an evaluate stage no confidence "
        f"interval of the change is known.{unmeasured}"
    )


def has_gap(probe: Probe) -> bool:
    """Whether the curve rose above the base level by as much as is written."""
    return probe.depth is not None and float(f"{probe.depth:.3f}") > 0.0


def gap_finding(name: str, probe: Probe) -> str:
    """What the training curve of one probe shows, in plain language."""
    subject = f"{name.capitalize()} text"
    if probe.depth is None:
        return f"{subject} was not followed during training."
    if not has_gap(probe):
        return f"{subject} never got worse than the base model during training: there is no gap."
    finding = f"{subject} first got worse: by {number(probe.depth)} bits per byte at its worst"
    if probe.trough_step is not None:
        finding += f", at step {count(probe.trough_step)}"
    if probe.area and probe.curve and probe.curve[-1].tokens:
        finding += f", and by {number(probe.area / probe.curve[-1].tokens)} on average over the training"
    if probe.recovery_step is not None:
        return f"{finding}. It was back at the base level by step {count(probe.recovery_step)}."
    left = probe.training.permanent if probe.training else None
    return f"{finding}. It was not back at the base level when training ended ({signed(left)})."
